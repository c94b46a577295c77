"""The training loop: resumed equals uninterrupted, the best weights are kept, nothing half-written."""

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from devices import DEVICE
from safetensors.torch import load_file

from extracter import params, projection
from extracter.data import manifest, pair_arrays
from extracter.errors import UserError
from extracter.files import sha256
from extracter.presets import Preset
from extracter.training import train

NAMES = ("seed", "model", "search", "loss", "train")

# What a training reads of its machine; results do not depend on it.
MACHINE = ("train.checkpoint_every", "train.devices", "train.nodes")


def run(
    preset: Preset,
    pairs: Path,
    out: Path,
    family: str = "extracter",
    start: Path | None = None,
    phase: str | None = None,
) -> None:
    """Train; with a start all losses, unless told otherwise."""
    blocks = (getattr(preset, name, None) for name in NAMES)
    phase = phase or ("full" if start else "rec")
    train.train(family, pairs, out, out.with_suffix(".state"), *blocks, phase=phase, start=start, device=DEVICE)


def with_train(preset: Preset, **changes) -> Preset:
    return preset.model_copy(update={"train": preset.train.model_copy(update=changes)})


def same_weights(a: Path, b: Path) -> bool:
    return (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def rec(tiny_preset, tiny_pairs, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("models") / "extracter-rec"
    run(tiny_preset, tiny_pairs, out)
    return out


def test_rec_then_full_for_both_networks(tiny_preset, tiny_pairs, rec, tmp_path):
    run(tiny_preset, tiny_pairs, tmp_path / "ttsr-rec", "ttsr")
    for family, start in (("extracter", rec), ("ttsr", tmp_path / "ttsr-rec")):
        out = tmp_path / family
        run(tiny_preset, tiny_pairs, out, family, start)
        assert sorted(p.name for p in out.iterdir()) == [
            "config.json", "model.safetensors", "train_log.csv", "training.json",
        ]  # fmt: skip
        rows = list(csv.DictReader((out / "train_log.csv").open()))
        assert [row["step"] for row in rows] == ["2", "4"]
        own = {"extracter": "grad", "ttsr": "transferal"}[family]
        assert all(float(row[key]) for row in rows for key in ("loss", "rec", "perc", own, "adv", "critic"))
        assert not same_weights(out, start)


def test_rec_continues_from_another_models_weights(tiny_preset, tiny_pairs, rec, tmp_path):
    hardly = with_train(tiny_preset, lr=1.0e-9, dfe_lr=1.0e-9, ema=0.0)
    run(hardly, tiny_pairs, tmp_path / "near", start=rec, phase="rec")
    before, after = (load_file(folder / "model.safetensors") for folder in (rec, tmp_path / "near"))
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    training = json.loads((tmp_path / "near" / "training.json").read_text())
    assert training["phase"] == "rec"
    assert training["start_sha256"] == sha256(rec / "model.safetensors")


@pytest.mark.parametrize(
    ("file", "start"),
    [("params.yaml", "extracter/released/extracter-rec"), ("results/open/further.yaml", "results/open/first")],
)
def test_the_released_model_can_be_trained_further(file, start, tiny_pairs, tmp_path):
    """Its first training knew no bounds of trust, which weights do not depend on."""
    root = Path(__file__).parents[3]
    preset = params.read(root / file).presets["open"]
    once = with_train(preset, batch=1, rec_steps=1, lr=1.0e-9, dfe_lr=0.0, ema=0.0, precision="32-true")
    run(once, tiny_pairs, tmp_path / "further", start=root / start, phase="rec")
    before, after = (load_file(folder / "model.safetensors") for folder in (root / start, tmp_path / "further"))
    assert all(torch.allclose(before[name].float(), after[name], atol=1e-6) for name in before)
    model = json.loads((tmp_path / "further" / "training.json").read_text())["model"]
    assert model["trust"] == preset.model.trust


def test_log_of_rec_leaves_other_losses_empty_and_best_is_the_log_maximum(rec):
    rows = list(csv.DictReader((rec / "train_log.csv").open()))
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    assert all(row["perc"] == row["adv"] == "" for row in rows)
    training = json.loads((rec / "training.json").read_text())
    best = max(rows, key=lambda row: float(row["validation_psnr"]))
    assert training["best_step"] == int(best["step"])
    assert training["validation_psnr"] == float(best["validation_psnr"])


def test_same_seed_same_weights_other_seed_other_weights(tiny_preset, tiny_pairs, rec, tmp_path):
    run(tiny_preset, tiny_pairs, tmp_path / "again")
    assert same_weights(rec, tmp_path / "again")
    run(tiny_preset.model_copy(update={"seed": 1}), tiny_pairs, tmp_path / "other")
    assert not same_weights(rec, tmp_path / "other")


def test_both_phases_in_mixed_precision(tiny_preset, tiny_pairs, tmp_path):
    preset = with_train(tiny_preset, precision="bf16-mixed")
    run(preset, tiny_pairs, tmp_path / "extracter-rec")
    run(preset, tiny_pairs, tmp_path / "extracter", start=tmp_path / "extracter-rec")
    assert json.loads((tmp_path / "extracter/training.json").read_text())["phase"] == "full"


@pytest.mark.parametrize(
    ("phase", "changes"),
    [("rec", {}), ("full", {}), ("rec", {"ema": 0.9, "precision": "bf16-mixed", "clip": 1.0})],
)
def test_interrupted_and_resumed_equals_uninterrupted(
    tiny_preset, tiny_pairs, rec, tmp_path, monkeypatch, phase, changes
):
    start = None if phase == "rec" else rec
    preset = with_train(tiny_preset, checkpoint_every=1, **changes)
    run(preset, tiny_pairs, tmp_path / "whole", start=start)
    save, saved = train.save_state, []

    def save_and_die(*args):
        save(*args)
        saved.append(1)
        if len(saved) in (1, 3):
            raise RuntimeError("power cut")

    monkeypatch.setattr(train, "save_state", save_and_die)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="power cut"):
            run(preset, tiny_pairs, tmp_path / "cut", start=start)
    run(preset, tiny_pairs, tmp_path / "cut", start=start)
    assert same_weights(tmp_path / "whole", tmp_path / "cut")
    columns = train.LOG_COLUMNS
    logs = [list(csv.DictReader((tmp_path / name / "train_log.csv").open())) for name in ("whole", "cut")]
    assert [[r[c] for c in columns] for r in logs[0]] == [[r[c] for c in columns] for r in logs[1]]


@pytest.mark.parametrize("steps", [6, 2])
def test_a_signal_ends_a_validation_which_the_resumed_run_makes_up_for(
    tiny_preset, tiny_pairs, tmp_path, monkeypatch, steps
):
    """A validation may take longer than a cluster gives, also that of the last step."""
    preset = with_train(tiny_preset, rec_steps=steps, checkpoint_every=100)
    run(preset, tiny_pairs, tmp_path / "whole")
    measure = train.squared_error_y

    def interrupted(*images):
        signal.raise_signal(signal.SIGTERM)
        return measure(*images)

    monkeypatch.setattr(train, "squared_error_y", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(preset, tiny_pairs, tmp_path / "cut")
    monkeypatch.undo()
    run(preset, tiny_pairs, tmp_path / "cut")
    assert same_weights(tmp_path / "whole", tmp_path / "cut")
    logs = [(tmp_path / name / "train_log.csv").read_text() for name in ("whole", "cut")]
    assert logs[0] == logs[1]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_process_resumes_to_the_same_weights(tiny_preset, tiny_pairs, tmp_path, number):
    preset = with_train(tiny_preset, rec_steps=60, checkpoint_every=3, validate_every=30)
    blocks = params.dump_blocks(preset, *projection.train_keys("extracter", "rec"), *MACHINE)

    def start(out: Path) -> subprocess.Popen:
        command = [
            sys.executable,
            "-m",
            "extracter",
            "train-rec",
            "extracter",
            "--params",
            blocks,
            "--device",
            DEVICE,
        ]
        command += ["--pairs", tiny_pairs, "--out", out, "--state", out.with_suffix(".state")]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    assert start(tmp_path / "whole").wait() == 0
    cut = tmp_path / "cut"
    process = start(cut)
    deadline = time.monotonic() + 60
    while not cut.with_suffix(".state").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(number)
    _, stderr = process.communicate()
    assert process.returncode == (-9 if number == signal.SIGKILL else 130), stderr
    assert "Traceback" not in stderr
    assert not cut.exists() or not list(cut.iterdir())
    process = start(cut)
    _, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert "resuming after step" in stderr
    assert same_weights(tmp_path / "whole", cut)


def test_a_complete_training_only_writes_its_checkpoint_again(tiny_preset, tiny_pairs, tmp_path, monkeypatch, capsys):
    """As after Snakemake was killed, whose training ran on to its end: the checkpoint is removed, the state is left."""
    preset = with_train(tiny_preset, rec_steps=2)
    run(preset, tiny_pairs, tmp_path / "a")
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    for path in (tmp_path / "a").iterdir():
        path.unlink()
    monkeypatch.setattr(train.Learner, "step", lambda *_: pytest.fail("trained again"))
    changed = with_train(preset, checkpoint_every=7, full_steps=9, critic_lr=0.5)  # none of them the -rec phase's
    run(changed, tiny_pairs, tmp_path / "a")
    assert "complete" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before
    training = json.loads(before["training.json"])
    assert training["threads"] > 0
    assert "critic_lr" not in training["train"]


def test_the_command_needs_the_keys_of_its_phase_and_no_others(tiny_preset, tiny_pairs, tmp_path):
    for family, phase in (("ttsr", "rec"), ("ttsr", "full"), ("extracter", "rec"), ("extracter", "full")):
        keys = projection.train_keys(family, phase)
        blocks = params.load_keys(
            params.dump_blocks(with_train(tiny_preset, rec_steps=1, full_steps=1), *keys), None, *keys
        )
        blocks = blocks.model_copy(
            update={"train": blocks.train.model_copy(update={"checkpoint_every": 9, "devices": 1, "nodes": 1})}
        )
        start = tmp_path / f"{family}-rec" if phase == "full" else None
        run(blocks, tiny_pairs, tmp_path / f"{family}{'' if start else '-rec'}", family, start)


def test_a_second_training_of_the_same_network_waits_for_the_first(tmp_path):
    code = "import sys, time\nfrom extracter.files import alone\nwith alone(sys.argv[1]): "
    code += "print('in', flush=True); time.sleep(0.5)"
    command = [sys.executable, "-c", code, str(tmp_path / "state")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "in\n"
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"waiting for process {first.pid} on " in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_state_of_other_parameters_is_not_resumed(tiny_preset, tiny_pairs, rec, tmp_path, monkeypatch, capsys):
    def die(*args):
        save(*args)
        raise RuntimeError("power cut")

    save = train.save_state
    monkeypatch.setattr(train, "save_state", die)
    with pytest.raises(RuntimeError, match="power cut"):
        run(with_train(tiny_preset, lr=2.0e-4), tiny_pairs, tmp_path / "a")
    monkeypatch.setattr(train, "save_state", save)
    run(tiny_preset, tiny_pairs, tmp_path / "a")
    assert "training starts over" in capsys.readouterr().err
    assert same_weights(rec, tmp_path / "a")


def test_damaged_state_is_one_sentence(tiny_preset, tiny_pairs, tmp_path):
    for content in (b"PK\x03\x04 not a state", b"\x80\x04 neither", b"", b"text"):
        (tmp_path / "a.state").write_bytes(content)
        with pytest.raises(UserError, match=r"a\.state: damaged.* delete it to start over"):
            run(tiny_preset, tiny_pairs, tmp_path / "a")
    torch.save({"weights": torch.zeros(1)}, tmp_path / "a.state")
    with pytest.raises(UserError, match=r"a\.state: damaged, or no state of a training"):
        run(tiny_preset, tiny_pairs, tmp_path / "a")


def test_full_refuses_a_checkpoint_of_another_configuration(tiny_preset, tiny_pairs, rec, tmp_path):
    other = tiny_preset.model_copy(update={"model": tiny_preset.model.model_copy(update={"features": 12})})
    with pytest.raises(UserError, match="extracter-rec: trained with features 8, but 12 is wanted"):
        run(other, tiny_pairs, tmp_path / "full", start=rec)
    with pytest.raises(UserError, match="extracter-rec: trained with family extracter, but ttsr is wanted"):
        run(tiny_preset, tiny_pairs, tmp_path / "full", "ttsr", start=rec)


def test_loss_that_is_not_finite_stops_the_run(tiny_preset, tiny_pairs, tmp_path):
    beyond_float32 = tiny_preset.model_copy(update={"loss": tiny_preset.loss.model_copy(update={"rec": 1e39})})
    with pytest.raises(UserError, match="the loss is not finite at step 1"):
        run(beyond_float32, tiny_pairs, tmp_path / "a")


def test_weights_that_are_not_finite_are_never_the_best(tiny_preset, tiny_pairs, tmp_path):
    """The loss of a step is that before its update."""
    with pytest.raises(UserError, match=r"the network's output is not finite; lower `train.lr`"):
        run(with_train(tiny_preset, lr=math.inf, validate_every=1, rec_steps=1), tiny_pairs, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_flat_validation_pair_does_not_hide_the_others(tiny_preset, tiny_pairs, tmp_path):
    """The network starts at bicubic, which is exact on a flat image: its PSNR alone would be infinite."""
    folder = tmp_path / "pairs"
    shutil.copytree(tiny_pairs, folder)
    for name in pair_arrays.ARRAYS:
        path = folder / f"validation_{name}.npy"
        np.save(path, np.concatenate((np.zeros_like(np.load(path)), np.load(path))))
    with (folder / "pairs.csv").open("a", newline="") as file:
        csv.writer(file).writerow([1, "flat", "flat", "validation", "warped", ""])
    files = [manifest.describe(folder, p.name) for p in sorted(folder.iterdir()) if p.name != manifest.NAME]
    manifest.write(folder, "train", "demo", stand_in=True, files=files)
    run(with_train(tiny_preset, lr=1.0e-2), folder, tmp_path / "a")
    figures = [float(row["validation_psnr"]) for row in csv.DictReader((tmp_path / "a/train_log.csv").open())]
    assert all(10 < figure < 60 for figure in figures)
    training = json.loads((tmp_path / "a/training.json").read_text(), parse_constant=pytest.fail)
    assert training["validation_psnr"] == max(figures)


def test_dfe_at_rate_zero_keeps_its_weights(tiny_preset, tiny_pairs, tmp_path):
    run(with_train(tiny_preset, dfe_lr=0.0), tiny_pairs, tmp_path / "fixed")
    run(with_train(tiny_preset, dfe_lr=1.0e-3), tiny_pairs, tmp_path / "learned")
    fixed, learned = (load_file(tmp_path / name / "model.safetensors") for name in ("fixed", "learned"))
    key = "dfe.features.0.weight"
    assert not torch.equal(fixed[key], learned[key])
    run(with_train(tiny_preset, dfe_lr=0.0, rec_steps=2), tiny_pairs, tmp_path / "short")
    assert torch.equal(fixed[key], load_file(tmp_path / "short" / "model.safetensors")[key])


def test_full_disk_leaves_the_earlier_checkpoint(tiny_preset, tiny_pairs, rec, tmp_path, monkeypatch):
    run(tiny_preset, tiny_pairs, tmp_path / "model")
    before = {p.name: p.read_bytes() for p in (tmp_path / "model").iterdir()}
    write_bytes = Path.write_bytes

    def full(self, data):
        if self.suffix == ".safetensors":
            write_bytes(self, bytes(data)[:100])
            raise OSError(28, "No space left on device")
        return write_bytes(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"model\.safetensors: cannot be written \(No space left on device\)"):
        run(tiny_preset.model_copy(update={"seed": 5}), tiny_pairs, tmp_path / "model")
    after = {p.name: p.read_bytes() for p in (tmp_path / "model").iterdir()}
    assert after["model.safetensors"] == before["model.safetensors"]
    assert after["config.json"] == before["config.json"]
