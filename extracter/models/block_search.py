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

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from extracter.models.block_kernel import merge_row
from extracter.models.grid import grid_of, inverse_norms, neighbours_of, to_blocks

# Keys beyond u that the first stage keeps for the second.
_SPARE = 5
# Scores in a tile from which on it is shared among threads.
_WORTH_A_THREAD = 20_000


def search_blocks(
    query: Tensor, keys: Sequence[Tensor], u: int, stride: int, tile_bytes: float, two_stage: bool
) -> tuple[Tensor, Tensor]:
    """Scores and indices of the best `u` keys of each query, N, u, Q; -inf where there are fewer keys.

    Two stages take one walk as a rule. It keeps more than u keys for each query; those among them that are some query's
    best are, in their order, the first that the second stage would find. Queries that are left with fewer than u are
    scored against the kept keys alone, patch by patch.

    Args:
        query: N, C, h, w; sides are multiples of `stride`.
        keys: N, C, any such sides, for each reference.
        u: matches for each query.
        stride: s, side of a block.
        tile_bytes: memory of one tile of float32 scores; five of them exist at once.
        two_stage: restrict the top u to the keys that are some query's best.
    """
    wanted = u + _SPARE if two_stage and u > 1 else u
    values, indices = (x.flatten(1, 2) for x in walk(query, keys, wanted, stride, tile_bytes, None))  # N, Q, wanted
    if wanted > u:
        kept = torch.zeros(query.shape[0], _count(keys, stride), dtype=torch.bool, device=query.device)
        kept.scatter_(1, indices[..., 0], True)
        values, indices, short = _first_kept(values, indices, kept, u)
        if short.any():
            _complete(query, keys, stride, tile_bytes, kept, short, values, indices)
    inverse = inverse_norms(query, stride).flatten(1).unsqueeze(2)
    return (values * inverse).mT, indices.mT


def _count(images: Sequence[Tensor], stride: int) -> int:
    return sum(rows * columns for rows, columns in (grid_of(image, stride) for image in images))


def _first_kept(values: Tensor, indices: Tensor, kept: Tensor, u: int) -> tuple[Tensor, Tensor, Tensor]:
    """The first u of each query's candidates that are `kept`, and which queries have fewer though there may be more.

    Args:
        values: N, Q, candidates: scores in falling order, -inf where there is none.
        indices: N, Q, candidates.
        kept: N, keys.
        u: how many.

    Returns:
        Values N, Q, u; indices N, Q, u; and bool N, Q.
    """
    found = kept.gather(1, indices.flatten(1)).view(indices.shape) & ~values.isneginf()
    order = (~found).to(torch.uint8).sort(dim=2, stable=True).indices[..., :u]
    short = (found.sum(2) < u) & ~values[..., -1].isneginf()
    return values.masked_fill(~found, -torch.inf).gather(2, order), indices.gather(2, order), short


def _complete(
    query: Tensor,
    keys: Sequence[Tensor],
    stride: int,
    tile_bytes: float,
    kept: Tensor,
    short: Tensor,
    values: Tensor,
    indices: Tensor,
) -> None:
    """Search the kept keys for the queries that are short, and write what is found into values and indices, N, Q, u."""
    query_table, query_neighbours = _lay_out([query], stride)
    key_table, key_neighbours = _lay_out(keys, stride)
    weights = torch.cat([inverse_norms(key, stride).flatten(1) for key in keys], 1)
    # Patches of some queries and of some keys are laid out at a time, two tiles of each.
    rows = max(1, int(2 * tile_bytes / (9 * key_table.shape[2] * 4)))
    for n in range(query.shape[0]):
        allowed = kept[n].nonzero().squeeze(1)
        for wanting in short[n].nonzero().squeeze(1).split(rows):
            patches = _patches(query_table[n], query_neighbours, wanting)
            best = torch.full((1, len(wanting), values.shape[2]), -torch.inf, dtype=values.dtype, device=values.device)
            where = torch.zeros(best.shape, dtype=torch.long, device=best.device)
            for start in range(0, len(allowed), rows):
                part = allowed[start : start + rows]
                scores = (patches @ _patches(key_table[n], key_neighbours, part).mT) * weights[n, part]
                _insert(scores.unsqueeze(0), best, where, start)
            values[n, wanting], indices[n, wanting] = best[0], allowed[where[0]]


def _lay_out(images: Sequence[Tensor], stride: int) -> tuple[Tensor, Tensor]:
    """All blocks as rows, N, blocks + 1, D, the last of zeros; and each patch's nine rows, 9, patches."""
    table = torch.cat([to_blocks(image, stride).flatten(1, 2) for image in images], 1)
    table = torch.cat((table, torch.zeros_like(table[:, :1])), 1)
    return table, neighbours_of([grid_of(image, stride) for image in images], table.device)


def _patches(table: Tensor, neighbours: Tensor, chosen: Tensor) -> Tensor:
    """The chosen patches, n, 9 D, at least in float32."""
    patches = table[neighbours[:, chosen].mT].flatten(1)
    return patches.to(torch.promote_types(patches.dtype, torch.float32))


