"""`extracter info`: every part is named, and the sums are right."""

import evaluation_setup
import pytest
from typer.testing import CliRunner

from extracter.cli import app
from extracter.families import FAMILIES
from extracter.inference.upscaler import memory_needed
from extracter.models.checkpoint import load_model
from extracter.models.extracter import Extracter
from extracter.models.refsr import count_parameters


@pytest.mark.parametrize("family", ["extracter", "ttsr"])
def test_what_is_printed(tmp_path, family):
    folder = evaluation_setup.write_checkpoint(tmp_path, family=family)
    result = CliRunner().invoke(app, ["info", str(folder)])
    assert result.exit_code == 0, result.output
    model = load_model(folder)
    assert f"{count_parameters(model):,}" in result.output
    assert f"{count_parameters(model.csfi):,}" in result.output
    assert ("gradient density" in result.output) == (family == "extracter")
    for text in ("kernel", "best_step", "512 x 512", "4096 x 4096", "MiB"):
        assert text in result.output
    assert "training" in CliRunner().invoke(app, ["info", str(folder / "model.safetensors"), "--no-time"]).output


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in ("extracter", "ttsr")])
def test_other_systems_are_described(tmp_path, family):
    folder = evaluation_setup.write_checkpoint(tmp_path / "model", family=family)
    result = CliRunner().invoke(app, ["info", str(folder), "--no-time"])
    assert result.exit_code == 0, result.output
    assert f"{count_parameters(load_model(folder)):,}" in result.output


def test_memory_rises_with_size_and_network():
    small, paper = Extracter(features=8, dfe_width=4), Extracter()
    for model in (small, paper):
        needed = [memory_needed(model, side) for side in (512, 1024, 4096)]
        assert needed == sorted(needed)
        assert all(least <= most for least, most in needed)
    # A result of 4096 x 4096 fits into 6 GB, in one piece it would not.
    least, most = memory_needed(paper, 4096)
    assert least < 2e9
    assert most > 20e9
