"""How much memory each part of a super-resolution takes, and the tiles that fit a budget."""

from collections.abc import Callable, Sequence

import torch

from extracter.inference.tiling import approximate
from extracter.inference.tiling.network import Margins, Network
from extracter.inference.tiling.search import least_bytes
from extracter.inference.tiling.trust import least_bytes as trust_bytes
from extracter.inference.tiling.windows import InsufficientMemoryError, Window
from extracter.memory import MIB

# Memory of a tile whose layers use freed memory again, over that of one whose layers return it; measured.
REUSE = 1.6
_REUSE_TIME = 0.6  # likewise, of time
TILE_SHARE = 0.75  # of the memory, at most, for a tile
# Bytes that a tile takes at its peak for each number in the maps that `tile_bytes` counts, by the bytes of a number;
# measured with the released model, 1.6 and 3.0.
_BYTES = {2: 1.9, 4: 3.4}
_BESIDE = 48 * MIB  # of a tile, for scratch memory of convolutions and one part of reference features


def plan_tiles(
    needed: Callable[[int], float], whole: Window, stride: int, memory: float, slack: float = 1.0
) -> tuple[list[Window], float]:
    """The fewest tiles that fit the memory, and the bytes that are left for features of the reference.

    Args:
        needed: bytes of a tile by its edge in cells.
        whole: the padded image.
        stride: s; edges of tiles are multiples of it.
        memory: bytes; three quarters of them at most are for a tile, and of the rest three quarters keep features of
            the reference.
        slack: by how much the memory of a tile exceeds `needed`; the least tiles do without.

    Raises:
        InsufficientMemoryError: the least tile does not fit.
    """
    longest = max(whole.height, whole.width)
    count = 1
    while True:
        edge = -(-longest // count // stride) * stride if count > 1 else longest
        bytes_ = needed(edge) * (slack if edge > stride else 1.0)
        if bytes_ <= TILE_SHARE * memory:
            return whole.split(edge, edge), 0.75 * (memory - bytes_)
        if edge <= stride:
            raise InsufficientMemoryError(bytes_ / TILE_SHARE)
        count += 1


def reuse_pays(plain: Sequence[Window], reusing: Sequence[Window], margins: Margins, whole: Window) -> bool:
    """Whether layers that use freed memory again are faster, though their tiles are smaller and so have more margin."""

    def area(tiles: Sequence[Window]) -> int:
        grown = [tile.grow(margins.entered[2], whole) for tile in tiles]
        return sum(window.height * window.width for window in grown)

    return _REUSE_TIME * area(reusing) <= area(plain)


def least_needed(model: Network, margins: Margins, whole: Window, references: Sequence[Window]) -> float:
    """The least bytes for search and tiles, on the CPU; `whole` is the padded LR."""
    width, stride = model.dfe.width, model.search.stride
    tile = max(f(model, margins, stride, whole) for f in (tile_bytes, first_bytes)) / TILE_SHARE
    if model.search.method == "approximate":
        needed = approximate.least_bytes(width, stride, whole, references, model.stm.u)
    else:
        needed = least_bytes(width, stride, whole, references)
    aligned = 0.0
    if model.stm.align:
        aligned = trust_bytes(whole.height * whole.width // stride**2, model.stm.u, references)
    return max(tile + held_bytes(model, whole), needed + aligned)


def held_bytes(model: Network, whole: Window, precision: torch.dtype = torch.float32) -> float:
    """Memory of what is held for the whole image while tiles run: matches with offsets, and the first stage's map."""
    cells, channels = whole.height * whole.width, model.ife.head.out_channels
    return (18 * model.stm.u / model.search.stride**2 + precision.itemsize * channels) * cells


def tile_bytes(
    model: Network, margins: Margins, edge: int, whole: Window, precision: torch.dtype = torch.float32
) -> float:
    """Peak memory of a tile of `edge` x `edge` cells, by the sizes of its maps."""
    channels = model.ife.head.out_channels
    width, u = model.dfe.width, model.stm.u
    entered = 16 * _area(edge, margins.entered[2] + 2, whole)
    fusion = entered * (10 * channels + (u + 3) * width)
    levels = 16 * (_area(edge, margins.synthesised[2], whole) * 8 + _area(edge, 2, whole)) * channels
    return _BESIDE + _BYTES[precision.itemsize] * max(fusion, levels)


def first_bytes(
    model: Network, margins: Margins, edge: int, whole: Window, precision: torch.dtype = torch.float32
) -> float:
    """Peak memory of a tile of `edge` x `edge` cells of IFE and the first stage of CSFI."""
    channels = model.ife.head.out_channels
    per_cell = 10 * channels + (model.stm.u + 3) * 4 * model.dfe.width
    return _BESIDE + _BYTES[precision.itemsize] * _area(edge, margins.entered[0] + 2, whole) * per_cell


def _area(edge: int, margin: int, whole: Window) -> int:
    return min(edge + 2 * margin, whole.height) * min(edge + 2 * margin, whole.width)
