"""How much memory each part of a super-resolution takes, and the tiles that fit a budget."""

from collections.abc import Callable, Sequence

import torch

from extracter.inference.tiling import approximate
from extracter.inference.tiling.network import Margins, Network
from extracter.inference.tiling.search import least_bytes
from extracter.inference.tiling.trust import least_bytes as trust_bytes
from extracter.inference.tiling.windows import InsufficientMemoryError, Window
from extracter.memory import MIB

# Memory of tiles whose layers use freed memory again, over that of a tile whose layers return it. One tile alone takes
# 1.6 times as much, measured; the rest is for memory in pieces, which grows from tile to tile.
REUSE = 1.9
_REUSE_TIME = 0.6  # likewise, of time
TILE_SHARE = 0.75  # of the memory, at most, for a tile
# Bytes that a tile takes at its peak for each number in the maps that `tile_bytes` counts, by the bytes of a number;
# measured with the released model, 1.6 and 3.0.
_BYTES = {2: 1.9, 4: 3.4}
_SOURCE = 36  # bytes that `texture_loops.list_sources` takes for a source, of which nine meet in a block
BESIDE = 48 * MIB  # of a tile, for scratch memory of convolutions and one part of reference features


def plan_tiles(
    needed: Callable[[int, int], float], whole: Window, stride: int, memory: float, slack: float = 1.0
) -> tuple[list[Window], float]:
    """Equal tiles that fit the memory with the least work, and the bytes that are left for features of the reference.

    Args:
        needed: bytes of a tile by its height and width in cells; with its margins, to which its work is proportional.
        whole: the padded image.
        stride: s; sides of tiles are multiples of it.
        memory: bytes; three quarters of them at most are for a tile, and of the rest three quarters keep features of
            the reference.
        slack: by how much the memory of a tile exceeds `needed`; the least tiles do without.

    Raises:
        InsufficientMemoryError: the least tile does not fit.
    """

    def bytes_of(height: int, width: int) -> float:
        return needed(height, width) * (slack if max(height, width) > stride else 1.0)

    limit = TILE_SHARE * memory
    if bytes_of(stride, stride) > limit:
        raise InsufficientMemoryError(bytes_of(stride, stride) / TILE_SHARE)
    best, size = float("inf"), (stride, stride)
    # The more rows of tiles, the fewer columns are needed: one pass over both.
    columns = whole.width // stride
    for rows in range(1, whole.height // stride + 1):
        height = _part(whole.height, rows, stride)
        while columns > 1 and bytes_of(height, _part(whole.width, columns - 1, stride)) <= limit:
            columns -= 1
        width = _part(whole.width, columns, stride)
        work = rows * columns * needed(height, width)
        if bytes_of(height, width) <= limit and work < best:
            best, size = work, (height, width)
    return whole.split(*size), 0.75 * (memory - bytes_of(*size))


def _part(side: int, count: int, stride: int) -> int:
    """Cells of each of `count` equal parts of a side, rounded up to a multiple of the stride."""
    return -(-side // count // stride) * stride


def reuse_pays(plain: Sequence[Window], reusing: Sequence[Window], margins: Margins, whole: Window) -> bool:
    """Whether layers that use freed memory again are faster, though their tiles are smaller and so have more margin."""

    def work(tiles: Sequence[Window]) -> int:
        grown = [tile.grow(margins.entered[2], whole) for tile in tiles]
        return sum(window.height * window.width for window in grown)

    return _REUSE_TIME * work(reusing) <= work(plain)


def least_needed(model: Network, margins: Margins, whole: Window, references: Sequence[Window]) -> float:
    """The least bytes for search and tiles, on the CPU; `whole` is the padded LR."""
    width, stride = model.dfe.width, model.search.stride
    tile = max(part(model, margins, stride, stride, whole) for part in (tile_bytes, first_bytes)) / TILE_SHARE
    if not references:
        return tile + held_bytes(model, whole)
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
    model: Network, margins: Margins, height: int, width: int, whole: Window, precision: torch.dtype = torch.float32
) -> float:
    """Peak memory of a tile of `height` x `width` cells, by the sizes of its maps."""
    channels = model.ife.head.out_channels

    largest = area(height, width, margins.entered[2] + 2, whole)
    fusion = 16 * largest * (10 * channels + (model.stm.u + 3) * model.dfe.width)
    synthesised, tail = (area(height, width, margin, whole) for margin in (margins.synthesised[2], 2))
    levels = 16 * (synthesised * 8 + tail) * channels
    return BESIDE + _BYTES[precision.itemsize] * max(fusion, levels)


def first_bytes(
    model: Network, margins: Margins, height: int, width: int, whole: Window, precision: torch.dtype = torch.float32
) -> float:
    """Peak memory of a tile of `height` x `width` cells of IFE and the first stage of CSFI."""
    u, channels = model.stm.u, model.ife.head.out_channels
    numbers = 10 * channels + (u + 3) * 4 * model.dfe.width
    sources = 9 * u * _SOURCE / model.search.stride**2
    per_cell = _BYTES[precision.itemsize] * numbers + sources
    return BESIDE + per_cell * area(height, width, margins.entered[0] + 2, whole)


def area(height: int, width: int, margin: int, whole: Window) -> int:
    """Cells of a tile with its margin, which the image's edges limit."""
    return min(height + 2 * margin, whole.height) * min(width + 2 * margin, whole.width)
