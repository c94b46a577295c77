"""Super-resolution of one image within a memory budget."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from extracter.device import full_float32
from extracter.errors import UserError
from extracter.inference.tiling import budget
from extracter.inference.tiling.approximate import search_approximately
from extracter.inference.tiling.copies import prefer_copies
from extracter.inference.tiling.features import Features
from extracter.inference.tiling.network import Margins, Network, Tile, channel_means, density_bounds
from extracter.inference.tiling.search import Search
from extracter.inference.tiling.textures import Textures
from extracter.inference.tiling.trust import align_whole, weigh_whole
from extracter.inference.tiling.windows import Inputs, InsufficientMemoryError, Picture, Window, from_signed
from extracter.memory import malloc_reuse, malloc_trim
from extracter.models.dpfsr import DPFSR
from extracter.models.refsr import RefSR
from extracter.search.search import Matches, SearchConfig
from extracter.search.stm import with_repeats

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
) -> tuple[np.ndarray, Matches | None]:
    """What `model(lr, lr_up, refs, refs_du)` gives, with no more memory than asked for.

    The search runs once over whole references. The network behind it runs tile by tile, each with the margin that its
    convolutions reach, so tiles meet without a seam.

    Args:
        model: in evaluation mode, on the device where it is to run; its search has blocks (k = 3s, p = s).
        inputs: the images; without references for networks that need none.
        memory: bytes on that device, beyond the weights and, on the CPU, the images themselves.
        precision: of the network after the search, which itself stays in float32.
        reuse: on the CPU let layers use freed memory again where there is enough of it, a third less time. It is a
            setting of the whole process, which `extracter.memory.malloc_return` takes back.
        report: called with (phase, done, total).

    Returns:
        SR, (4h, 4w, 3) of the type of `inputs.lr`; and the matches over the padded image, None without a reference.

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
    needed = budget.least_needed(model, margins, lr.whole, [key.whole for key in keys])
    if needed > memory:
        raise InsufficientMemoryError(needed)
    matches, scores, copied = None, None, None
    if keys:
        matches = _search(model, Features(model.dfe, lr_up), keys, inputs.places, memory, partial(report, "search"))
        weighed = matches
        if model.stm.align:
            weighed = weigh_whole(lr, align_whole(lr_up, [key.picture for key in keys], matches, model), model)
        grid = (padded[0] // config.stride, padded[1] // config.stride)
        # Maps that are multiplied by scores stay as small as the convolutions' results.
        scores = weighed.scores[0].unflatten(1, grid).to(precision)
        copied = partial(_textures, model, [features(image) for image in inputs.refs], weighed, grid)
    memory -= budget.held_bytes(model, lr.whole, precision)
    bounds = density_bounds(lr) if model.gde is not None and model.gde.gradient == "normalised" else None
    means = channel_means(model.ife, lr, budget.TILE_SHARE * memory) if isinstance(model, DPFSR) else None

    def plan(needed: Callable, slack: float = 1.0) -> tuple[list[Window], float]:
        bytes_of = partial(needed, model, margins, whole=lr.whole, precision=precision)
        return budget.plan_tiles(bytes_of, lr.whole, config.stride, memory, slack)

    tiles, rest = plan(budget.tile_bytes)
    if reuse := reuse and device.type == "cpu":
        smaller, less = plan(budget.tile_bytes, budget.REUSE)
        if reuse := budget.reuse_pays(tiles, smaller, margins, lr.whole):
            tiles, rest = smaller, less
            malloc_reuse()
    larger, kept = plan(budget.first_bytes, budget.REUSE if reuse else 1.0)
    textures = copied(kept, levels=(2,)) if copied else None
    first = torch.empty(1, model.ife.head.out_channels, *padded, dtype=precision, device=device)
    for inner in larger:
        with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
            tile = Tile(model, margins, lr, textures, scores, inner, means=means)
            inner.of(first, lr.whole, 1)[:] = tile.first_stage()
        report("network", 0, len(tiles))
    textures = copied(rest, levels=(1, 0)) if copied else None

    def run(inner: Window) -> Tensor:
        return Tile(model, margins, lr, textures, scores, inner, first, bounds).run()

    return compose(model, run, tiles, lr_up, inputs, precision, report), matches


def _search(
    model: Network,
    query: Features,
    keys: Sequence[Features],
    places: Sequence[tuple[int, int] | None],
    memory: float,
    report: Callable[[int, int], None],
) -> Matches:
    """Matches over the padded image, in whole references."""
    arguments = query, keys, model.stm.u, model.search, memory, report
    matches = search_approximately(*arguments) if model.search.method == "approximate" else Search(*arguments).run()
    if model.stm.repeats:
        matches = with_repeats(matches)
    return prefer_copies(matches, query, keys, places, model.search.stride) if any(places) else matches


def _textures(
    model: Network,
    references: Sequence[Features],
    matches: Matches,
    grid: tuple[int, int],
    memory: float,
    levels: Sequence[int],
) -> Callable[[Window, int], list[Tensor]]:
    """What gives the textures of a window at one of `levels`: copies of the references."""
    indices = matches.indices[0].unflatten(1, grid)
    offsets = None if matches.offsets is None else matches.offsets[0].unflatten(1, grid)
    return Textures(references, indices, model.search.stride, memory, offsets, model.stm.constant_coverage, levels).cut


def compose(
    model: RefSR,
    run: Callable[[Window], Tensor],
    tiles: Sequence[Window],
    lr_up: Picture,
    inputs: Inputs,
    precision: torch.dtype,
    report: Report,
) -> np.ndarray:
    """Put SR together from its tiles.

    Args:
        model: which says whether tiles are added to LR_up.
        run: computes a tile, 1, 3, 4 height, 4 width, not yet clamped.
        tiles: they cover LR.
        lr_up, inputs: the images.
        precision: of `run`.
        report: called with ("network", done, total).

    Returns:
        (4h, 4w, 3) of the type of `inputs.lr`.
    """
    height, width = inputs.lr.shape[:2]
    sr = np.empty((4 * height, 4 * width, 3), inputs.lr.dtype)
    for number, inner in enumerate(tiles):
        if lr_up.device.type == "cpu":
            malloc_trim()  # small maps leave the heap in pieces, which grow from tile to tile
        with torch.autocast(lr_up.device.type, dtype=precision, enabled=precision != torch.float32):
            result = run(inner).float()
        if model.bicubic_skip:
            result += lr_up.cut(inner)
        part = sr[4 * inner.top : 4 * inner.bottom, 4 * inner.left : 4 * inner.right]
        part[:] = from_signed(result.clamp_(-1, 1), sr.dtype)[: part.shape[0], : part.shape[1]]
        report("network", number + 1, len(tiles))
    return sr


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
