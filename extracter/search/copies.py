"""Registered copies of references: a query's own place in a copy is its best match.

A copy has been warped onto the input (`extracter.data.registration`), so each query's counterpart lies at the same
place. The search does not know that. A patch of 3 x 3 cells holds no more than 3 x 3 pixels of LR, and of some hundred
thousand keys many resemble it as much as its counterpart. So the counterpart is put first, unless its score is far
below that of the best key found, as it is where the registration failed or the reference shows something else.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from extracter.search.block_grid import grid_of, inverse_norms
from extracter.search.search import Matches

# Loss of cosine up to which the counterpart is preferred (docs/reproduction.md, "Registration").
MARGIN = 0.05
# Row and column of a copy's first feature pixel in the query; None for a reference that is no copy.
Place = tuple[int, int] | None


def prefer_copies(
    matches: Matches, query: Tensor, keys: Sequence[Tensor], places: Sequence[Place], stride: int
) -> Matches:
    """The matches with each query's counterpart in front.

    Args:
        matches: of the search.
        query: N, C, h, w.
        keys: N, C, any sides, for each reference.
        places: of each reference; copies lie inside the query.
        stride: s, side of a block; k = 3s and p = s. Copies that do not begin at a block are left as they are.

    Example:
        >>> x, y = torch.rand(1, 8, 6, 6), torch.rand(1, 8, 6, 6)
        >>> none = Matches(torch.zeros(1, 2, 36, dtype=torch.long), torch.zeros(1, 2, 36), 72)
        >>> prefer_copies(none, x, [y, x], [None, (0, 0)], 1).indices[0, 0, :3]
        tensor([36, 37, 38])
    """
    rows, columns = grid_of(query, stride)
    best, where = nothing_found(matches, rows, columns)
    first = 0
    for key, place in zip(keys, places, strict=True):
        down, across = grid_of(key, stride)
        if place is not None and fits(place, stride):
            (top, left), (height, width) = place, key.shape[-2:]
            around = (left, query.shape[-1] - left - width, top, query.shape[-2] - top - height)
            scores = paired_scores(query, F.pad(key, around), stride)
            above, before = top // stride, left // stride
            part = (slice(None), slice(above, above + down), slice(before, before + across))
            note(best[part], where[part], scores[part], first, across)
        first += down * across
    return put_first(matches, best.flatten(1), where.flatten(1))


def fits(place: tuple[int, int], stride: int) -> bool:
    """Whether a copy begins at a block."""
    return place[0] % stride == place[1] % stride == 0


def nothing_found(matches: Matches, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Scores and indices of the best counterparts, N, rows, columns, before there are any."""
    shape = (len(matches.indices), rows, columns)
    return matches.scores.new_full(shape, -torch.inf), matches.indices.new_zeros(shape)


def note(best: Tensor, where: Tensor, scores: Tensor, first: int, columns: int) -> None:
    """Keep the better of the counterparts so far and of another copy's, in place.

    Args:
        best: N, rows, columns: scores so far, of the queries whose counterparts are meant.
        where: their indices.
        scores: of the counterparts.
        first: index of the first one.
        columns: of the copy's keys.
    """
    row, column = (torch.arange(n, device=scores.device) for n in scores.shape[1:])
    index = first + row.unsqueeze(1) * columns + column
    better = scores > best
    where.copy_(torch.where(better, index, where))
    best.copy_(torch.where(better, scores, best))


def paired_scores(query: Tensor, key: Tensor, stride: int) -> Tensor:
    """Cosine of each patch of N, C, h, w with that of another map at the same place: N, rows, columns."""
    products = F.avg_pool2d((query * key).sum(1, keepdim=True), stride) * stride**2
    sums = F.avg_pool2d(products, 3, stride=1, padding=1).squeeze(1) * 9
    return sums * inverse_norms(query, stride) * inverse_norms(key, stride)


def put_first(matches: Matches, scores: Tensor, indices: Tensor) -> Matches:
    """Put a key in front of each query's others, which move down; N, Q. No key is there twice."""
    scores, indices = scores.unsqueeze(1), indices.unsqueeze(1)
    known = matches.indices == indices
    last = matches.indices.shape[1] - 1
    rank = torch.arange(last + 1, device=indices.device).view(1, -1, 1)
    end = torch.where(known, rank, last).amin(1, keepdim=True)  # where it stood, or the last rank, which is lost
    moves = (rank <= end) & (scores >= matches.scores[:, :1] - MARGIN)
    return matches._replace(
        indices=torch.where(moves, torch.cat((indices, matches.indices[:, :-1]), 1), matches.indices),
        scores=torch.where(moves, torch.cat((scores, matches.scores[:, :-1]), 1), matches.scores),
    )
