"""Tiled upscaling on `cuda`, without a GPU: no tensor on another device, and no hidden wait for it.

Fake tensors have a device and a shape and no numbers, and whatever would bring a number to the CPU raises. Tiling does
that in a few places on purpose, for work that depends on what the search has found. Here they are replaced, and
everything around them runs:

- `Search._complete` searches again for the queries that stage two left short;
- `Textures.cut` asks which parts of the references a window takes its textures from;
- so do `Sampler._sample` (C2-Matching, AMSA), and `_groups` and `_regions` (MASA);
- `from_signed` brings each finished tile to the host.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from extracter.inference.tiling import aggregate, budget, encoded, engine, search, systems, textures
from extracter.inference.tiling.features import LEVELS, Features
from extracter.inference.tiling.windows import Inputs, Picture, Window
from extracter.memory import MIB
from extracter.models.c2_matching import AMSA, C2Matching
from extracter.models.dpfsr import DPFSR
from extracter.models.extracter import Extracter
from extracter.models.masa import MASA
from extracter.models.srntt import SRNTT
from extracter.models.ttsr import TTSR
from extracter.search.search import Matches

CUDA = torch.device("cuda:0")
MEMORY = 200 * MIB
SMALL = {"features": 8, "dfe_width": 4, "ife_blocks": 1, "csfi_blocks": (1, 1, 1), "gde_blocks": (1, 1, 1)}
TRUST = {
    "align": True, "gate": True, "trust": (0.4, 0.6), "idle": (0.2, 0.25, 0.31),
    "bicubic_skip": True, "kernel": 3, "stride": 1, "padding": 1,
}  # fmt: skip
NETWORKS = {
    "extracter": lambda: Extracter(**SMALL, **TRUST),
    "extracter, as its authors released it": lambda: Extracter(
        **SMALL, gradient="normalised", constant_coverage=True, repeats=True
    ),
    "ttsr": lambda: TTSR(8, 4, (1, 1, 1, 1)),
    "dpfsr": lambda: DPFSR(8, 4, (2, 1, 1, 1)),
}
SYSTEMS = {
    "srntt": lambda: SRNTT(8, 8, 4),
    "c2": lambda: C2Matching(8, 8, 1),
    "amsa": lambda: AMSA(8, 8, 1),
    "masa": lambda: MASA(8, (1, 1, 1, 1, 1)),
}
pytestmark = pytest.mark.usefixtures("no_kept_tensors")


def images(lr: tuple[int, int], refs: list[tuple[int, int]]) -> Inputs:
    """Black images."""

    def image(height: int, width: int) -> np.ndarray:
        return np.zeros((height, width, 3), np.uint8)

    height, width = lr
    return Inputs(image(height, width), image(4 * height, 4 * width), *([image(*s) for s in refs] for _ in range(2)))


def flat_textures(self: textures.Textures, window: Window, level: int) -> list[Tensor]:
    multiple, scale = LEVELS[level]
    shape = (1, multiple * self.references[0].width, scale * window.height, scale * window.width)
    return [torch.zeros(shape, device=self.indices.device) for _ in self.indices]


def flat_samples(self: aggregate.Sampler, positions: Tensor, shares: Tensor, level: int) -> Tensor:
    assert positions.device == shares.device == CUDA
    groups = positions.shape[4]
    return torch.zeros(*positions.shape[:-1], LEVELS[level][0] * self.values.width // groups, device=CUDA)


def first_region(tiles, number: int, top: Tensor, left: Tensor, size: tuple[int, int], level: int) -> Tensor:
    """Regions of a reference as if all began at its first pixel."""
    assert top.device == left.device == CUDA
    return torch.cat([tiles.assemble(number, Window(0, size[0], 0, size[1]), level)] * len(top))


def four_tiles(needed, whole: Window, *settings: float) -> tuple[list[Window], float]:
    """Tiles of multiples of eight cells, and memory for features that holds some of them."""
    return whole.split(-(-whole.height // 16) * 8, -(-whole.width // 16) * 8), 1e5


@pytest.fixture
def sizes(monkeypatch) -> list[tuple[int, int]]:
    """Replaces what asks for numbers; the sizes of the tiles that would have been brought to the host."""
    found = []

    def receive(image: Tensor, dtype: np.dtype) -> np.ndarray:
        assert image.device == CUDA
        found.append(tuple(image.shape[2:]))
        return np.zeros((*image.shape[2:], 3), dtype)

    # Otherwise there is no autocast where there is no GPU.
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(budget, "plan_tiles", four_tiles)
    monkeypatch.setattr(engine, "from_signed", receive)
    monkeypatch.setattr(search.Search, "_complete", lambda *args: None)
    monkeypatch.setattr(textures.Textures, "cut", flat_textures)
    monkeypatch.setattr(aggregate.Sampler, "_sample", flat_samples)
    monkeypatch.setattr(encoded, "_groups", lambda reference: [(0, torch.arange(len(reference), device=CUDA))])
    monkeypatch.setattr(encoded, "_regions", first_region)
    return found


def check(matches: Matches, tiles: list[tuple[int, int]], height: int, width: int) -> None:
    assert {x.device for x in (matches.indices, matches.scores)} == {CUDA}
    assert len(tiles) == 4
    assert sum(rows * columns for rows, columns in tiles) >= 16 * height * width


@pytest.mark.parametrize("precision", [torch.float32, torch.float16])
@pytest.mark.parametrize("method", ["blocks", "approximate"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_with_a_search_of_blocks(name, method, precision, sizes):
    with FakeTensorMode(allow_non_fake_inputs=True):
        with CUDA:
            model = NETWORKS[name]().eval()
        model.search = replace(model.search, method=method)
        inputs = images((45, 60), [(244, 200), (120, 164)])
        inputs = replace(inputs, places=(None, (8, 10)))
        _, matches = engine.super_resolve(model, inputs, memory=MEMORY, precision=precision)
        check(matches, sizes, 45, 60)


@pytest.mark.parametrize("name", SYSTEMS)
def test_other_systems(name, sizes):
    with FakeTensorMode(allow_non_fake_inputs=True):
        with CUDA:
            model = SYSTEMS[name]().eval()
        inputs = images((45, 60), [(244, 200), (120, 164)])
        report = lambda *progress: None  # noqa: E731
        _, matches = systems.super_resolve_tiles(model, inputs, memory=MEMORY, precision=torch.float32, report=report)
        check(matches, sizes, 45, 60)


def test_textures_are_found_and_copied_there():
    """The parts of `Textures.cut` around the choice of the sources."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        with CUDA:
            dfe = Extracter(**SMALL).dfe
            indices, offsets = torch.zeros(3, 24, 20, dtype=torch.long), torch.zeros(3, 24, 20, 2, dtype=torch.int8)
            total, chosen = torch.zeros(12 * 16, 4, 8), torch.arange(50)
        whole = Window(0, 24, 0, 20)
        features = [Features(dfe, Picture(np.zeros((96, 80, 3), np.uint8), 4, (24, 20), CUDA)) for _ in range(2)]
        cut = textures.Textures(features, indices, 1, 1e9, offsets)
        sources = cut._sources(Window(0, 12, 4, 20), 1, 2)
        assert {x.device for x in sources} == {CUDA}
        values, kept = cut.features(0, 1)
        table = values[0].permute(1, 2, 0).flatten(0, 1)
        textures._add(total, table, chosen, sources, kept, 2, 2)
        assert kept == whole
