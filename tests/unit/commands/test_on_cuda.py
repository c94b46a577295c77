"""Each command of the workflow that computes, on a machine whose `torch.cuda` only pretends to have a GPU.

The first tensor that goes there ends the command: arguments, data, checkpoint, device and limits were all in order.
"""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from evaluation_setup import preset, write_checkpoint, write_test_set
from typer.testing import CliRunner

from extracter import memory
from extracter.cli import app
from extracter.evaluation import kernel_sweep, kernel_sweep_worker

RULES = Path(__file__).parents[3] / "workflow" / "rules"
COMPUTING = ["train-match", "train-rec", "train-full", "evaluate", "evaluate-levels", "kernel-sweep"]
COMPUTING += ["map-origins", "figure-reference"]


class OnGPU(BaseException):
    """A tensor was sent to the GPU that is not there."""


@pytest.fixture
def pretended(monkeypatch):
    """One GPU, until it is used."""

    def use() -> None:
        raise OnGPU

    cuda = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "get_device_capability": lambda *index: (9, 0),
        "get_arch_list": lambda: ["sm_90"],
        "get_device_name": lambda *index: "Card",
        "get_device_properties": lambda *index: SimpleNamespace(uuid="test", total_memory=80 * memory.GIB),
        "_lazy_init": use,
    }
    for name, value in cuda.items():
        monkeypatch.setattr(torch.cuda, name, value)


@pytest.fixture
def arguments(tmp_path, tiny_pairs):
    """The arguments of each command, by its name."""
    values = preset()
    file = tmp_path / "params.yaml"
    content = {"preset": "demo", "presets": {"demo": values.model_dump(mode="json")}}
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    images, rec = write_test_set(tmp_path / "set14"), write_checkpoint(tmp_path / "rec")
    pairs = ["--pairs", tiny_pairs, "--out", tmp_path / "out", "--state", tmp_path / "state.pt", "--params", file]
    measured = [
        "--out",
        tmp_path / "o.csv",
        "--summary",
        tmp_path / "s.json",
        "--sr",
        tmp_path / "sr",
        "--params",
        file,
    ]
    levels = [write_test_set(tmp_path / "cufed5", name="cufed5"), "--checkpoint", rec, *measured[:4], "--params", file]
    tables = ["--baseline", tmp_path / "o.csv", "--figures", tmp_path / "o.csv", "--out", tmp_path / "m.json"]
    cell = ["--kernel", 6, "--method", "blocks", "--out", tmp_path / "k.json", "--params", file]
    return {
        "train-match": pairs,
        "train-rec": ["extracter", *pairs],
        "train-full": ["extracter", "--start", rec, *pairs],
        "evaluate": ["extracter-rec", "--images", images, "--checkpoint", rec, *measured],
        "evaluate-levels": ["extracter-rec", "--images", *levels],
        "kernel-sweep": ["--images", images, "--checkpoint", rec, *cell],
        "map-origins": ["--images", images, "--checkpoint", rec, *tables],
        "figure-reference": [tmp_path / "f.png", "--model", rec],
    }


@pytest.mark.parametrize("command", COMPUTING)
def test_a_command_reaches_the_gpu(command, arguments, pretended, monkeypatch):
    jobs = []

    def in_this_process(words: list[str], images: int) -> dict:
        jobs.append(json.loads(words[-1]))
        kernel_sweep_worker.run(jobs[0])
        return {}

    monkeypatch.setattr(kernel_sweep, "run_child", in_this_process)
    with pytest.raises(OnGPU):
        CliRunner().invoke(app, [command, *map(str, arguments[command])])
    assert [job["device"] for job in jobs] == ["cuda:0"] * (command == "kernel-sweep")


def test_no_rule_is_left_out():
    """A command that takes `--device` computes, and is tried above."""
    called = {name for file in RULES.glob("*.smk") for name in re.findall(r"extracter ([a-z-]+) ", file.read_text())}
    taking = {name for name in called if "--device" in CliRunner().invoke(app, [name, "--help"]).output}
    assert taking == set(COMPUTING)
