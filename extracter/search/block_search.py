"""Exact search at a ninth of the arithmetic, where patches are 3 x 3 blocks: k = 3s, p = s.

Cut query and key features into s x s blocks. A patch is then a block with its eight neighbours, and a patch product the
sum of nine block products: with B(i, j) the product of query block i and key block j,

    c(i, j) = sum over d in {-1, 0, 1}^2 of B(i + d, j + d),    zero outside,

a 3 x 3 sum along diagonals, separable into columns and rows. Each B(i, j) is computed once instead of nine times, and
patches are never laid out. The squared norm of a patch is the 3 x 3 sum of its blocks' squared norms.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from extracter.search.batched import images_in_one_tile, merge_topk, stable_topk, topk_in_one_tile
from extracter.search.block_grid import grid_of, inverse_norms, neighbour_index, to_blocks
from extracter.search.correlation import block_correlation_topk, is_fused

# Keys beyond u that the first stage keeps for the second.
SPARE = 5


def search_blocks(
    query: Tensor,
    keys: Sequence[Tensor],
    u: int,
    stride: int,
    tile_bytes: float,
    two_stage: bool,
    inner: bool = False,
) -> tuple[Tensor, Tensor]:
    """Scores and indices of the best `u` keys of each query, N, u, Q; -inf where there are fewer keys.

    Two stages usually need one pass. It keeps u + 5 candidates for each query; those that are some query's best are, in
    their order, the second stage's top matches. Queries left with fewer than u are scored again, against all such keys
    alone, patch by patch.

    Args:
        query: N, C, h, w; sides are multiples of `stride`.
        keys: N, C, any such sides, for each reference.
        u: matches for each query.
        stride: s, side of a block.
        tile_bytes: memory of one tile of float32 scores, of which five exist at once on the CPU and three elsewhere.
        two_stage: restrict the top u to the keys that are some query's best.
        inner: leave out the keys at the edges of the references, whose patches reach over them; not in two stages.
            All are still counted.
    """
    two_stage = two_stage and u > 1
    inside = _inner_keys(keys, stride) if inner else None
    inverse = inverse_norms(query, stride).flatten(1).unsqueeze(2)
    if not is_fused(query) and (images := images_in_one_tile(query, keys, stride, tile_bytes)):
        found = [
            topk_in_one_tile(part, of_keys, u, stride, two_stage, None if inside is None else inside[: len(part)])
            for part, *of_keys in zip(*(x.split(images) for x in (query, *keys)), strict=True)
        ]
        values, indices = (torch.cat(x) if len(x) > 1 else x[0] for x in zip(*found, strict=True))
        return (values * inverse).mT, indices.mT
    wanted = u + SPARE if two_stage else u
    values, indices = (
        x.flatten(1, 2) for x in block_correlation_topk(query, keys, wanted, stride, tile_bytes, inside)
    )  # N, Q, wanted
    if wanted > u:
        count = sum(math.prod(grid_of(key, stride)) for key in keys)
        allowed = torch.zeros(query.shape[0], count, dtype=torch.bool, device=query.device)
        allowed.scatter_(1, indices[..., 0], True)
        values, indices, incomplete = filter_candidates(values, indices, allowed, u)
        for n in incomplete.any(1).nonzero().flatten().tolist():
            chosen = incomplete[n].nonzero().squeeze(1)
            values[n, chosen], indices[n, chosen] = rescore_candidates(
                query[n], [key[n] for key in keys], stride, tile_bytes, allowed[n], chosen, u
            )
    return (values * inverse).mT, indices.mT


def _inner_keys(keys: Sequence[Tensor], stride: int) -> Tensor:
    """Which keys are not at an edge of their reference: bool, N, keys."""
    marks = []
    for key in keys:
        rows, columns = grid_of(key, stride)
        inner = torch.ones(rows - 2, columns - 2, dtype=torch.bool, device=key.device)
        marks.append(torch.nn.functional.pad(inner, (1, 1, 1, 1)).flatten())
    return torch.cat(marks).expand(keys[0].shape[0], -1)


def filter_candidates(values: Tensor, indices: Tensor, allowed: Tensor, u: int) -> tuple[Tensor, Tensor, Tensor]:
    """The first u of each query's candidates that are `allowed`, and which queries have fewer though there may be more.

    Args:
        values: N, Q, candidates: scores in falling order, -inf where there is none.
        indices: N, Q, candidates.
        allowed: N, keys.
        u: how many.

    Returns:
        Values N, Q, u; indices N, Q, u; and bool N, Q.
    """
    found = allowed.gather(1, indices.flatten(1)).view(indices.shape) & ~values.isneginf()
    order = (~found).to(torch.uint8).sort(dim=2, stable=True).indices[..., :u]
    incomplete = (found.sum(2) < u) & ~values[..., -1].isneginf()
    return values.masked_fill(~found, -torch.inf).gather(2, order), indices.gather(2, order), incomplete


def rescore_candidates(
    query: Tensor, keys: Sequence[Tensor], stride: int, tile_bytes: float, allowed: Tensor, chosen: Tensor, u: int
) -> tuple[Tensor, Tensor]:
    """The best u of the allowed keys for the chosen queries, patch by patch.

    Args:
        query: C, h, w.
        keys: C, any sides, for each reference.
        stride: s, side of a block.
        tile_bytes: a quarter of the memory for patches.
        allowed: keys.
        chosen: queries, rising.
        u: how many.

    Returns:
        Scores (without the query's norm, -inf where there are fewer keys) and indices, each queries chosen, u.
    """
    weights = torch.cat([inverse_norms(key.unsqueeze(0), stride).flatten() for key in keys])
    # Keys are laid out again for each part of the queries: three tiles of memory for queries, and one for keys.
    rows, key_rows = (max(1, int(n * tile_bytes / (9 * query.shape[0] * stride**2 * 4))) for n in (3, 1))
    allowed_keys = allowed.nonzero().squeeze(1)
    best = torch.full((1, len(chosen), u), -torch.inf, dtype=weights.dtype, device=query.device)
    where = torch.zeros(best.shape, dtype=torch.long, device=query.device)
    for first in range(0, len(chosen), rows):
        part = slice(first, first + rows)
        patches = _patches([query], chosen[part], stride)
        for start in range(0, len(allowed_keys), key_rows):
            against = allowed_keys[start : start + key_rows]
            scores = (patches @ _patches(keys, against, stride).mT) * weights[against]
            found, positions = stable_topk(scores.unsqueeze(0), u)
            best[:, part], where[:, part] = merge_topk(best[:, part], where[:, part], found, positions + start)
    return best[0], allowed_keys[where[0]] if len(allowed_keys) else where[0]


def _patches(images: Sequence[Tensor], chosen: Tensor, stride: int) -> Tensor:
    """The chosen patches of several C, h, w, counted as in `Matches` and in rising order: n, 9 C s s, zero outside."""
    side = torch.arange(-stride, 2 * stride, device=chosen.device)
    parts, start = [], 0
    for image in images:
        rows, columns = image.shape[1] // stride, image.shape[2] // stride
        inside = chosen[(chosen >= start) & (chosen < start + rows * columns)] - start
        start += rows * columns
        y, x = ((position * stride).unsqueeze(1) + side for position in (inside // columns, inside % columns))  # n, 3 s
        real = ((y >= 0) & (y < image.shape[1])).unsqueeze(2) & ((x >= 0) & (x < image.shape[2])).unsqueeze(1)
        y, x = y.clamp(0, image.shape[1] - 1).unsqueeze(2), x.clamp(0, image.shape[2] - 1).unsqueeze(1)
        # At least in float32, as the sums of the search.
        values = image.movedim(0, 2)[y, x].to(torch.promote_types(image.dtype, torch.float32))  # n, 3 s, 3 s, C
        parts.append(values.mul_(real.unsqueeze(3)).flatten(1))
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def block_scores(query: Tensor, keys: Sequence[Tensor], indices: Tensor, stride: int) -> Tensor:
    """Cosine similarities of each query with its chosen keys, N, u, Q, differentiable.

    Nothing of them is stored for backward: each rank gathers its blocks again.

    Args:
        query: as in `search_blocks`.
        keys: as in `search_blocks`.
        indices: N, u, Q.
        stride: s, side of a block.
    """
    table = torch.cat([to_blocks(key, stride).flatten(1, 2) for key in keys], 1)
    table = torch.cat((table, torch.zeros_like(table[:, :1])), 1)  # the last row lies outside
    neighbours = neighbour_index([grid_of(key, stride) for key in keys], query.device)
    blocks = torch.nn.functional.pad(to_blocks(query, stride), (0, 0, 1, 1, 1, 1))  # N, rows + 2, columns + 2, D
    rows, columns = grid_of(query, stride)

    def products(blocks: Tensor, table: Tensor, chosen: Tensor) -> Tensor:
        total = torch.zeros(chosen.shape, dtype=table.dtype, device=table.device)
        flat = table.flatten(0, 1)
        offsets = table.shape[1] * torch.arange(len(table), device=table.device).unsqueeze(1)
        for d in range(9):
            near = blocks[:, d // 3 : d // 3 + rows, d % 3 : d % 3 + columns].flatten(1, 2)
            # Whole rows by `index_select`: `gather` would read, and add to in backward, each number by its own index.
            rows_of_images = (neighbours[d, chosen] + offsets).flatten()
            total = total + (near * flat.index_select(0, rows_of_images).view(*chosen.shape, -1)).sum(2)
        return total

    # Nothing in it is random, so that no generator's state need be stored for the second computation.
    ranks = [
        checkpoint(products, blocks, table, chosen, use_reentrant=False, preserve_rng_state=False)
        for chosen in indices.unbind(1)
    ]
    of_query = inverse_norms(query, stride).flatten(1).unsqueeze(1)
    of_keys = torch.cat([inverse_norms(key, stride).flatten(1) for key in keys], 1)
    return torch.stack(ranks, 1) * of_query * of_keys.gather(1, indices.flatten(1)).view(indices.shape)
