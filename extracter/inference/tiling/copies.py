"""Registered copies of a whole image's references, part by part: what `extracter.search.copies` gives."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from extracter.inference.tiling.features import Features
from extracter.inference.tiling.windows import Window
from extracter.search.copies import Place, fits, note, nothing_found, paired_scores, put_first
from extracter.search.search import Matches


def prefer_copies(
    matches: Matches, query: Features, keys: Sequence[Features], places: Sequence[Place], stride: int
) -> Matches:
    """As `extracter.search.copies.prefer_copies`.

    Args:
        matches: of the whole image.
        query: features of LR_up.
        keys: features of each Ref_du.
        places: of each reference, in cells.
        stride: s.
    """
    best, where = nothing_found(matches, query.whole.height // stride, query.whole.width // stride)
    first = 0
    for key, place in zip(keys, places, strict=True):
        if place is not None and fits(place, stride):
            top, left = place
            whole = Window(top, top + key.whole.height, left, left + key.whole.width).meet(query.whole)
            columns = key.whole.width // stride
            for part in whole.split(key.side, key.side):
                inside = (slice(None), *part.in_blocks(stride).slices)
                row, column = (part.top - top) // stride, (part.left - left) // stride
                scores = _scores(query, key, part, place, stride)
                note(best[inside], where[inside], scores, first + row * columns + column, columns)
        first += (key.whole.height // stride) * (key.whole.width // stride)
    return put_first(matches, best.flatten(1), where.flatten(1))


def _scores(query: Features, key: Features, part: Window, place: tuple[int, int], stride: int) -> Tensor:
    """Cosines of the queries in a part with their counterparts, 1, rows, columns."""
    outer = part.grow(stride, query.whole)
    moved = Window(part.top - place[0], part.bottom - place[0], part.left - place[1], part.right - place[1])
    around = moved.grow(stride, key.whole)
    top, left = around.top + place[0] - outer.top, around.left + place[1] - outer.left
    missing = (left, outer.width - left - around.width, top, outer.height - top - around.height)
    scores = paired_scores(query.cut(outer, 2), F.pad(key.cut(around, 2), missing), stride)
    return part.in_blocks(stride).of(scores, outer.in_blocks(stride), 1)
