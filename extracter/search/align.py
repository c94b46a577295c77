"""Alignment: move each match by whole pixels to where query and reference agree best, and say how well they do.

The search compares patches on a grid of feature cells, 4 pixels of the image apart (8 where s = 2), so a copied texture
is up to half a cell off its place even where the match is right. At full size LR_up and Ref_du can be compared at every
pixel. For each match this module tries all whole-pixel offsets around it and keeps the one with the highest zero-mean
normalised cross-correlation (ZNCC), which ignores differences of brightness and contrast. The correlation itself, and
whether neighbouring queries moved alike, tell the gate (`extracter.models.gate`) how far a match can be trusted.

The paper has no such step; `model.align` turns it on.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from extracter.search.align_loops import align_queries
from extracter.search.block_grid import constants, locate
from extracter.search.key_table import parallel
from extracter.search.search import Matches, SearchConfig

# Standard deviation of a window, in [-1, 1], below which it counts as flat: one grey level of 8 bits.
_FLAT = 1 / 127.5
# Largest loss of correlation accepted to stay at the centre: decides between offsets that are equally good.
_CENTRE = 1e-3
# Bytes of windows of the references that are compared at once.
_AT_ONCE = 2**28
# Kinds of evidence for each match; see `align`.
EVIDENCE = 4


def radius(config: SearchConfig) -> int:
    """Largest offset in pixels: half a cell, and one pixel more."""
    return 2 * config.stride + 1


@torch.no_grad()
def align(lr_up: Tensor, refs_du: Sequence[Tensor], matches: Matches, config: SearchConfig) -> Matches:
    """Align every match of a search.

    Example:
        >>> lr_up = torch.rand(1, 3, 64, 64)
        >>> matches = Matches(torch.arange(256).view(1, 1, -1), torch.ones(1, 1, 256), 256)
        >>> align(lr_up, [lr_up], matches, SearchConfig(3, 1, 1)).offsets.abs().max()
        tensor(0)

    Args:
        lr_up: N, 3, 4h, 4w in [-1, 1]; h and w as `config.padded` gives them.
        refs_du: N, 3, 4 h_ref, 4 w_ref each, in the order of the search.
        matches: of the search.
        config: patches of the search; k = 3s and p = s.

    Returns:
        The matches with `offsets`, and with the evidence for each of them: ZNCC in [-1, 1] at the offset; the share of
        the 8 neighbouring queries that have a match with the same displacement; the mean of the query's window minus
        that of the reference's; the logarithm of the ratio of their standard deviations.

    Raises:
        ValueError: the patches are not of that kind.
    """
    if not config.has_blocks:
        raise ValueError(f"alignment needs patches with k = 3s and p = s, not {config.kernel}, {config.stride}")
    cell, reach = 4 * config.stride, radius(config)
    rows, columns = lr_up.shape[-2] // cell, lr_up.shape[-1] // cell
    keys = [pad_grey(grey(ref), cell + reach) for ref in refs_du]
    grids = [(ref.shape[-2] // cell, ref.shape[-1] // cell) for ref in refs_du]
    offsets, statistics = compare(pad_grey(grey(lr_up), cell), keys, grids, matches.indices, config)
    displacement = displacements(matches.indices, offsets, grids, columns, cell).unflatten(3, (rows, columns))
    zncc, shift, ratio = statistics.unbind(2)
    evidence = torch.stack((zncc, agreement(displacement, cell // 2).flatten(2), shift, ratio), 2)
    return matches._replace(offsets=offsets, evidence=evidence)


def grey(image: Tensor) -> Tensor:
    """Mean of the channels of N, 3, H, W: float32, N, H, W."""
    return image.float().mean(1)


def pad_grey(image: Tensor, border: int) -> Tensor:
    """N, H, W with its edges repeated: N, H + 2 border, W + 2 border."""
    return F.pad(image.unsqueeze(1), (border,) * 4, mode="replicate").squeeze(1)


def compare(
    query: Tensor, keys: Sequence[Tensor], grids: Sequence[tuple[int, int]], indices: Tensor, config: SearchConfig
) -> tuple[Tensor, Tensor]:
    """Find the best offset of each match.

    Args:
        query: N, 4h + 2 cell, 4w + 2 cell: grey LR_up, or rows of it, with a border; a cell has 4s pixels.
        keys: N, H, W each: grey Ref_du with a border of a cell and the radius.
        grids: rows and columns of each reference's keys.
        indices: int64, N, u, Q: the matches of the queries in `query`.
        config: patches of the search.

    Returns:
        Offsets, int64, N, u, Q, 2; ZNCC, difference of means, log-ratio of standard deviations, N, u, 3, Q.
    """
    by_loop = align_queries is not None and query.device.type == "cpu"
    how = _compare_by_loop if by_loop else _compare_in_parallel
    return how(query, keys, grids, indices, 4 * config.stride, radius(config))


def _compare_by_loop(
    query: Tensor, keys: Sequence[Tensor], grids: Sequence[tuple[int, int]], indices: Tensor, cell: int, reach: int
) -> tuple[Tensor, Tensor]:
    """`compare` on the CPU."""
    batch, u, count = indices.shape
    offsets = torch.zeros(batch, u, count, 2, dtype=torch.long)
    statistics = torch.zeros(batch, u, 3, count)
    for n in range(batch):
        first = 0
        pattern, chosen = query[n].contiguous().numpy(), indices[n].contiguous().numpy()
        for key, grid in zip(keys, grids, strict=True):
            images = pattern, key[n].contiguous().numpy(), chosen
            settings = first, *grid, cell, reach, _FLAT, _CENTRE, offsets[n].numpy(), statistics[n].numpy()
            parallel(lambda start, stop: align_queries(*images, start, stop, *settings), 0, count)  # noqa: B023
            first += grid[0] * grid[1]
    return offsets, statistics


def _compare_in_parallel(
    query: Tensor, keys: Sequence[Tensor], grids: Sequence[tuple[int, int]], indices: Tensor, cell: int, reach: int
) -> tuple[Tensor, Tensor]:
    """`compare` by PyTorch's operations, for many matches at once."""
    side, tries = 3 * cell, 2 * reach + 1
    windows = F.unfold(query.unsqueeze(1), side, stride=cell).mT  # N, Q, side side
    means = windows.mean(2, keepdim=True)
    windows = windows - means
    deviations = windows.square().mean(2, keepdim=True).sqrt()
    windows = windows / (deviations.clamp(min=_FLAT) * side)  # of unit norm unless flat
    number, row, column = locate(indices, grids)
    begin = constants((0, *(key.shape[-2] * key.shape[-1] for key in keys)), query.device).cumsum(0)[number]
    width = constants(tuple(key.shape[-1] for key in keys), query.device)[number]
    start = begin + row * cell * width + column * cell  # the first pixel of each match's window among all pixels
    flat = torch.cat([key.flatten(1) for key in keys], 1)  # N, pixels of all references
    line = torch.arange(side + 2 * reach, device=query.device)
    steps = torch.arange(-reach, reach + 1, device=query.device).abs()
    penalty = _CENTRE * (steps.view(-1, 1) + steps.view(1, -1)).flatten() / (2 * reach)
    batch, u, count = indices.shape
    at_once = max(1, _AT_ONCE // (4 * batch * u * side * side * tries))
    found = []
    for part in torch.arange(count, device=query.device).split(at_once):
        where = start[:, :, part, None, None] + line.view(-1, 1) * width[:, :, part, None, None] + line
        key = flat.gather(1, where.flatten(1)).view(-1, len(line), len(line))  # N u q, side + 2 reach squared
        pattern = windows[:, None, part].expand(-1, u, -1, -1).reshape(-1, side, side)
        products = [  # one row of offsets at a time, which bounds the copies that a product needs
            torch.einsum("mik,mijk->mj", pattern, key[:, y : y + side].unfold(2, side, 1)) for y in range(tries)
        ]
        mean = F.avg_pool2d(key.unsqueeze(1), side, 1).flatten(1)
        variance = (F.avg_pool2d(key.square().unsqueeze(1), side, 1).flatten(1) - mean.square()).clamp(min=0)
        zncc = torch.stack(products, 1).flatten(1) / (variance.sqrt().clamp(min=_FLAT) * side)
        best = (zncc - penalty).argmax(1, keepdim=True)
        here = [x.gather(1, best).view(batch, u, -1) for x in (zncc, mean, variance.sqrt())]
        here[1] = means[:, None, part, 0] - here[1]
        spread = deviations[:, None, part, 0].clamp(min=_FLAT)
        here[2] = (spread / here[2].clamp(min=_FLAT)).log()
        offset = torch.stack((best.div(tries, rounding_mode="floor"), best % tries), 2) - reach
        found.append((offset.view(batch, u, -1, 2), torch.stack(here, 2)))
    return torch.cat([offset for offset, _ in found], 2), torch.cat([values for _, values in found], 3)


def displacements(
    indices: Tensor, offsets: Tensor, grids: Sequence[tuple[int, int]], columns: int, cell: int, first: int = 0
) -> Tensor:
    """Where each match lies, seen from its query: N, u, 3, Q; reference, and pixels down and right.

    Args:
        indices: N, u, Q: matches of consecutive queries.
        offsets: N, u, Q, 2.
        grids: rows and columns of each reference's keys.
        columns: of the queries.
        cell: pixels between queries.
        first: row of the first query.
    """
    number, row, column = locate(indices, grids)
    query = torch.arange(indices.shape[2], device=indices.device)
    down = (row - first - query.div(columns, rounding_mode="floor")) * cell + offsets[..., 0]
    right = (column - query % columns) * cell + offsets[..., 1]
    return torch.stack((number, down, right), 2)


def agreement(displacement: Tensor, tolerance: int) -> Tensor:
    """Share of the 8 neighbours of each query that have a match of nearly the same displacement, N, u, rows, columns.

    Neighbours may differ by `tolerance` pixels, as they do where the reference is scaled or turned. Beyond the image
    nothing agrees.

    Args:
        displacement: N, u, 3, rows, columns.
        tolerance: pixels.
    """
    rows, columns = displacement.shape[-2:]
    # References are told apart by a displacement that no image has.
    moved = displacement.float()
    moved = moved[:, :, 1:] + moved[:, :, :1] * 2**20
    padded = F.pad(moved, (1, 1, 1, 1), value=-(2.0**30))
    votes = torch.zeros_like(moved[:, :, 0])
    for y, x in ((y, x) for y in range(3) for x in range(3) if (y, x) != (1, 1)):
        near = padded[..., y : y + rows, x : x + columns]
        distance = (moved.unsqueeze(2) - near.unsqueeze(1)).abs().amax(3)  # N, u, u of the neighbour, rows, columns
        votes += (distance.amin(2) <= tolerance).float()
    return votes / 8
