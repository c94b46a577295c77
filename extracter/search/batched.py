"""The block search in few large operations, and without a value that the host would have to wait for.

This is the way of CUDA, where a small operation costs as much as a large one, and of every device where the compiled
loop of `numba_loops` does not serve. Query and key are cut into blocks with a border of zero blocks, so that the 3 x 3
sum along diagonals is four additions of shifted tiles.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from extracter.search.block_grid import grid_of, inverse_norms, to_blocks

# Scores of a query that are compared as one group before any of them is looked at alone.
_GROUP = 64
# Scores of a query from which groups are worth it.
_GROUPED = 512
# Rows of blocks in a tile: with fewer, most of a tile is the rows that it shares with its neighbours.
_ROWS = 8


class Keys(NamedTuple):
    """One reference, prepared.

    Attributes:
        features: N, C, h, w.
        weights: N, rows, columns: 1 / norm of each key.
        barred: N, rows, columns: keys to leave out; None for none.
        start: index of the first key.
    """

    features: Tensor
    weights: Tensor
    barred: Tensor | None
    start: int


def batched_topk(
    query: Tensor, keys: Sequence[Tensor], u: int, stride: int, tile_bytes: float, allowed: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The best u of all keys or of those `allowed`, tile by tile.

    Args:
        query: N, C, h, w; sides are multiples of `stride`.
        keys: N, C, any such sides, for each reference.
        u: keys for each query.
        stride: s, side of a block.
        tile_bytes: memory of one tile of scores, of which three exist at once.
        allowed: bool, N, keys; None for all.

    Returns:
        Scores (without the query's norm, -inf where there are fewer keys) and indices, N, rows, columns, u. Scores
        fall; equal ones rise by index.
    """
    blocks = _bordered_blocks(query, stride)
    shape = (query.shape[0], *grid_of(query, stride), u)
    best = blocks.new_full(shape, -torch.inf)
    indices = torch.zeros(shape, dtype=torch.long, device=query.device)
    for key in prepared_keys(keys, stride, allowed):
        key_blocks = _bordered_blocks(key.features, stride)
        _, key_rows, key_columns = key.weights.shape
        height, key_height = _tile_shape(blocks, key_blocks, tile_bytes)
        for top in range(0, key_rows, key_height):  # rising, so that equal scores are found in the order of indices
            bottom = min(top + key_height, key_rows)
            for first in range(0, shape[1], height):
                rows = slice(first, min(first + height, shape[1]))
                scores = _scores(blocks[:, first : rows.stop + 2], key_blocks, key, top, bottom)
                found, where = stable_topk(scores, u)
                where += key.start + top * key_columns
                best[:, rows], indices[:, rows] = merge_topk(best[:, rows], indices[:, rows], found, where)
    return best, indices


def images_in_one_tile(query: Tensor, keys: Sequence[Tensor], stride: int, tile_bytes: float) -> int:
    """Images of a batch whose scores are one tile, for `topk_in_one_tile`; 0 where not even those of one image are."""
    sides = [grid_of(x, stride) for x in (query, *keys)]
    queries, *counts = ((rows + 2) * (columns + 2) for rows, columns in sides)
    size = torch.promote_types(query.dtype, torch.float32).itemsize
    return min(len(query), int(tile_bytes / (queries * sum(counts) * size)))


