"""The other systems: tiles equal the whole, and what cannot be tiled is refused."""

import evaluation_setup
import numpy as np
import pytest
import torch
from devices import DEVICE
from PIL import Image
from typer.testing import CliRunner

from extracter.cli import app
from extracter.data.datasets import TestSet
from extracter.errors import UserError
from extracter.evaluation.evaluate import run_network
from extracter.inference.compare_figure import draw
from extracter.inference.tiling import budget, engine, systems
from extracter.inference.tiling.windows import Inputs, InsufficientMemoryError, from_signed, to_signed
from extracter.inference.upscaler import Upscaler
from extracter.models.c2_matching import AMSA, C2Matching
from extracter.models.checkpoint import load_model
from extracter.models.dpfsr import DPFSR
from extracter.models.masa import MASA
from extracter.models.srntt import SRNTT
from extracter.models.ssen import SSEN
from extracter.photos.photo import Photo

NETWORKS = {
    "dpfsr": lambda: DPFSR(8, 8, (3, 1, 1, 1)),
    "srntt": lambda: SRNTT(8, 8, 4),
    "c2": lambda: C2Matching(8, 8, 1),
    "amsa": lambda: AMSA(8, 8, 1),
    "masa": lambda: MASA(8, (1, 1, 1, 1, 1)),
}


def network(name):
    """With weights so large that every part of it matters, and a last convolution that keeps the result in [-1, 1]."""
    torch.manual_seed(0)
    model = NETWORKS[name]().eval()
    model.initialise("random", 0)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if weight.ndim == 4 and not (model.frozen and key.startswith(model.frozen)):
                torch.nn.init.kaiming_normal_(weight)
            if "offsets" in key:
                weight.mul_(0.3)
    model.to(DEVICE)
    last = [module for module in model.tail.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    sizes = []
    handle = last.register_forward_hook(lambda _module, _inputs, output: sizes.append(output.std()))
    whole(model, images(0, (16, 16), [(64, 64)]))
    handle.remove()
    with torch.no_grad():
        last.weight.mul_(0.15 / sizes[0])
    return model


def images(seed, lr, refs):
    rng = np.random.default_rng(seed)

    def image(height, width):
        return from_signed(torch.from_numpy(rng.uniform(-1, 1, (1, 3, height, width))), np.dtype(np.float32))

    height, width = lr
    pair = [image(*size) for size in refs]
    return Inputs(image(height, width), image(4 * height, 4 * width), pair, pair)


def tiled(model, inputs, edge, rest=1e6):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget, "plan_tiles", lambda needed, whole, *_: (whole.split(edge, edge), rest))
        settings = {"memory": 600e6, "precision": torch.float32, "report": lambda *_: None}
        run = systems.super_resolve_tiles if type(model) in systems.TILES else engine.super_resolve
        return run(model, inputs, **settings)


def whole(model, inputs):
    with torch.inference_mode():
        lr, lr_up, *refs = (to_signed(x).to(DEVICE) for x in (inputs.lr, inputs.lr_up, *inputs.refs))
        return model(lr, lr_up, refs, refs).cpu()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("lr", "refs", "edge"), [
    ((60, 36), [(60, 80)], 12),
    ((13, 9), [(160, 180), (24, 20)], 4),
    ((2, 1), [(4, 8)], 4),
])  # fmt: skip
def test_tiles_equal_the_whole(name, lr, refs, edge):
    model = network(name)
    inputs = images(sum(lr), lr, refs)
    wanted = whole(model, inputs)
    sr, matches = tiled(model, inputs, edge)
    assert 0.01 < wanted.std() < 0.7
    assert float((to_signed(sr) - wanted).abs().max()) <= 1e-4
    assert matches.indices.shape == (1, 1, lr[0] * lr[1])
    assert matches.indices.max() < matches.keys == sum(h // 4 * (w // 4) for h, w in refs)


@pytest.mark.parametrize(("name", "attribute"), [("srntt", "start"), ("c2", "start"), ("masa", "start")])
def test_a_smaller_margin_would_show(name, attribute, monkeypatch):
    model = network(name)
    inputs = images(1, (60, 36), [(60, 80)])
    cls = systems.TILES[type(model)]
    begin = cls.begin

    def shrink(self, *arguments):
        setattr(self, attribute, getattr(self, attribute) * 2 // 3 // 4 * 4)
        begin(self, *arguments)

    monkeypatch.setattr(cls, "begin", shrink)
    try:
        shown = float((to_signed(tiled(model, inputs, 12)[0]) - whole(model, inputs)).abs().max())
    except RuntimeError:
        return  # maps that no longer cover one another
    assert shown > 1e-4


def test_features_that_do_not_fit_are_computed_again():
    for name in ("c2", "masa"):
        model, inputs = network(name), images(2, (16, 8), [(260, 100)])
        kept, again = (tiled(model, inputs, 8, rest)[0] for rest in (1e9, 0.0))
        np.testing.assert_allclose(kept, again, atol=1e-5)


@pytest.mark.parametrize("name", ["srntt", "c2", "masa"])
def test_too_little_memory_says_how_much_is_wanted(name):
    model, inputs = network(name), images(3, (5, 4), [(24, 24)])
    settings = {"precision": torch.float32, "report": lambda *_: None}
    with pytest.raises(InsufficientMemoryError) as error:
        systems.super_resolve_tiles(model, inputs, memory=1e6, **settings)
    systems.super_resolve_tiles(model, inputs, memory=error.value.needed, **settings)


@pytest.mark.parametrize("family", [*NETWORKS, "ssen", "datsr"])
def test_a_photograph_by_the_command(tmp_path, family):
    images = evaluation_setup.write_test_set(tmp_path / "set")
    folder = evaluation_setup.write_checkpoint(tmp_path / "model", family=family)
    arguments = ["upscale", f"{images}/lr/a.png", "--ref", f"{images}/hr/b.png", "-o", f"{tmp_path}/out.png"]
    result = CliRunner().invoke(app, [*arguments, "--model", str(folder), "--precision", "32"])
    if family in ("ssen", "datsr"):
        assert "whole images alone and no memory limit" in str(result.exception or result.output)
        return
    assert result.exit_code == 0, result.output
    wanted = run_network(load_model(folder), next(iter(TestSet(images))), torch.device("cpu"))
    found = np.asarray(Image.open(tmp_path / "out.png"))
    assert np.abs(found.astype(int) - wanted).max() <= 1


def test_origins_are_drawn_and_what_cannot_be_chosen_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    photo, ref = (Photo(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in ((10, 13), (50, 70)))
    upscaler = Upscaler(network("masa"), memory="1GiB", device=DEVICE)
    draw(upscaler.run(photo, [ref]), tmp_path / "compare.png")
    assert (tmp_path / "compare.png").stat().st_size > 10_000
    for options, says in (({"kernel": 6}, "--kernel 6"), ({"search": "fast"}, "--search fast")):
        with pytest.raises(UserError, match=f"{says}: the matches of MASA are found in its own way"):
            Upscaler(network("masa"), device=DEVICE, **options)
    with pytest.raises(UserError, match="SSEN compares each pixel"):
        Upscaler(SSEN(8, (1, 1)), device=DEVICE)
