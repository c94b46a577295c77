"""Two processes compute what one does with the whole batch; on the CPU, with gloo."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import one_step
import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file

from extracter import params, projection
from extracter.errors import UserError
from extracter.training import distributed

ONE_STEP = Path(one_step.__file__)


def environment() -> dict[str, str]:
    """Without a trace of other launchers."""
    names = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    return {key: value for key, value in os.environ.items() if key not in names} | {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def preset_file(tiny_preset, tmp_path):
    """A parameter file with the tiny preset and a batch of four."""
    preset = tiny_preset.model_dump(mode="json")
    preset["train"] |= {"batch": 4, "critic_steps": 1, "other_reference": 0.3, "turn_apart": 0.5}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({"preset": "demo", "presets": {"demo": preset}}))
    return path


def test_gradients_are_those_of_the_whole_batch(preset_file, tiny_pairs, tmp_path):
    """WGAN-GP; the relativistic critic, whose means are over the batch, and the norm of a whole batch."""
    words = [sys.executable, ONE_STEP, tmp_path / "two.pt", tiny_pairs, preset_file, "extracter", "c2"]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    fabric, preset = distributed.launch(torch.device("cpu"), 1, 1, "32-true"), params.read(preset_file).selected
    for family, two in torch.load(tmp_path / "two.pt", weights_only=True).items():
        one = one_step.measure(fabric, tiny_pairs, preset, family)
        assert one["losses"] == pytest.approx(two["losses"], rel=1e-5)
        assert set(one["gradients"]) == set(two["gradients"])
        for name, gradient in one["gradients"].items():
            largest = max(1.0, gradient.abs().max().item())
            assert (gradient - two["gradients"][name]).abs().max().item() <= 1e-6 * largest, name


def test_pairs_without_references_are_the_same_of_two_processes(gated_preset, tiny_pairs, tmp_path):
    """Three of four: the first process has no pair with a reference, and no gradient of its own for the DFE."""
    preset = gated_preset.model_dump(mode="json")
    preset["train"] |= {"batch": 4, "without_reference": 0.75, "rec_steps": 4}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"preset": "demo", "presets": {"demo": preset}}))
    for count in (1, 2):
        train(tiny_pairs, tmp_path / "params.yaml", tmp_path / str(count), count, lr=1.0e-4)
    assert differences(tmp_path / "1", tmp_path / "2") <= 1e-5


def command(pairs: Path, file: Path, out: Path, devices: int, **changes) -> list[str]:
    """The command that trains with a preset's parameters, some of them changed."""
    preset = params.read(file).selected
    preset = preset.model_copy(update={"train": preset.train.model_copy(update=changes)})
    keys = [*projection.train_keys("extracter", "rec"), "train.checkpoint_every", "train.nodes"]
    words = ["--params", params.dump_blocks(preset, *keys), "--device", "cpu", "--devices", str(devices)]
    words += ["--pairs", str(pairs), "--out", str(out), "--state", str(out.with_suffix(".state"))]
    return [sys.executable, "-m", "extracter", "train-rec", "extracter", *words]


def train(*arguments, **changes) -> str:
    """Train to the end; what it printed."""
    done = subprocess.run(
        command(*arguments, **changes), env=environment(), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def differences(a: Path, b: Path) -> float:
    """The largest difference of two checkpoints' weights."""
    one, two = (load_file(folder / "model.safetensors") for folder in (a, b))
    return max((one[name] - two[name]).abs().max().item() for name in one)


def test_weights_and_log_are_those_of_one_process(preset_file, tiny_pairs, tmp_path):
    printed = [train(tiny_pairs, preset_file, tmp_path / str(count), count, lr=1.0e-4) for count in (1, 2)]
    assert differences(tmp_path / "1", tmp_path / "2") <= 1e-5
    assert printed[0].count("validation PSNR") == printed[1].count("validation PSNR"), "one process prints"
    logs = [(tmp_path / name / "train_log.csv").read_text().splitlines() for name in "12"]
    assert len(logs[0]) == len(logs[1])
    described = json.loads((tmp_path / "2" / "training.json").read_text())
    assert described["processes"] == 2
    assert not {"devices", "nodes"} & set(described["train"]), "they change no result"


def start_and_kill(words: list[str], state: Path, second: bool) -> tuple[int, str]:
    """Start a training of two processes, kill one as soon as a state is saved; how the first one ended, and stderr.

    Both write to it, so what is returned is complete once both have ended.
    """
    before = state.stat().st_mtime_ns if state.exists() else 0
    process = subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE, text=True)
    while not state.exists() or state.stat().st_mtime_ns == before:
        assert process.poll() is None
        time.sleep(0.005)
    (child,) = psutil.Process(process.pid).children()
    (child if second else process).kill()
    _, said = process.communicate(timeout=300)
    return process.returncode, said


def test_a_killed_process_ends_the_training_which_resumes_bit_for_bit(preset_file, tiny_pairs, tmp_path):
    changes = {"precision": "bf16-mixed", "ema": 0.9, "rec_steps": 16, "validate_every": 8, "checkpoint_every": 1}
    train(tiny_pairs, preset_file, tmp_path / "whole", 2, **changes)
    cut = tmp_path / "cut"
    words = command(tiny_pairs, preset_file, cut, 2, **changes)
    # The other process notices at its next exchange; Fabric ends it where it comes to none within five seconds.
    noticed = "lost another one, which was killed or has failed; run the same command again"
    ended = "terminated with code -9. Forcefully terminating all other processes"
    code, said = start_and_kill(words, cut.with_suffix(".state"), second=True)
    assert {1: noticed, -9: ended}[code] in said
    assert "Traceback" not in said
    code, said = start_and_kill(words, cut.with_suffix(".state"), second=False)
    assert code == -9
    assert noticed in said
    assert "Traceback" not in said
    shutil.copy(cut.with_suffix(".state"), tmp_path / "alone.state")
    assert "resuming after step" in train(tiny_pairs, preset_file, cut, 2, **changes)
    assert differences(tmp_path / "whole", cut) == 0
    assert "resuming after step" in train(tiny_pairs, preset_file, tmp_path / "alone", 1, **changes)
    assert (tmp_path / "alone" / "model.safetensors").exists()


def test_batch_normalisation_over_processes_is_refused_on_the_cpu(monkeypatch):
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    assert distributed.share_statistics(network, torch.device("cpu")) is network
    monkeypatch.setattr(distributed, "process_count", lambda: 2)
    with pytest.raises(UserError, match=r"normalises over the batch.*`train\.devices: 1`"):
        distributed.share_statistics(network, torch.device("cpu"))
    shared = distributed.share_statistics(network, torch.device("cuda", 0))
    assert isinstance(shared[0], torch.nn.SyncBatchNorm)


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(UserError, match=r"`train\.batch` is 9, which 2 x 4 devices cannot share"):
        distributed.check_batch(9, 4, 2)
    distributed.check_batch(9, 3, 1)
