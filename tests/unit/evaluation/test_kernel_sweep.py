"""The kernel sweep: observed, not assumed, in confined child processes."""

import json

import numpy as np
import pytest
import torch
from devices import DEVICE
from evaluation_setup import preset, write_checkpoint, write_test_set

from extracter.data.datasets import TestSet
from extracter.device import choose_device
from extracter.errors import UserError
from extracter.evaluation import kernel_sweep as module
from extracter.evaluation.evaluate import load_network, run_network
from extracter.evaluation.kernel_sweep import kernel_sweep
from extracter.memory import MIB, PeakMemory
from extracter.metrics import psnr_y
from extracter.search.search import SearchConfig

CPU, WHERE = torch.device("cpu"), choose_device(DEVICE)


def sweep(tmp_path, kernel, method, budget_gib=1.0):
    images, weights = tmp_path / "set", tmp_path / "weights"
    model, search = preset().model, preset().search.model_copy(update={"memory": 1.0})
    kernel_sweep(
        images, weights, kernel, method, tmp_path / "k.json",
        model=model, search=search, budget_gib=budget_gib, timings=tmp_path / "timings.json", device=DEVICE,
    )  # fmt: skip
    return json.loads((tmp_path / "k.json").read_text()) | json.loads((tmp_path / "timings.json").read_text())


@pytest.fixture
def prepared(tmp_path):
    # 196 and 200 are no multiples of 4 x stride for any kernel but 3: the same pixels must be scored all the same.
    write_test_set(tmp_path / "set", sizes=((196, 200), (64, 52)), references="self")
    write_checkpoint(tmp_path / "weights")
    return tmp_path


@pytest.mark.parametrize(("kernel", "method", "budget_gib"), [(3, "chunked", 0.06), (12, "dense", 0.5)])
def test_a_run_that_fits_scores_the_whole_image_for_every_kernel(prepared, kernel, method, budget_gib):
    result = sweep(prepared, kernel, method, budget_gib)
    assert (result["fits"], result["kernel"], result["method"]) == (True, kernel, method)
    assert result["memory_budget_gib"] == budget_gib
    assert result["seconds"] > 0
    assert 0 < result["peak_memory_mib"] < budget_gib * 1024
    # Worked out in this process, by the evaluation's own way of running a network.
    network = load_network(prepared / "weights", preset().search, WHERE)
    network.search = SearchConfig(kernel, kernel // 3, kernel // 3, "two_stage", method)
    scores = [psnr_y(inputs.hr_pixels, run_network(network, inputs, WHERE)) for inputs in TestSet(prepared / "set")]
    assert result["psnr_y"] == pytest.approx(np.mean(scores), abs=1e-3)


@pytest.mark.parametrize("budget_gib", [0.001, 0.02])
def test_a_run_that_does_not_fit_says_so(prepared, budget_gib):
    """The dense correlation of 49 x 50 queries and keys alone takes 23 MiB."""
    result = sweep(prepared, 3, "dense", budget_gib)
    assert result["fits"] is False
    assert [result[key] for key in ("psnr_y", "ssim_y", "seconds", "peak_memory_mib")] == [None] * 4


def test_an_ambiguous_failure_is_tried_without_the_limit(prepared, monkeypatch):
    answers = []

    def run(command, images):
        jobs.append(json.loads(command[-1]))
        return answers.pop(0)

    monkeypatch.setattr(module, "run_child", run)
    failed = {"budget_gib": 1.0, "failed": "could not create a primitive", "image": "b"}
    jobs, answers = [], [failed, {"budget_gib": None, "fits": True, "seconds": [1], "peak_memory_mib": [1]}]
    assert sweep(prepared, 3, "dense")["fits"] is False
    assert [(job["budget_gib"], job["only"]) for job in jobs] == [(1.0, None), (None, "b")]
    for again in (failed, {"fits": False}):
        answers = [failed, again]
        with pytest.raises(UserError, match=r"set/b: kernel 3 failed .could not create a primitive., and the cause"):
            sweep(prepared, 3, "dense")


def test_wrong_arguments_are_refused(prepared):
    for kernel in (0, 2, 7):
        with pytest.raises(UserError, match="allowed are 3, 6, 9"):
            sweep(prepared, kernel, "dense")
    write_checkpoint(prepared / "weights", phase="full")
    with pytest.raises(UserError, match="`phase` is full"):
        sweep(prepared, 3, "dense")


def test_peak_memory_sees_what_was_freed_again():
    memory = PeakMemory(CPU)
    memory.reset()
    small = memory.read()
    block = np.ones(64 * MIB, np.uint8)
    del block
    assert memory.read() - small == pytest.approx(64, abs=4)