def topk_in_one_tile(
    query: Tensor, keys: Sequence[Tensor], u: int, stride: int, two_stage: bool, allowed: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The best u keys where one tile holds all scores: both stages of Eq. 5 then take one pass.

    Args:
        query: as for `batched_topk`.
        keys: as for `batched_topk`.
        u: keys for each query.
        stride: s, side of a block.
        two_stage: restrict them to the keys that are some query's best.
        allowed: as for `batched_topk`.

    Returns:
        Scores (without the query's norm, -inf where there are fewer keys) and indices, N, Q, u.
    """
    blocks = _bordered_blocks(query, stride)
    parts = [
        _scores(blocks, _bordered_blocks(key.features, stride), key, 0, key.weights.shape[1]).flatten(1, 2)
        for key in prepared_keys(keys, stride, allowed)
    ]
    scores = torch.cat(parts, 2) if len(parts) > 1 else parts[0]  # N, Q, K
    if two_stage:
        best = torch.zeros(len(scores), scores.shape[2], dtype=torch.bool, device=scores.device)
        best.scatter_(1, scores.argmax(2), True)
        scores.masked_fill_(~best.unsqueeze(1), -torch.inf)
    values, indices = stable_topk(scores, u)
    missing = u - values.shape[2]
    if missing:
        values, indices = F.pad(values, (0, missing), value=-torch.inf), F.pad(indices, (0, missing))
    return values, indices


def stable_topk(scores: Tensor, u: int) -> tuple[Tensor, Tensor]:
    """The best u along the last side, falling, and their indices, of which equal scores have the lowest.

    `topk` does not promise which of equal scores it takes, and flat parts of an image have hundreds of them. The best
    u of many lie in the u groups of highest maximum (of equal ones the first), so only those are sorted.

    Args:
        scores: ..., K.
        u: how many; K of them where K is less.
    """
    count = scores.shape[-1]
    u = min(u, count)
    if count <= _GROUPED or count <= u * _GROUP:
        values, order = scores.sort(dim=-1, descending=True, stable=True)
        return values[..., :u], order[..., :u]
    whole = count // _GROUP * _GROUP
    maxima = scores[..., :whole].unflatten(-1, (-1, _GROUP)).amax(-1)
    if whole < count:
        maxima = torch.cat((maxima, scores[..., whole:].amax(-1, keepdim=True)), -1)
    groups = maxima.sort(dim=-1, descending=True, stable=True).indices[..., :u]
    groups = groups.sort(dim=-1).values  # so that candidates stand in the order of indices
    positions = (groups.unsqueeze(-1) * _GROUP + torch.arange(_GROUP, device=scores.device)).flatten(-2)
    candidates = scores.gather(-1, positions.clamp(max=count - 1))
    if whole < count:
        candidates.masked_fill_(positions >= count, -torch.inf)
    values, order = candidates.sort(dim=-1, descending=True, stable=True)
    return values[..., :u], positions.gather(-1, order[..., :u])


def merge_topk(best: Tensor, indices: Tensor, found: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    """The best of two rankings along the last side, of which the second has the higher indices.

    Args:
        best: ..., u: falling scores.
        indices: ..., u.
        found: ..., any number: falling scores.
        where: their indices.
    """
    values, order = torch.cat((best, found), -1).sort(dim=-1, descending=True, stable=True)
    u = best.shape[-1]
    return values[..., :u], torch.cat((indices, where), -1).gather(-1, order[..., :u])


def _bordered_blocks(x: Tensor, stride: int) -> Tensor:
    """N, rows + 2, columns + 2, D, with zeros around, at least in float32: sums of nine rounded products are no use."""
    blocks = to_blocks(x, stride)
    return F.pad(blocks.to(torch.promote_types(x.dtype, torch.float32)), (0, 0, 1, 1, 1, 1))


def prepared_keys(keys: Sequence[Tensor], stride: int, allowed: Tensor | None) -> Iterator[Keys]:
    """Each reference with its keys' norms; those not `allowed`, bool, N, keys, are barred, and None allows all."""
    start = 0
    for key in keys:
        weights = inverse_norms(key, stride)
        count = weights[0].numel()
        barred = None if allowed is None else ~allowed[:, start : start + count].view(weights.shape)
        yield Keys(key, weights, barred, start)
        start += count


def _tile_shape(query: Tensor, key: Tensor, tile_bytes: float) -> tuple[int, int]:
    """Rows of queries and of keys in a tile; all rows of keys if they leave memory for some rows of queries."""
    batch, rows, columns, _ = query.shape
    _, key_rows, key_columns, _ = key.shape
    area = int(tile_bytes / (batch * columns * key_columns * query.element_size()))
    if area >= min(rows, _ROWS + 2) * key_rows:
        return max(1, area // key_rows - 2), key_rows - 2
    side = max(1, math.isqrt(area) - 2)
    return side, side


def _scores(query: Tensor, blocks: Tensor, key: Keys, top: int, bottom: int) -> Tensor:
    """Patch products of some query rows with the key rows from `top` to `bottom`, each over the key's norm.

    N, rows, columns, keys, from blocks within their borders, N, rows + 2, columns + 2, D.
    """
    key_blocks = blocks[:, top : bottom + 2]
    products = torch.bmm(query.flatten(1, 2), key_blocks.flatten(1, 2).mT)
    products = products.view(*query.shape[:3], *key_blocks.shape[1:3])
    # The 3 x 3 sum along diagonals: neighbours in a row, then in a column.
    across = products[:, :, 1:-1, :, 1:-1] + products[:, :, :-2, :, :-2]
    across += products[:, :, 2:, :, 2:]
    del products
    scores = across[:, 1:-1, :, 1:-1] + across[:, :-2, :, :-2]
    scores += across[:, 2:, :, 2:]
    scores *= key.weights[:, None, None, top:bottom]
    if key.barred is not None:
        scores.masked_fill_(key.barred[:, None, None, top:bottom], -torch.inf)
    return scores.flatten(3)