def walk(
    query: Tensor, keys: Sequence[Tensor], u: int, stride: int, tile_bytes: float, kept: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The best u of all keys or of those `kept`: scores (without the query's norm) and indices, N, rows, columns, u."""
    # Sums of nine half-precision products would lose what tells neighbours apart.
    dtype = torch.promote_types(query.dtype, torch.float32)
    shape = (query.shape[0], *grid_of(query, stride), u)
    best = torch.full(shape, -torch.inf, dtype=dtype, device=query.device)
    indices = torch.zeros(shape, dtype=torch.long, device=query.device)
    blocks = to_blocks(query, stride)  # N, rows, columns, D
    fused = merge_row is not None and query.device.type == "cpu" and query.dtype == torch.float32
    merge = _merge_fused if fused else _merge
    start = 0
    for key in keys:
        weights = inverse_norms(key, stride)
        count = weights[0].numel()
        barred = None if kept is None else ~kept[:, start : start + count].view(weights.shape)
        scored = _Keys(to_blocks(key, stride).flatten(1, 2).mT, weights, barred, start)
        merge(blocks, scored, tile_bytes, best, indices)
        start += count
    return best, indices


class _Keys(NamedTuple):
    """One reference, prepared for a walk.

    Attributes:
        blocks: N, D, rows * columns.
        weights: N, rows, columns: 1 / norm of each key.
        barred: N, rows, columns: keys to leave out; None for none.
        start: index of the first key.
    """

    blocks: Tensor
    weights: Tensor
    barred: Tensor | None
    start: int


def _merge(blocks: Tensor, keys: _Keys, tile_bytes: float, best: Tensor, indices: Tensor) -> None:
    """Merge all scores of one reference into the running best, N, rows, columns, u, in place."""
    batch, rows, columns, _ = blocks.shape
    _, key_rows, key_columns = keys.weights.shape
    height = max(1, int(tile_bytes / (4 * batch * columns * key_columns)))
    for first in range(1 - rows, key_rows, height):
        deltas = range(first, min(first + height, key_rows))
        for row, scores in _diagonal(blocks, keys.blocks, key_columns, deltas):
            # scores: N, columns, key rows from row + deltas, key_columns; those outside the key are cut off here.
            top, bottom = max(row + deltas.start, 0), min(row + deltas.stop, key_rows)
            inside = scores[:, :, top - row - deltas.start : bottom - row - deltas.start]
            inside = inside * keys.weights[:, None, top:bottom]
            if keys.barred is not None:
                inside.masked_fill_(keys.barred[:, None, top:bottom], -torch.inf)
            _insert(inside.flatten(2), best[:, row], indices[:, row], keys.start + top * key_columns)


def _merge_fused(blocks: Tensor, keys: _Keys, tile_bytes: float, best: Tensor, indices: Tensor) -> None:
    """`_merge` on the CPU in float32: one pass over each tile, see `block_kernel`."""
    batch, rows, columns, _ = blocks.shape
    _, key_rows, key_columns = keys.weights.shape
    height = min(max(1, int(tile_bytes / (4 * columns * key_columns))), rows + key_rows - 1)
    bias = torch.zeros_like(keys.weights)
    if keys.barred is not None:
        bias.masked_fill_(keys.barred, -torch.inf)
    # Block products of three query rows; query row r has place r % 3.
    products = torch.empty(3, columns * min(height, key_rows) * key_columns)
    lows, counts = np.zeros(3, np.int64), np.zeros(3, np.int64)
    threads = torch.get_num_threads() if columns * height * key_columns > _WORTH_A_THREAD else 1
    edges = [columns * part // threads for part in range(threads + 1)]
    with ThreadPoolExecutor(max_workers=threads) as workers:
        for n, first in itertools.product(range(batch), range(1 - rows, key_rows, height)):
            # The key rows that each query row meets in this range of diagonals.
            last = min(first + height, key_rows)
            met = range(max(0, 1 - last), min(rows, key_rows - first))
            spans = {row: (max(first + row, 0), min(last + row, key_rows)) for row in met}
            for coming in range(met.start, met.stop + 1):
                place = coming % 3
                counts[place] = 0
                if coming in spans:
                    top, bottom = spans[coming]
                    lows[place], counts[place] = top - coming - first, bottom - top
                    tile = products[place, : columns * (bottom - top) * key_columns].view(columns, -1)
                    torch.mm(blocks[n, coming], keys.blocks[n, :, top * key_columns : bottom * key_columns], out=tile)
                row = coming - 1
                if row not in spans:
                    counts[(row - 1) % 3] = counts[row % 3] = 0
                    continue
                top, bottom = spans[row]
                arguments = (
                    products.numpy(), lows, counts, top - row - first, bottom - top, key_columns,
                    keys.weights[n, top:bottom].flatten().numpy(), bias[n, top:bottom].flatten().numpy(),
                    best[n, row].numpy(), indices[n, row].numpy(), keys.start + top * key_columns,
                )  # fmt: skip
                if threads == 1:
                    merge_row(*arguments, 0, columns)
                else:
                    list(workers.map(partial(merge_row, *arguments), edges[:-1], edges[1:]))


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
    table, neighbours = _lay_out(keys, stride)
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
