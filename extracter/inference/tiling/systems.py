"""The other systems within a memory limit: search over the whole image, then tile by tile."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from extracter.device import full_float32
from extracter.errors import UserError
from extracter.inference.tiling import budget
from extracter.inference.tiling.adapt import AdaptationTiles
from extracter.inference.tiling.aggregate import AggregationTiles
from extracter.inference.tiling.engine import compose, search_with_kernel
from extracter.inference.tiling.network import Network
from extracter.inference.tiling.swap import SwapTiles
from extracter.inference.tiling.windows import Inputs, InsufficientMemoryError, Picture
from extracter.models.c2_matching import AMSA, C2Matching
from extracter.models.masa import MASA
from extracter.models.refsr import RefSR
from extracter.models.srntt import SRNTT
from extracter.search.choose import SearchName
from extracter.search.search import Matches, SearchConfig

TILES: dict[type[RefSR], Callable[..., Any]] = {
    SRNTT: SwapTiles,
    C2Matching: AggregationTiles,
    AMSA: AggregationTiles,
    MASA: AdaptationTiles,
}
# Why a system takes whole images alone.
_WHOLE = {
    "SSEN": "SSEN compares each pixel with all others",
    "DATSR": "DATSR's windows of attention, in sequence, reach over hundreds of pixels",
}


def search_of(network: RefSR, search: SearchName, kernel: int | None) -> SearchConfig:
    """The search of a network that can be run by parts.

    Raises:
        UserError: it cannot, or its search cannot be changed as it is asked for.
    """
    name = type(network).__name__
    if isinstance(network, Network):
        return search_with_kernel(network, kernel)
    if type(network) not in TILES:
        raise UserError(
            f"{_WHOLE.get(name, name)}, so it takes whole images alone and no memory limit can be kept; `extracter "
            "evaluate` and Python run it"
        )
    if kernel is not None or search == "fast":
        asked = f"--kernel {kernel}" if kernel is not None else "--search fast"
        raise UserError(f"{asked}: the matches of {name} are found in its own way; leave the option out")
    return SearchConfig(3, 1, 1, "direct")


@full_float32()
@torch.inference_mode()
def super_resolve_tiles(
    model: RefSR, inputs: Inputs, *, memory: float, precision: torch.dtype, report: Callable[[str, int, int], None]
) -> tuple[np.ndarray, Matches]:
    """As `engine.super_resolve`, for a system of `TILES`."""
    device = next(model.parameters()).device
    height, width = inputs.lr.shape[:2]
    padded = (model.padded(height), model.padded(width))
    lr, lr_up = Picture(inputs.lr, 1, padded, device), Picture(inputs.lr_up, 4, padded, device)
    refs, refs_du = (
        [Picture(x, 4, tuple(model.padded(-(-side // 4)) for side in x.shape[:2]), device) for x in images]
        for images in (inputs.refs, inputs.refs_du)
    )
    tiling = TILES[type(model)](model, lr, lr_up, refs, refs_du)

    def bytes_of(height: int, width: int) -> float:
        return tiling.tile_bytes(max(height, width)) + budget.BESIDE

    needed = max(tiling.least_bytes(), (tiling.tile_bytes(tiling.step) + budget.BESIDE) / budget.TILE_SHARE)
    if needed > memory:
        raise InsufficientMemoryError(needed)
    matches = tiling.search(memory, partial(report, "search"))
    tiles, rest = budget.plan_tiles(bytes_of, lr.whole, tiling.step, memory)
    tiling.begin(rest, tiles)
    sr = compose(model, tiling.run, tiles, lr_up, inputs, precision, report)
    return sr, _of_image(matches, lr, refs, (height, width))


def _of_image(matches: Matches, lr: Picture, refs: Sequence[Picture], size: tuple[int, int]) -> Matches:
    """Matches counted over images as they are, where those of images extended to what the network takes are given."""
    grid = matches.indices.view(lr.whole.height, lr.whole.width)[: size[0], : size[1]]
    scores = matches.scores.view(lr.whole.height, lr.whole.width)[: size[0], : size[1]]
    indices, first, new_first = grid.clone(), 0, 0
    for ref in refs:
        rows, columns = (-(-side // 4) for side in ref.pixels.shape[:2])
        place = grid - first
        mine = (place >= 0) & (place < ref.whole.height * ref.whole.width)
        row = (place // ref.whole.width).clamp(0, rows - 1)
        column = (place % ref.whole.width).clamp(0, columns - 1)
        indices = torch.where(mine, new_first + row * columns + column, indices)
        first += ref.whole.height * ref.whole.width
        new_first += rows * columns
    return Matches(indices.view(1, 1, -1), scores.reshape(1, 1, -1), new_first)
