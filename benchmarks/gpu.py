"""The parts of `gpu.sh`: cells of `extracter bench` in one process, so that ten minutes hold many, and a small run.

`python benchmarks/gpu.py PART --device cuda --out FOLDER`; PART is versions, demo, search, forward or train.
"""

import argparse
import importlib.util
import io
import itertools
import json
import os
import sys
import time
import traceback
from contextlib import redirect_stdout
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
NEEDED = (
    "numpy",
    "PIL",
    "pydantic",
    "typer",
    "lightning_fabric",
    "huggingface_hub",
    "safetensors",
    "skimage",
    "rich",
    "yaml",
)
# Seconds: a cell that would take longer, by its arithmetic, is left out.
LONGEST = 4.0


def report_versions(device: str) -> None:
    """Print the card, the versions, and what is missing."""
    print(f"Python {sys.version.split()[0]}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}")
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(0)
        print(f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, {torch.cuda.device_count()} of them")
    missing = [name for name in (*NEEDED, "pytest", "hypothesis", "numba") if importlib.util.find_spec(name) is None]
    print("missing:", ", ".join(missing) or "nothing")


def measure(jobs: list[dict], run, out: Path, seconds: float) -> None:
    """Run jobs one after the other; a line of JSON for each, also for those that fail or are out of time."""
    deadline = time.monotonic() + seconds
    with out.open("w") as file:
        for job in jobs:
            name = {key: job[key] for key in ("part", "size", "kernel", "method", "precision", "setting") if key in job}
            if time.monotonic() > deadline:
                found = {"result": "out of time"}
            else:
                found = measure_one(job, run)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            line = json.dumps({**name, **found})
            print(line, flush=True)
            file.write(line + "\n")
            file.flush()


def measure_one(job: dict, run) -> dict:
    """What a job says last, without its progress."""
    from extracter.memory import is_allocation_failure

    said = io.StringIO()
    try:
        with redirect_stdout(said):
            run(job)
    except Exception as error:
        if is_allocation_failure(error):
            return {"result": "out of memory"}
        traceback.print_exc()
        return {"result": f"failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    found = json.loads(said.getvalue().strip().splitlines()[-1])
    found.pop("fits", None)
    return {"result": "measured"} | {k: round(v, 5) if isinstance(v, float) else v for k, v in found.items()}


def cells(part: str, device: str, tiny: bool) -> list[dict]:
    """Jobs of `bench_worker`, the small ones first."""
    from extracter.benchmarks.bench_worker import arithmetic

    sizes = (64, 96) if tiny else (160, 320, 512, 1024, 2048)
    kernels = (6,) if part == "forward" else (3, 6, 12)
    methods = ("blocks",) if part == "forward" else ("blocks", "chunked", "dense")
    precisions = ("32-true", "bf16-mixed") if part == "forward" else ("32-true",)
    jobs = []
    for size, kernel, method, precision in itertools.product(sizes, kernels, methods, precisions):
        job = {
            "part": part, "size": size, "kernel": kernel, "method": method, "strategy": "two_stage",
            "precision": precision, "compile": False, "transfer": False, "repeats": 3, "limit": LONGEST,
            "budget_gib": None, "memory": None, "device": device,
        }  # fmt: skip
        if arithmetic(job) < LONGEST * (20_000 if device.startswith("cuda") else 50):
            jobs.append(job)
    return jobs


def make_pairs(folder: Path, size: int, count: int) -> Path:
    """Prepared pairs of noise: a benchmark needs their shape alone."""
    import csv

    import numpy as np

    from extracter.data import manifest
    from extracter.data.pair_arrays import ARRAYS, COLUMNS, PREFIXES

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for prefix, name in itertools.product(PREFIXES.values(), ARRAYS):
        np.save(folder / f"{prefix}{name}.npy", rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8))
    with (folder / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([i, f"{split}{i}", "", split, "warped", ""] for split in PREFIXES for i in range(count))
    files = [manifest.describe(folder, path.name) for path in sorted(folder.iterdir())]
    manifest.write(folder, "train", "demo", stand_in=True, files=files)
    return folder


def train(device: str, out: Path, tiny: bool) -> None:
    """Steps of the paper's configuration in four settings, with the reconstruction loss and with all losses."""
    from extracter import params
    from extracter.benchmarks.bench_train import NAMES, run

    preset = params.read(ROOT / "params.yaml").presets["demo" if tiny else "paper"]
    # Weights of VGG19 from the network would be a download; random ones take as long.
    preset = preset.model_copy(update={"model": preset.model.model_copy(update={"vgg_weights": "random"})})
    pairs = make_pairs(out / "pairs", preset.data.train.size, 2 * preset.train.batch)
    blocks = params.dump_blocks(preset, *NAMES)
    steps = 2 if tiny else 10
    settings = ("reference", "mixed") if tiny else ("reference", "float32", "mixed", "fastest")
    jobs = [
        {"pairs": str(pairs), "blocks": blocks, "full": full, "steps": steps, "device": device, "setting": setting}
        for full in (False, True)
        for setting in settings
    ]
    measure([{**job, "part": "full" if job["full"] else "rec"} for job in jobs], run, out / "train.jsonl", 130)


def demo(device: str, out: Path, tiny: bool) -> None:
    """The demo preset's steps: data, both phases of training, evaluation, a kernel, an enlarged photograph."""
    import subprocess

    import yaml

    folder = out / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    parameters = folder / "params.yaml"
    parameters.write_text(yaml.safe_dump(_demo_params(tiny)))
    data, common = folder / "data", ["--params", str(parameters)]
    steps = [["download", name, "--out", f"{data}/raw/{name}"] for name in ("train", "set14")]
    steps += [
        ["prepare", name, "--raw", f"{data}/raw/{name}", "--out", f"{data}/{name}"] for name in ("train", "set14")
    ]
    model, test = ["--pairs", f"{data}/train", "--device", device], ["--images", f"{data}/set14", "--device", device]
    rec, full = folder / "extracter-rec", folder / "extracter"
    steps += [
        ["train-rec", "extracter", *model, "--out", str(rec), "--state", f"{rec}.state"],
        ["train-full", "extracter", *model, "--start", str(rec), "--out", str(full), "--state", f"{full}.state"],
        ["evaluate", "extracter-rec", *test, "--checkpoint", str(rec), *_evaluated(folder, "extracter-rec")],
        ["evaluate", "released", *test, "--checkpoint", str(_released()), *_evaluated(folder, "released")],
    ]
    steps += [
        ["kernel-sweep", *test, "--checkpoint", str(rec), "--kernel", "6", "--method", method,
         "--out", f"{folder}/{method}.json"]
        for method in ("dense", "blocks")
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    for step in steps:
        begin = time.monotonic()
        command = [sys.executable, "-m", "extracter", *step, *common]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        print(f"{' '.join(step[:2])}: {'ok' if done.returncode == 0 else 'failed'}, {time.monotonic() - begin:.1f} s")
        if done.returncode:
            sys.exit(done.stderr[-2000:])
    for path in sorted(folder.glob("*.json")):
        print(path.name, " ".join(path.read_text().split()))


def _demo_params(tiny: bool) -> dict:
    from extracter import params

    config = params.read(ROOT / "params.yaml").model_dump(mode="json")
    preset = config["presets"]["demo"]
    preset["evaluation"]["memory_budget_gib"] = 8.0 if torch.cuda.is_available() else 1.0
    if tiny:
        preset["train"] |= {"rec_steps": 2, "full_steps": 2, "validate_every": 2, "checkpoint_every": 2}
        preset["data"]["train"] |= {"pairs": 8, "validation": 2}
        preset["evaluation"]["every"] = 4
    return {"preset": "demo", "presets": {"demo": preset}}


def _evaluated(folder: Path, variant: str) -> list[str]:
    names = {"--out": f"{variant}.csv", "--summary": f"{variant}.json", "--sr": variant + "-sr"}
    return [word for option, name in names.items() for word in (option, str(folder / name))]


def _released() -> Path:
    return ROOT / "extracter/released/extracter-rec"


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("versions", "demo", "search", "forward", "train"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("gpu-results"))
    arguments = parser.parse_args()
    device = "cuda:0" if arguments.device == "cuda" else arguments.device
    tiny = device == "cpu" or bool(os.environ.get("QUICK"))
    if arguments.part == "versions":
        report_versions(device)
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.part in ("search", "forward"):
        from extracter.benchmarks.bench_worker import run

        measure(
            cells(arguments.part, device, tiny), run, arguments.out / f"{arguments.part}.jsonl",
            110 if arguments.part == "search" else 50,
        )  # fmt: skip
    else:
        {"train": train, "demo": demo}[arguments.part](device, arguments.out, tiny)


if __name__ == "__main__":
    main()
