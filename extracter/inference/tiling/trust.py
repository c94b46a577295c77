"""Alignment and gate of a whole image, strip by strip: what `align` and `Gate` give, in bounded memory."""

from collections.abc import Sequence

import torch
from torch import Tensor

from extracter.inference.tiling.windows import Picture, Window
from extracter.models.extracter import Extracter
from extracter.models.gate import SURROUND, image_evidence
from extracter.search.align import agreement, compare, displacements, grey, pad_grey, radius
from extracter.search.search import Matches

# Queries of a strip, about.
_AT_ONCE = 2**16
# Queries that the gate's three convolutions, the neighbours' agreement and the mean of the trust reach beyond a strip.
_REACH = 4 + SURROUND


def align_whole(lr_up: Picture, refs_du: Sequence[Picture], matches: Matches, model: Extracter) -> Matches:
    """The matches with offsets, int8, and with evidence, as `extracter.search.align.align` gives them."""
    config = model.search
    stride, cell = config.stride, 4 * config.stride
    rows, columns = lr_up.whole.height // stride, lr_up.whole.width // stride
    keys = [pad_grey(_whole_grey(picture), cell + radius(config)) for picture in refs_du]
    grids = [(picture.whole.height // stride, picture.whole.width // stride) for picture in refs_du]
    indices = matches.indices
    offsets = torch.empty(*indices.shape, 2, dtype=torch.int8, device=indices.device)
    evidence = torch.empty(1, indices.shape[1], 4, indices.shape[2], device=indices.device)
    strips = [*_strips(rows, columns)]
    for top, bottom in strips:
        part = slice(top * columns, bottom * columns)
        window = Window(stride * top, stride * bottom, 0, lr_up.whole.right)
        around = window.grow(stride, lr_up.whole)
        query = pad_grey(grey(lr_up.cut(around)), cell)
        first = 4 * (window.top - around.top)
        query = query[:, first : first + cell * (bottom - top + 2)]
        offsets[:, :, part], statistics = compare(query, keys, grids, indices[:, :, part], config)
        evidence[:, :, [0, 2, 3], part] = statistics
    for top, bottom in strips:
        before, behind = max(top - 1, 0), min(bottom + 1, rows)
        near = slice(before * columns, behind * columns)
        moved = displacements(indices[:, :, near], offsets[:, :, near], grids, columns, cell, before)
        votes = agreement(moved.unflatten(3, (-1, columns)), cell // 2)[:, :, top - before : bottom - before]
        evidence[:, :, 1, top * columns : bottom * columns] = votes.flatten(2)
    return matches._replace(offsets=offsets, evidence=evidence)


def weigh_whole(lr: Picture, matches: Matches, model: Extracter) -> Matches:
    """The matches with the gate's weights in place of their scores; the evidence, which is large, is left out."""
    if model.gate is None:
        return matches._replace(evidence=None)
    stride = model.search.stride
    rows, columns = lr.whole.height // stride, lr.whole.width // stride
    evidence = torch.cat((matches.scores.unsqueeze(2), matches.evidence), 2)[0].unflatten(2, (rows, columns))
    found = []
    for top, bottom in _strips(rows, columns):
        before, behind = max(top - _REACH, 0), min(bottom + _REACH, rows)
        image = image_evidence(lr.cut(Window(stride * before, stride * behind, 0, lr.whole.right)), stride)
        maps = torch.cat((evidence[:, :, before:behind].flatten(0, 1).unsqueeze(0), image), 1)
        found.append(model.gate.weigh(maps)[:, :, top - before : bottom - before].flatten(2))
    return matches._replace(scores=torch.cat(found, 2), evidence=None)


def least_bytes(queries: int, ranks: int, references: Sequence[Window]) -> float:
    """Memory that alignment holds: grey references, offsets and evidence."""
    pixels = sum(16 * window.height * window.width for window in references)
    return 4 * pixels + queries * ranks * (2 + 4 * 5)


def _strips(rows: int, columns: int) -> list[tuple[int, int]]:
    height = max(1, _AT_ONCE // columns)
    return [(top, min(top + height, rows)) for top in range(0, rows, height)]


def _whole_grey(picture: Picture) -> Tensor:
    """Grey of a whole picture: float32, 1, H, W."""
    whole = picture.whole
    result = torch.empty(1, 4 * whole.height, 4 * whole.width, device=picture.device)
    for part in whole.split(64, whole.width):
        result[:, 4 * part.top : 4 * part.bottom] = grey(picture.cut(part))
    return result
