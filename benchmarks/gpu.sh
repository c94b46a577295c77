#!/usr/bin/env bash
# Everything that wants a GPU, in ten minutes: tests, a small training and evaluation, benchmarks.
#
#   benchmarks/gpu.sh [OUT] [DEVICE]     results go to OUT (gpu-results), DEVICE is cuda where there is one, else cpu
#
# Each part has a time limit, and a part that fails does not end the others: the last lines say how each one ended.
# On the CPU sizes are tiny, to show that the script works. QUICK=1 takes the tiny sizes on a GPU, too.
# PARTS="tests demo search" runs those parts alone.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(mkdir -p "${1:-gpu-results}" && cd "${1:-gpu-results}" && pwd)
python=${PYTHON:-python3}
[[ -z ${PYTHON:-} && -x .venv/bin/python ]] && python=.venv/bin/python
device=${2:-$("$python" -c 'import torch; print("cuda" if torch.cuda.is_available() else "cpu")')}
parts=${PARTS:-versions tests demo search forward train}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" EXTRACTER_TEST_DEVICE=$device PYTHONUNBUFFERED=1
summary=$out/summary.txt
: > "$summary"

# part NAME SECONDS COMMAND...: run it with its limit, keep what it prints, note how it ended.
part() {
  local name=$1 limit=$2 begin=$SECONDS code
  shift 2
  [[ " $parts " == *" $name "* ]] || return 0
  echo "== $name"
  timeout --kill-after=10 "$limit" "$@" 2>&1 | tee "$out/$name.log" | tail -n 60
  code=${PIPESTATUS[0]}
  case $code in 0) code=ok ;; 124 | 137) code="stopped after $limit s" ;; *) code="failed with $code" ;; esac
  echo "$name: $code, $((SECONDS - begin)) s" | tee -a "$summary"
}

tests() {
  "$python" -m pytest -q -p no:cacheprovider \
    tests/unit/search/test_batched.py tests/unit/models/test_precision.py tests/unit/test_device.py \
    tests/unit/training/test_train.py tests/unit/evaluation/test_evaluate.py \
    tests/unit/evaluation/test_kernel_sweep.py tests/unit/inference/tiling/test_engine.py
}

part versions 60 "$python" benchmarks/gpu.py versions --device "$device"
export -f tests
export python
part tests 170 bash -c tests
part demo 120 "$python" benchmarks/gpu.py demo --device "$device" --out "$out"
part search 120 "$python" benchmarks/gpu.py search --device "$device" --out "$out"
part forward 60 "$python" benchmarks/gpu.py forward --device "$device" --out "$out"
part train 150 "$python" benchmarks/gpu.py train --device "$device" --out "$out"

echo "== summary"
cat "$summary"
! grep -qv ': ok' "$summary"
