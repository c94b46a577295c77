"""`evaluate`, `kernel_sweep` and `upscale` compute the same image in the same precision."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from devices import DEVICE
from evaluation_setup import preset, write_checkpoint, write_test_set
from PIL import Image

from extracter.data.datasets import TestSet
from extracter.device import choose_device
from extracter.evaluation.evaluate import load_network, run_network
from extracter.evaluation.kernel_sweep_worker import run
from extracter.image_tensors import to_uint8
from extracter.inference.tiling.engine import Inputs, super_resolve
from extracter.models.extracter import Extracter


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_three_ways_to_one_image(tmp_path, precision, capsys):
    images = write_test_set(tmp_path / "set", sizes=((64, 48),), references="self")
    weights = write_checkpoint(tmp_path / "weights")
    device = choose_device(DEVICE)
    network = load_network(weights, preset().search, device)
    (inputs,) = TestSet(images)
    evaluated = run_network(network, inputs, device, precision)

    kernel = network.search.kernel
    job = {
        "images": str(images), "checkpoint": str(weights), "kernel": kernel, "method": "blocks", "memory": 64,
        "budget_gib": None, "precision": precision, "device": str(device), "sr": str(tmp_path), "only": None,
    }  # fmt: skip
    run(job)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["fits"]
    swept = np.load(tmp_path / f"{inputs.name}.npy")

    pixels = {key: np.asarray(Image.open(images / key / "a.png")) for key in ("lr", "lr_up", "ref_du")}
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    one = Inputs(pixels["lr"], pixels["lr_up"], [pixels["lr_up"]], [pixels["ref_du"]])
    upscaled, _ = super_resolve(network, one, memory=2e9, precision=dtype)

    assert np.array_equal(evaluated, swept)
    assert not np.array_equal(evaluated, pixels["lr_up"])
    # A tile's maps are cut to what it needs: in bfloat16 a value on the edge of two may be rounded to the other.
    assert np.abs(evaluated.astype(int) - upscaled.astype(int)).max() <= 1
    assert (evaluated == upscaled).mean() > (0.999 if precision == "32-true" else 0.99)


def test_own_bicubic_stands_for_no_reference_where_none_is_needed(tmp_path):
    images = write_test_set(tmp_path / "set", sizes=((64, 48),), references="self")
    gated = {"kernel": 3, "stride": 1, "padding": 1, "align": True, "gate": True, "bicubic_skip": False}
    torch.manual_seed(0)
    network = Extracter(8, 4, 1, (1, 1, 1), (1, 1, 1), **gated, trust=(0.1, 0.2), idle=(0.2, 0.25, 0.31)).eval()
    (inputs,) = TestSet(images)
    with torch.inference_mode():
        wanted = to_uint8(network(inputs.lr, inputs.lr_up, [], []))
        searched = to_uint8(network(inputs.lr, inputs.lr_up, inputs.ref, inputs.ref_du))
    assert not np.array_equal(searched, wanted)
    assert np.array_equal(run_network(network, inputs, torch.device("cpu")), wanted)
    upscaled, _ = super_resolve(network, Inputs(to_uint8(inputs.lr), to_uint8(inputs.lr_up), [], []), memory=2e9)
    assert np.abs(upscaled.astype(int) - wanted.astype(int)).max() <= 1
    assert (upscaled == wanted).mean() > 0.999


def test_registered_copies_are_preferred_in_both(tmp_path):
    """The other reference is LR_up itself, all of whose patches match perfectly and stand before those of the copy."""
    images = write_test_set(tmp_path / "set", sizes=((64, 48),), references="self")
    network = load_network(write_checkpoint(tmp_path / "weights"), preset().search, choose_device(DEVICE))
    network.search = network.search.with_kernel(3)
    (inputs,) = TestSet(images)
    copy = tuple(x[..., 8:40, 12:48] for x in (inputs.hr, inputs.lr_up))
    with_copy = replace(inputs, more=(copy,), places=(None, (2, 3)))
    evaluated = run_network(network, with_copy, choose_device(DEVICE))
    pixels = [[to_uint8(x) for x in pair] for pair in ((inputs.ref, copy[0]), (inputs.ref_du, copy[1]))]
    one = Inputs(to_uint8(inputs.lr), to_uint8(inputs.lr_up), *pixels, with_copy.places)
    upscaled, matches = super_resolve(network, one, memory=2e9)
    assert np.abs(evaluated.astype(int) - upscaled.astype(int)).max() <= 1
    own = 12 * 16 + torch.arange(8 * 9).view(8, 9)
    assert (matches.indices[0, 0].view(16, 12)[2:10, 3:12].cpu() == own).float().mean() > 0.5
    unaware, _ = super_resolve(network, replace(one, places=()), memory=2e9)
    assert not np.array_equal(upscaled, unaware)
