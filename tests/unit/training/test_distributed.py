"""Two processes compute what one does with the whole batch; on the CPU, with gloo."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from extracter.errors import UserError
from extracter.training import distributed

ONE_STEP = Path(__file__).with_name("one_step.py")


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


# WGAN-GP; a Gram matrix; the relativistic critic, whose means are over the batch, and the norm of a whole batch.
@pytest.mark.parametrize("family", ["extracter", "srntt", "c2"])
def test_gradients_are_those_of_the_whole_batch(preset_file, tiny_pairs, tmp_path, family):
    for processes in ("1", "2"):
        command = [sys.executable, ONE_STEP, tmp_path, tiny_pairs, family, preset_file, processes]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / f"{family}-{n}.pt", weights_only=True) for n in (1, 2))
    assert one["losses"] == pytest.approx(two["losses"], rel=1e-5)
    assert set(one["gradients"]) == set(two["gradients"])
    for name, gradient in one["gradients"].items():
        largest = max(1.0, gradient.abs().max().item())
        assert (gradient - two["gradients"][name]).abs().max().item() <= 1e-6 * largest, name


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(UserError, match=r"`train\.batch` is 9, which 2 x 4 devices cannot share"):
        distributed.check_batch(9, 4, 2)
    distributed.check_batch(9, 3, 1)
