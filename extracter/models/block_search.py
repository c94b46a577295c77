"""Exact search at a ninth of the arithmetic, where patches are 3 x 3 blocks: k = 3s, p = s.

Cut query and key features into s x s blocks. A patch is then a block with its eight neighbours, and a patch product the
sum of nine block products: with B(i, j) the product of query block i and key block j,

    c(i, j) = sum over d in {-1, 0, 1}^2 of B(i + d, j + d),    zero outside,

a 3 x 3 sum along diagonals, separable into columns and rows. Each B(i, j) is computed once instead of nine times, and
patches are never laid out. The squared norm of a patch is the 3 x 3 sum of its blocks' squared norms.

The walk follows diagonals. With `delta` = key row - query row, a tile holds one query row against the key rows of a
range of deltas. The sum over rows then adds three consecutive tiles at the same place, so a tile is computed once and
three of them are all that is kept.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from extracter.models.grid import grid_of, inverse_norms, neighbours_of, to_blocks


def search_blocks(
    query: Tensor, keys: Sequence[Tensor], u: int, stride: int, tile_bytes: float, two_stage: bool
) -> tuple[Tensor, Tensor]:
    """Scores and indices of the best `u` keys of each query, N, u, Q; -inf where there are fewer keys.

    Args:
        query: N, C, h, w; sides are multiples of `stride`.
        keys: N, C, any such sides, for each reference.
        u: matches for each query.
        stride: s, side of a block.
        tile_bytes: memory of one tile of float32 scores; five of them exist at once.
        two_stage: restrict the top u to the keys that are some query's best.
    """
    found = walk(query, keys, 1 if two_stage else u, stride, tile_bytes, None)
    if two_stage:
        count = sum(rows * columns for rows, columns in (grid_of(key, stride) for key in keys))
        kept = torch.zeros(query.shape[0], count, dtype=torch.bool, device=query.device)
        kept.scatter_(1, found[1].flatten(1), True)
        found = walk(query, keys, u, stride, tile_bytes, kept)
    values, indices = (x.permute(0, 3, 1, 2).flatten(2) for x in found)  # N, u, rows columns
    inverse = inverse_norms(query, stride).flatten(1).unsqueeze(1)
    return values * inverse, indices


def walk(
    query: Tensor, keys: Sequence[Tensor], u: int, stride: int, tile_bytes: float, kept: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The best u of all keys or of those `kept`: scores (without the query's norm) and indices, N, rows, columns, u."""
    batch = query.shape[0]
    rows, columns = grid_of(query, stride)
    shape = (batch, rows, columns, u)
    # Sums of nine half-precision products would lose what tells neighbours apart.
    dtype = torch.promote_types(query.dtype, torch.float32)
    best = torch.full(shape, -torch.inf, dtype=dtype, device=query.device)
    indices = torch.zeros(shape, dtype=torch.long, device=query.device)
    blocks = to_blocks(query, stride)  # N, rows, columns, D
    start = 0
    for key in keys:
        key_rows, key_columns = grid_of(key, stride)
        key_blocks = to_blocks(key, stride).flatten(1, 2).mT  # N, D, key_rows key_columns
        weights = inverse_norms(key, stride)  # N, key_rows, key_columns
        count = key_rows * key_columns
        barred = None if kept is None else ~kept[:, start : start + count].view(batch, key_rows, key_columns)
        height = max(1, int(tile_bytes / (4 * batch * columns * key_columns)))
        for first in range(1 - rows, key_rows, height):
            deltas = range(first, min(first + height, key_rows))
            for row, scores in _diagonal(blocks, key_blocks, key_columns, deltas):
                # scores: N, columns, key rows from row + deltas, key_columns; those outside the key are cut off here.
                top, bottom = max(row + deltas.start, 0), min(row + deltas.stop, key_rows)
                inside = scores[:, :, top - row - deltas.start : bottom - row - deltas.start]
                inside = inside * weights[:, None, top:bottom]
                if barred is not None:
                    inside.masked_fill_(barred[:, None, top:bottom], -torch.inf)
                _insert(inside.flatten(2), best[:, row], indices[:, row], start + top * key_columns)
        start += count
    return best, indices


