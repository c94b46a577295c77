"""Features of MASA's encoder and its matches, window by window."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from extracter.inference.tiling.features import LEVELS, Features
from extracter.inference.tiling.kept_tiles import KeptTiles
from extracter.inference.tiling.windows import Picture, Report, Window
from extracter.models.masa import Encoder
from extracter.models.masa_match import (
    BLOCK,
    DILATIONS,
    copy_patches,
    cut_blocks,
    describe_middles,
    fine_matches,
    region_corner,
    region_size,
)
from extracter.search.search import Matches

_REDUCED = 3  # cells that the antialiased bicubic by a quarter sees on each side
_AT_ONCE = 8  # blocks whose textures are copied at once


class Encoded(Features):
    """Features of a reference at full, half and quarter size, finest first.

    Args:
        encoder: of the network.
        picture: the reference.
    """

    side = 24  # its convolutions at full size reach far, and have all channels

    def __init__(self, encoder: Encoder, picture: Picture):
        self.encoder, self.picture, self.whole = encoder, picture, picture.whole
        self.width = encoder.convs[0].out_channels
        per_level = 1 + 2 * len(encoder.blocks[0])  # convolutions
        self.margin = -(-7 * per_level // 4)  # cells: a quarter, a half, and one for each

    def channels(self, level: int) -> int:
        """The same at all levels."""
        return self.width

    def _compute(self, window: Window, level: int) -> Tensor:
        outer = window.grow(self.margin, self.whole)
        return window.of(self.encode(outer, level + 1)[level], outer, LEVELS[level][1])

    def encode(self, window: Window, count: int) -> list[Tensor]:
        """The levels of a window alone, without regard to what is around it."""
        return self.encoder((self.picture.cut(window) + 1) / 2, count)


class Reduced(Encoded):
    """The finest features of a reference at a quarter of its size, in the place of level 2."""

    side = 60

    def _compute(self, window: Window, level: int) -> Tensor:
        inner = window.grow(self.margin, self.whole)
        outer = inner.grow(_REDUCED, self.whole)
        image = (self.picture.cut(outer) + 1) / 2
        small = F.interpolate(image, scale_factor=0.25, mode="bicubic", antialias=True).clamp(0, 1)
        return window.of(self.encoder(inner.of(small, outer, 1), 1)[0], inner, 1)


class Content(Encoded):
    """Features of LR at full, half and quarter size: a cell is a pixel, and windows are multiples of four cells."""

    def __init__(self, encoder: Encoder, picture: Picture):
        super().__init__(encoder, picture)
        self.margin *= 4

    def levels(self, window: Window) -> list[Tensor]:
        """All three of a window, whose edges are multiples of four."""
        outer = window.grow(self.margin, self.whole, 4)
        with torch.autocast(self.picture.device.type, enabled=False):
            found = self.encode(outer, 3)
        return [window.in_blocks(n).of(x, outer.in_blocks(n), 1) for x, n in zip(found, (1, 2, 4), strict=True)]

    def blocks(self, window: Window) -> Tensor:
        """Blocks of a window, whose edges are multiples of eight, with their margins: 1, B, C, 10, 10."""
        around = window.grow(1, self.whole)
        outer = around.grow(self.margin, self.whole, 4)
        with torch.autocast(self.picture.device.type, enabled=False):
            x = around.of(self.encode(outer, 1)[0], outer, 1)
        pads = [around.left == window.left, around.right == window.right]
        pads += [around.top == window.top, around.bottom == window.bottom]
        return cut_blocks(F.pad(x, [int(pad) for pad in pads], mode="replicate"))


class BlockMatches(NamedTuple):
    """For each block of a whole LR, row by row.

    Attributes:
        reference: which one it takes.
        top, left: first pixel of its region.
        chosen: for each of its 64 pixels the patch of the region.
        scores: of these.
    """

    reference: Tensor
    top: Tensor
    left: Tensor
    chosen: Tensor
    scores: Tensor


def match_blocks(content: Content, keys: Sequence[Reduced], side: int, report: Report) -> BlockMatches:
    """Coarse matches of all blocks, and fine ones within the regions.

    Args:
        content: of LR.
        keys: of each reference.
        side: cells of a side of the parts in which it is done; a multiple of eight.
        report: called with (done, total).
    """
    whole = content.whole
    parts = whole.split(side, side)
    across = whole.width // BLOCK
    count = whole.height // BLOCK * across
    device = content.picture.device
    places = torch.arange(count, device=device).view(-1, across)
    order = [part.in_blocks(BLOCK).of(places, whole.in_blocks(BLOCK), 1).flatten() for part in parts]
    strips = [[(n, strip) for strip in key.whole.split(side, key.whole.width)] for n, key in enumerate(keys)]
    total, done = len(parts) * (1 + sum(map(len, strips))), 0
    best = torch.full((count,), -torch.inf, device=device)
    centre, reference = (torch.zeros(count, dtype=torch.long, device=device) for _ in range(2))
    middles = [describe_middles(content.blocks(part)) for part in parts]
    for number, strip in [pair for of_key in strips for pair in of_key]:
        described = [_describe_keys(keys[number], strip, dilation) for dilation in DILATIONS]
        for place, of_part in zip(order, middles, strict=True):
            score = sum((q @ k for q, k in zip(of_part, described, strict=True)), torch.zeros((), device=device))
            found = score[0].max(1)
            better = found.values > best[place]
            best[place] = torch.where(better, found.values, best[place])
            index = found.indices + strip.top * keys[number].whole.width
            centre[place] = torch.where(better, index, centre[place])
            reference[place] = torch.where(better, torch.full_like(index, number), reference[place])
            done += 1
            report(done, total)
    top, left = torch.zeros_like(centre), torch.zeros_like(centre)
    chosen = torch.zeros(count, BLOCK**2, dtype=torch.long, device=device)
    scores = torch.zeros(count, BLOCK**2, device=device)
    for number, key in enumerate(keys):
        mine = reference == number
        size = size_of(key.whole, whole)
        corner = region_corner(centre, (key.whole.height, key.whole.width), size)
        top, left = torch.where(mine, corner[0], top), torch.where(mine, corner[1], left)
    tiles = KeptTiles(keys, 2.0**26)
    for place, part in zip(order, parts, strict=True):
        blocks = content.blocks(part)[0]
        for number, group in _groups(reference[place]):
            size = size_of(keys[number].whole, whole)
            for some in group.split(64):
                regions = _regions(tiles, number, top[place[some]], left[place[some]], size, 2)
                scores[place[some]], chosen[place[some]] = fine_matches(blocks[some], regions)
        done += 1
        report(done, total)
    return BlockMatches(reference, top, left, chosen, scores)


def copy_textures(matches: BlockMatches, tiles: KeptTiles, window: Window, whole: Window, level: int) -> Tensor:
    """Textures of a window of LR, 1, C, scale height, scale width, weighted with their scores.

    Args:
        matches: of the whole LR.
        tiles: features of the references.
        window: its edges are multiples of eight.
        whole: the whole LR.
        level: 0 to 2, finest first.
    """
    scale = LEVELS[level][1]
    grid = window.in_blocks(BLOCK)
    places = torch.arange(len(matches.top), device=matches.top.device).view(-1, whole.width // BLOCK)
    place = grid.of(places, whole.in_blocks(BLOCK), 1).flatten()
    channels = tiles.references[0].channels(level)
    copied = torch.zeros(len(place), channels, BLOCK * scale, BLOCK * scale, device=place.device)
    for number, group in _groups(matches.reference[place]):
        size = size_of(tiles.references[number].whole, whole)
        for some in group.split(_AT_ONCE):
            those = place[some]
            regions = _regions(tiles, number, matches.top[those], matches.left[those], size, level)
            copied[some] = copy_patches(regions, matches.chosen[those], matches.scores[those], scale)
    copied = copied.unflatten(0, (grid.height, grid.width)).permute(2, 0, 3, 1, 4)
    return copied.flatten(3, 4).flatten(1, 2).unsqueeze(0)


def pixel_matches(matches: BlockMatches, keys: Sequence[Window], whole: Window) -> Matches:
    """For each pixel of LR the middle of its patch, counted over one reference after the other, and its score."""
    found = torch.zeros_like(matches.chosen)
    first = 0
    for number, key in enumerate(keys):
        mine = (matches.reference == number).unsqueeze(1)
        across = size_of(key, whole)[1] - 2  # patches in a row of a region
        row = matches.top.unsqueeze(1) + matches.chosen // across + 1
        column = matches.left.unsqueeze(1) + matches.chosen % across + 1
        found = torch.where(mine, first + row * key.width + column, found)
        first += key.height * key.width
    blocks = (whole.height // BLOCK, whole.width // BLOCK)
    indices, scores = (x.view(*blocks, BLOCK, BLOCK).transpose(1, 2).reshape(1, 1, -1) for x in (found, matches.scores))
    return Matches(indices, scores, first)


def size_of(key: Window, lr: Window) -> tuple[int, int]:
    """Height and width of the regions of a reference."""
    return region_size((key.height, key.width), (lr.height // BLOCK, lr.width // BLOCK))


def _groups(reference: Tensor) -> list[tuple[int, Tensor]]:
    """Blocks by the reference that they take."""
    return [(number, (reference == number).nonzero().squeeze(1)) for number in reference.unique().tolist()]


def _regions(tiles: KeptTiles, number: int, top: Tensor, left: Tensor, size: tuple[int, int], level: int) -> Tensor:
    """Regions of a reference, n, C, scale height, scale width."""
    corners = zip(top.tolist(), left.tolist(), strict=True)
    windows = [Window(row, row + size[0], column, column + size[1]) for row, column in corners]
    return torch.cat([tiles.assemble(number, window, level) for window in windows])


def _describe_keys(key: Reduced, strip: Window, dilation: int) -> Tensor:
    """Patches around each pixel of a strip over the whole width, 1, 9 C, pixels; zeros lie outside the reference."""
    outer = strip.grow(dilation, key.whole)
    x = key.cut(outer, 2)
    missing = (dilation - (strip.top - outer.top), dilation - (outer.bottom - strip.bottom))
    x = F.pad(x, (dilation, dilation, *missing))
    return F.normalize(F.unfold(x, 3, dilation=dilation), dim=1)
