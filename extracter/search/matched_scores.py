"""The gradient of the matches' scores by the sums that transfer takes: a few large operations for all ranks."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from extracter.search.block_grid import block_sources, grid_of, inverse_norms, neighbour_index, to_blocks


def attach_gradient(scores: Tensor, query: Tensor, keys: Sequence[Tensor], indices: Tensor, stride: int) -> Tensor:
    """The scores that a search found, differentiable with respect to the features of query and keys.

    Args:
        scores: N, u, Q: cosine similarities, as the search found them; where there is no key, any value without a
            gradient.
        query: N, C, h, w.
        keys: N, C, any sides, for each reference.
        indices: N, u, Q: the key of each score.
        stride: s, side of a block.
    """
    return _MatchedScores.apply(scores, indices, stride, query, *keys)


class _MatchedScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, indices: Tensor, stride: int, query: Tensor, *keys: Tensor) -> Tensor:
        ctx.save_for_backward(scores, indices, query, *keys)
        ctx.stride = stride
        return scores.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scores, indices, *images = ctx.saved_tensors
        wanted = ctx.needs_input_grad[3:]
        with torch.enable_grad():
            images = [image.detach().requires_grad_(want) for image, want in zip(images, wanted, strict=True)]
            total = _weighted_sum(gradient, scores, images[0], images[1:], indices, ctx.stride)
            inputs = [image for image, want in zip(images, wanted, strict=True) if want]
            found = iter(torch.autograd.grad(total, inputs))
        return None, None, None, *(next(found) if want else None for want in wanted)


def _weighted_sum(
    gradient: Tensor, scores: Tensor, query: Tensor, keys: Sequence[Tensor], indices: Tensor, stride: int
) -> Tensor:
    """A scalar whose gradient with respect to the features is that of the sum of `gradient * scores`.

    A score is p(i, j) a(i) b(j): the patch product and the inverse norms. Of the products, with w = gradient a b,

        sum of w(i) p(i, j(i)) = sum over blocks m of <q(m), sum over d of w(m - d) k(j(m - d) + d)>,

    and the inner sum is what transfer does: each block takes from what the queries around it found. Of the norms,
    d score = score d(log a + log b).
    """
    batch, ranks, _ = indices.shape
    grid = grid_of(query, stride)
    neighbours = neighbour_index([grid_of(key, stride) for key in keys], query.device)
    of_query = inverse_norms(query, stride).flatten(1).unsqueeze(1)  # N, 1, Q
    of_keys = torch.cat([inverse_norms(key, stride).flatten(1) for key in keys], 1)
    of_keys = of_keys.gather(1, indices.flatten(1)).view(indices.shape)  # N, u, Q
    scores = scores.masked_fill(scores.isneginf(), 0)
    norms = (gradient * scores * (of_query.log() + of_keys.log())).sum()

    table = torch.cat([to_blocks(key, stride).flatten(1, 2) for key in keys], 1)
    table = F.pad(table, (0, 0, 0, 1))  # the last row lies outside
    sources = block_sources(neighbours, indices, *grid)  # N, u, rows, columns, 9
    sources = sources + table.shape[1] * torch.arange(batch, device=query.device).view(-1, 1, 1, 1, 1)
    # Which query lends each of them: the weights are shifted as the sources are.
    weights = (gradient * of_query * of_keys).detach().unflatten(2, grid)
    padded = F.pad(weights, (1, 1, 1, 1))
    shifts = [(2 - d // 3, 2 - d % 3) for d in range(9)]
    weights = torch.stack([padded[..., y : y + grid[0], x : x + grid[1]] for y, x in shifts], -1)

    def by_block(x: Tensor) -> Tensor:  # N, u, rows, columns, 9 to N rows columns, 9 u
        return x.permute(0, 2, 3, 1, 4).reshape(-1, 9 * ranks)

    sums = F.embedding_bag(by_block(sources), table.flatten(0, 1), per_sample_weights=by_block(weights), mode="sum")
    return (to_blocks(query, stride).flatten(0, 2) * sums).sum() + norms