def _diagonal(blocks: Tensor, key_blocks: Tensor, key_columns: int, deltas: range) -> Iterator[tuple[int, Tensor]]:
    """For each query row that meets the key in this range of deltas: the row and its patch products."""
    rows = blocks.shape[1]
    key_rows = key_blocks.shape[2] // key_columns
    # Rows whose tiles have some key row inside.
    first, last = max(0, 1 - deltas.stop), min(rows, key_rows - deltas.start)
    tiles: dict[int, Tensor] = {}
    for row in range(first, last):
        for near in (row, row + 1):
            if near not in tiles and near < last:
                tiles[near] = _tile(
                    blocks[:, near], key_blocks, key_columns, range(near + deltas.start, near + deltas.stop)
                )
        total = tiles[row]
        if row - 1 in tiles or row + 1 in tiles:
            total = total.clone()
        for near in (row - 1, row + 1):
            if near in tiles:
                total += tiles[near]
        tiles.pop(row - 1, None)
        yield row, total


def _tile(row: Tensor, key_blocks: Tensor, key_columns: int, key_rows: range) -> Tensor:
    """Block products of one query row, summed over the three columns: N, columns, key rows, key columns; 0 outside."""
    batch, columns, _ = row.shape
    total = key_blocks.shape[2] // key_columns
    top, bottom = max(key_rows.start, 0), min(key_rows.stop, total)
    dtype = torch.promote_types(row.dtype, torch.float32)
    products = torch.zeros(batch, columns, len(key_rows), key_columns, dtype=dtype, device=row.device)
    part = row @ key_blocks[:, :, top * key_columns : bottom * key_columns]
    part = part.to(dtype).view(batch, columns, bottom - top, key_columns)
    inside = products[:, :, top - key_rows.start : bottom - key_rows.start]
    inside += part
    inside[:, 1:, :, 1:] += part[:, :-1, :, :-1]
    inside[:, :-1, :, :-1] += part[:, 1:, :, 1:]
    return products


def _insert(scores: Tensor, best: Tensor, indices: Tensor, start: int) -> None:
    """Merge N, columns, K scores of the keys from `start` into the running best, N, columns, u, in place.

    Keys come in rising order of index and equal scores stand behind earlier ones, so ties go to the lower index.
    """
    u = best.shape[2]
    for rank in range(min(u, scores.shape[2])):
        value, place = scores.max(2, keepdim=True)
        if not (value > best[..., -1:]).any():
            return
        if u == 1:
            better = value > best
            best.copy_(torch.where(better, value, best))
            indices.copy_(torch.where(better, place + start, indices))
        else:
            merged, order = torch.cat((best, value), 2).sort(dim=2, descending=True, stable=True)
            best.copy_(merged[..., :u])
            indices.copy_(torch.cat((indices, place + start), 2).gather(2, order)[..., :u])
        if rank + 1 < u:
            scores.scatter_(2, place, -torch.inf)


def block_scores(query: Tensor, keys: Sequence[Tensor], indices: Tensor, stride: int) -> Tensor:
    """Cosine similarities of each query with its chosen keys, N, u, Q, differentiable.

    Nothing of them is kept for backward: each rank gathers its blocks again.

    Args:
        query: as in `search_blocks`.
        keys: as in `search_blocks`.
        indices: N, u, Q.
        stride: s, side of a block.
    """
    table = torch.cat([to_blocks(key, stride).flatten(1, 2) for key in keys], 1)
    table = torch.cat((table, torch.zeros_like(table[:, :1])), 1)  # the last row lies outside
    neighbours = neighbours_of([grid_of(key, stride) for key in keys], query.device)
    blocks = torch.nn.functional.pad(to_blocks(query, stride), (0, 0, 1, 1, 1, 1))  # N, rows + 2, columns + 2, D
    rows, columns = grid_of(query, stride)

    def products(blocks: Tensor, table: Tensor, chosen: Tensor) -> Tensor:
        total = torch.zeros(chosen.shape, dtype=table.dtype, device=table.device)
        for d in range(9):
            near = blocks[:, d // 3 : d // 3 + rows, d % 3 : d % 3 + columns].flatten(1, 2)
            place = neighbours[d, chosen].unsqueeze(2).expand(-1, -1, table.shape[2])
            total = total + (near * table.gather(1, place)).sum(2)
        return total

    ranks = [checkpoint(products, blocks, table, chosen, use_reentrant=False) for chosen in indices.unbind(1)]
    of_query = inverse_norms(query, stride).flatten(1).unsqueeze(1)
    of_keys = torch.cat([inverse_norms(key, stride).flatten(1) for key in keys], 1)
    return torch.stack(ranks, 1) * of_query * of_keys.gather(1, indices.flatten(1)).view(indices.shape)
