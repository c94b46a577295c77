"""Super-resolution of one image within a memory budget."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from extracter.device import full_float32
from extracter.errors import UserError
from extracter.inference.tiling import approximate
from extracter.inference.tiling.features import Features
from extracter.inference.tiling.network import Margins, Network, Tile, channel_means, density_bounds
from extracter.inference.tiling.search import Search, least_bytes
from extracter.inference.tiling.textures import Textures
from extracter.inference.tiling.trust import align_whole, weigh_whole
from extracter.inference.tiling.trust import least_bytes as trust_bytes
from extracter.inference.tiling.windows import Inputs, InsufficientMemoryError, Picture, Window, from_signed
from extracter.memory import MIB, malloc_return, malloc_reuse, malloc_trim
from extracter.models.dpfsr import DPFSR
from extracter.search.search import Matches, SearchConfig
from extracter.search.stm import with_repeats

# Memory of a tile whose layers use freed memory again, over that of one whose layers return it; measured.
_REUSE = 1.6
_REUSE_TIME = 0.7  # likewise, of time
TILE_SHARE = 0.75  # of the memory, at most, for a tile
_BESIDE = 48 * MIB  # of a tile, for scratch memory of convolutions and one part of reference features
Report = Callable[[str, int, int], None]


@full_float32()
@torch.inference_mode()
def super_resolve(
    model: Network,
    inputs: Inputs,
    *,
    memory: float,
    precision: torch.dtype = torch.float32,
    reuse: bool = False,
    report: Report = lambda phase, done, total: None,
) -> tuple[np.ndarray, Matches]:
    """What `model(lr, lr_up, refs, refs_du)` gives, with no more memory than asked for.

    The search runs once over whole references. The network behind it runs tile by tile, each with the margin that its
    convolutions reach, so tiles meet without a seam.

    Args:
        model: in evaluation mode, on the device where it is to run; its search has blocks (k = 3s, p = s).
        inputs: the images.
        memory: bytes on that device, beyond the weights and, on the CPU, the images themselves.
        precision: of the network behind the search, which itself stays in float32.
        reuse: on the CPU let layers use freed memory again where there is enough of it, a third less time; a setting
            of the whole process while the network runs.
        report: called with (phase, done, total).

    Returns:
        SR, (4h, 4w, 3) of the type of `inputs.lr`; and the matches over the padded image.

    Raises:
        UserError: the least tile does not fit the memory.
        ValueError: the search has no blocks.
    """
    config = model.search
    if not config.has_blocks:
        raise ValueError(f"patches of {config.kernel} every {config.stride} have no blocks; take k = 3s and p = s")
    device = next(model.parameters()).device
    if device.type == "cpu":
        malloc_trim()

    def features(pixels: np.ndarray) -> Features:
        cells = (-(-side // 4) for side in pixels.shape[:2])
        return Features(model.dfe, Picture(pixels, 4, tuple(config.padded(side) for side in cells), device))

    height, width = inputs.lr.shape[:2]
    padded = (config.padded(height), config.padded(width))
    lr, lr_up = Picture(inputs.lr, 1, padded, device), Picture(inputs.lr_up, 4, padded, device)
    keys = [features(image) for image in inputs.refs_du]
    margins = Margins.of(model)
    needed = least_needed(model, margins, lr.whole, [key.whole for key in keys])
    if needed > memory:
        raise InsufficientMemoryError(needed)
    search = approximate.ApproximateSearch if config.method == "approximate" else Search
    matches = search(
        Features(model.dfe, lr_up), keys, model.stm.u, config, memory,
        lambda done, total: report("search", done, total),
    ).run()  # fmt: skip
    if model.stm.repeats:
        matches = with_repeats(matches)
    weighed = matches
    if model.stm.align:
        weighed = weigh_whole(lr, align_whole(lr_up, [key.picture for key in keys], matches, model), model)
    rows, columns = (side // config.stride for side in padded)
    indices, scores = (x[0].view(-1, rows, columns) for x in (weighed.indices, weighed.scores))
    tiles, rest = plan_tiles(model, margins, lr.whole, memory)
    if reuse := reuse and device.type == "cpu":
        smaller, less = plan_tiles(model, margins, lr.whole, memory, _REUSE)
        # Smaller tiles have more margin; beyond this point that costs more than it gains.
        if reuse := _REUSE_TIME * _area(smaller, margins, lr.whole) <= _area(tiles, margins, lr.whole):
            tiles, rest = smaller, less
    references = [features(image) for image in inputs.refs]
    offsets = None if weighed.offsets is None else weighed.offsets[0].unflatten(1, (rows, columns))
    textures = Textures(references, indices, config.stride, rest, offsets, model.stm.constant_coverage)
    bounds = density_bounds(lr) if model.gde is not None and model.gde.gradient == "normalised" else None
    means = channel_means(model.ife, lr, TILE_SHARE * memory) if isinstance(model, DPFSR) else None
    sr = np.empty((4 * height, 4 * width, 3), inputs.lr.dtype)
    if reuse:
        malloc_reuse()
    for number, inner in enumerate(tiles):
        if device.type == "cpu":
            malloc_trim()  # small maps leave the heap in pieces, which grow from tile to tile
        with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
            result = Tile(model, margins, lr, textures.cut, scores, inner, bounds, means).run().float()
        if model.bicubic_skip:
            result += lr_up.cut(inner)
        part = sr[4 * inner.top : 4 * inner.bottom, 4 * inner.left : 4 * inner.right]
        part[:] = from_signed(result.clamp_(-1, 1), sr.dtype)[: part.shape[0], : part.shape[1]]
        report("network", number + 1, len(tiles))
    if reuse:
        malloc_return()
    return sr, matches


def plan_tiles(
    model: Network, margins: Margins, whole: Window, memory: float, slack: float = 1.0
) -> tuple[list[Window], float]:
    """The fewest tiles that fit the memory, and the bytes that are left for features of the reference.

    Args:
        model: the network.
        margins: of the network.
        whole: the padded image.
        memory: bytes; three quarters of them at most are for a tile, and of the rest three quarters keep features of
            the reference.
        slack: by how much the memory of a tile exceeds `tile_bytes`; the least tiles do without.
    """
    stride = model.search.stride
    longest = max(whole.height, whole.width)
    count = 1
    while True:
        edge = -(-longest // count // stride) * stride if count > 1 else longest
        needed = tile_bytes(model, margins, edge, whole) * (slack if edge > stride else 1.0)
        if needed <= TILE_SHARE * memory:
            return whole.split(edge, edge), 0.75 * (memory - needed)
        if edge <= stride:
            raise InsufficientMemoryError(needed / TILE_SHARE)
        count += 1


def _area(tiles: Sequence[Window], margins: Margins, whole: Window) -> int:
    """Cells at full size that tiles compute with their margins, by which their time goes."""
    grown = [tile.grow(margins.entered[2], whole) for tile in tiles]
    return sum(window.height * window.width for window in grown)


def least_needed(model: Network, margins: Margins, whole: Window, references: Sequence[Window]) -> float:
    """The least bytes for search and tiles, on the CPU; `whole` is the padded LR."""
    width, stride = model.dfe.width, model.search.stride
    tile = tile_bytes(model, margins, stride, whole) / TILE_SHARE
    if model.search.method == "approximate":
        needed = approximate.least_bytes(width, stride, whole, references, model.stm.u)
    else:
        needed = least_bytes(width, stride, whole, references)
    aligned = 0.0
    if model.stm.align:
        aligned = trust_bytes(whole.height * whole.width // stride**2, model.stm.u, references)
    return max(tile, needed) + aligned


def tile_bytes(model: Network, margins: Margins, edge: int, whole: Window) -> float:
    """Peak memory of a tile of `edge` x `edge` cells, by the sizes of its maps; the factors were measured."""
    channels = model.ife.head.out_channels
    width, u = model.dfe.width, model.stm.u

    def area(cells: int) -> int:
        return min(edge + 2 * cells, whole.height) * min(edge + 2 * cells, whole.width)

    entered = [area(cells + 2) for cells in margins.entered]
    fusion = 16 * entered[2] * (10 * channels + (u + 3) * width)
    coarse = entered[0] * (10 * channels + (u + 3) * 4 * width)
    levels = 16 * area(margins.synthesised[2]) * 8 * channels
    return _BESIDE + 4 * max(fusion, coarse, levels + 16 * area(2) * channels)


def search_with_kernel(model: Network, kernel: int | None) -> SearchConfig:
    """The network's search with another kernel: stride and padding become a third of it.

    Args:
        model: the network.
        kernel: a multiple of 3; None keeps the network's own.

    Raises:
        UserError: the kernel, or the network's own, is not of that kind.
    """
    config = model.search if kernel is None else model.search.with_kernel(kernel)
    if not config.has_blocks:
        raise UserError(
            f"this model's search (kernel {config.kernel}, stride {config.stride}, padding {config.padding}) cannot be "
            "tiled; choose --kernel 3, 6 or 12"
        )
    return config
