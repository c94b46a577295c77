"""`evaluate`, `kernel_sweep` and `upscale` compute the same image in the same precision."""

import json

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
from extracter.inference.tiling.engine import Inputs, super_resolve


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
