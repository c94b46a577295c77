"""Patches of k = 3s, p = s as 3 x 3 neighbourhoods on a grid of s x s blocks; search and transfer share it."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F


def grid_of(x: Tensor, block: int) -> tuple[int, int]:
    """Rows and columns of blocks in N, C, h, w."""
    return x.shape[-2] // block, x.shape[-1] // block


def to_blocks(x: Tensor, block: int) -> Tensor:
    """N, C, h, w to N, rows, columns, C block block."""
    return F.pixel_unshuffle(x, block).permute(0, 2, 3, 1).contiguous()


def im2row(image: Tensor, row: int, block: int, pixels_first: bool, buffer: Tensor) -> Tensor:
    """One row of blocks of C, h, w, laid out into `buffer`, columns, C block block, which is returned.

    Args:
        image: C, h, w.
        row: number of the row of blocks.
        block: side of a block.
        pixels_first: order within a block: pixel by pixel, which is fast where the image is channels-last, or channel
            by channel.
        buffer: columns, C block block, contiguous.
    """
    cut = image[:, row * block : (row + 1) * block].unflatten(2, (-1, block))  # C, block, columns, block
    cut = cut.permute((2, 1, 3, 0) if pixels_first else (2, 0, 1, 3))
    buffer.view(cut.shape).copy_(cut)
    return buffer


def inverse_norms(x: Tensor, block: int) -> Tensor:
    """1 / norm of each patch, N, rows, columns; an all-zero patch has 1e12, so that it scores 0 like `normalize`'s."""
    # By a norm, since it reduces without a copy of x.
    norms = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
    squares = F.avg_pool2d(norms.square(), block) * block**2
    # Clamped before the root, whose slope at 0 would be infinite.
    return (F.avg_pool2d(squares, 3, stride=1, padding=1) * 9).clamp(min=1e-24).rsqrt().squeeze(1)


def neighbour_index(grids: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    """The block at each of the nine offsets from each patch's middle, 9, patches; the number of blocks where outside.

    Blocks and patches of several grids count on from one another.
    """
    total = sum(rows * columns for rows, columns in grids)
    maps, start = [], 0
    for rows, columns in grids:
        grid = torch.arange(start, start + rows * columns, device=device).view(1, 1, rows, columns)
        padded = F.pad(grid, (1, 1, 1, 1), value=total)
        shifts = [padded[0, 0, dy : dy + rows, dx : dx + columns] for dy in range(3) for dx in range(3)]
        maps.append(torch.stack(shifts).flatten(1))
        start += rows * columns
    return torch.cat(maps, dim=1)


@lru_cache(maxsize=256)
def constants(values: tuple[int, ...], device: torch.device) -> Tensor:
    """Integers as a tensor on a device, kept: to bring them there makes the host wait for a GPU."""
    with torch.inference_mode(False):  # so that training may use what inference made
        return torch.tensor(values, device=device)


def locate(indices: Tensor, grids: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Reference, row and column of keys that are counted on from one reference to the next; shaped as `indices`."""
    counts = constants(tuple(rows * columns for rows, columns in grids), indices.device)
    ends = counts.cumsum(0)
    number = torch.bucketize(indices.contiguous(), ends, right=True).clamp(max=len(grids) - 1)
    within = indices - (ends - counts)[number]
    across = constants(tuple(columns for _, columns in grids), indices.device)[number]
    return number, within.div(across, rounding_mode="floor"), within % across


def to_inner(indices: Tensor, grids: Sequence[tuple[int, int]]) -> Tensor:
    """Count keys over the inside of each grid, without its outer ring, instead of over the whole; keys lie inside."""
    inside = [(rows - 2, columns - 2) for rows, columns in grids]
    return _recount(indices, grids, inside, -1)


def to_outer(indices: Tensor, grids: Sequence[tuple[int, int]]) -> Tensor:
    """The inverse of `to_inner`."""
    inside = [(rows - 2, columns - 2) for rows, columns in grids]
    return _recount(indices, inside, grids, 1)


def _recount(indices: Tensor, old: Sequence[tuple[int, int]], new: Sequence[tuple[int, int]], move: int) -> Tensor:
    number, row, column = locate(indices, old)
    counts = constants(tuple(rows * columns for rows, columns in new), indices.device)
    across = constants(tuple(columns for _, columns in new), indices.device)
    return (counts.cumsum(0) - counts)[number] + (row + move) * across[number] + column + move


def block_sources(neighbours: Tensor, indices: Tensor, rows: int, columns: int, ring: int = 0) -> Tensor:
    """The nine blocks that meet in each output block, N, u, rows, columns, 9; the number of blocks where outside.

    Args:
        neighbours: as `neighbour_index` gives them.
        indices: N, u, Q: the matches of each query.
        rows: of output blocks.
        columns: of output blocks.
        ring: output blocks at each edge that are the middle of no query.
    """
    picked = neighbours[:, indices].unflatten(3, (rows - 2 * ring, columns - 2 * ring))
    padded = F.pad(picked, (1 + ring,) * 4, value=neighbours.shape[1])
    # A query at b - d lends its block d to output block b: shift each offset's map by d.
    shifts = [(2 - d // 3, 2 - d % 3) for d in range(9)]
    return torch.stack(
        [padded[d, :, :, y : y + rows, x : x + columns] for d, (y, x) in enumerate(shifts)], -1
    )  # N, u, rows, columns, 9
