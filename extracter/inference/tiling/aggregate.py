"""C2-Matching and AMSA, tile by tile: deformable convolutions that read anywhere in the references."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from extracter.errors import UserError
from extracter.inference.tiling.budget import area
from extracter.inference.tiling.features import LEVELS, REACH, Features
from extracter.inference.tiling.kept_tiles import KeptTiles
from extracter.inference.tiling.network import cells, convolutions
from extracter.inference.tiling.search import least_bytes, search_inner_patches
from extracter.inference.tiling.windows import Patch, Picture, Report, Window
from extracter.models.c2_matching import AMSA, C2Matching, merge, surround
from extracter.models.deformable import DeformableConv, neighbours, tap_positions, tap_shares
from extracter.models.matcher import Matcher, enlarge_nearest
from extracter.search.search import Matches

_AT_ONCE = 2**18  # samples of a group of channels at once


class Described(Features):
    """Features by which patches are matched; they stand in the place of the deepest level."""

    def _compute(self, window: Window, level: int) -> Tensor:
        outer = window.grow(REACH, self.whole)
        return window.of(Matcher.describe(self.dfe, self.picture.cut(outer)), outer, 1)


class Sampler:
    """Deformable convolutions of one reference's features, which are never held as a whole.

    Args:
        values: the features.
        memory: bytes for those that are kept.
    """

    def __init__(self, values: Features, memory: float):
        self.values = values
        self.tiles = KeptTiles([values], memory)

    def beside(self, window: Window, level: int) -> Tensor:
        """Features at the places of a window, and zeros outside the reference."""
        multiple, scale = LEVELS[level]
        whole = self.values.whole
        bottom, right = min(window.bottom, whole.bottom), min(window.right, whole.right)
        size = (scale * window.height, scale * window.width)
        if bottom <= window.top or right <= window.left:
            return torch.zeros(1, multiple * self.values.width, *size, device=self.values.picture.device)
        x = self.values.cut(Window(window.top, bottom, window.left, right), level)
        return F.pad(x, (0, size[1] - x.shape[-1], 0, size[0] - x.shape[-2]))

    def convolve(self, conv: DeformableConv, offsets: Tensor, mask: Tensor, window: Window, level: int) -> Tensor:
        """As `conv` of the whole features, on a window: N, O, scale height, scale width."""
        groups, scale = offsets.shape[1] // 18, LEVELS[level][1]
        step = max(1, _AT_ONCE // (9 * groups * offsets.shape[-1]))
        results = []
        for top in range(0, offsets.shape[-2], step):
            rows = slice(top, top + step)
            origin = torch.tensor((scale * window.top + top, scale * window.left), device=offsets.device)
            positions = tap_positions(offsets[:, :, rows].float()) + origin
            results.append(conv.combine(self._sample(positions, tap_shares(mask[:, :, rows]), level)))
        return torch.cat(results, 2)

    def _sample(self, positions: Tensor, shares: Tensor, level: int) -> Tensor:
        """Samples 1, h, w, 9, G, C / G at positions 1, h, w, 9, G, 2 of the whole reference."""
        multiple, scale = LEVELS[level]
        groups = positions.shape[4]
        channels = multiple * self.values.width // groups
        whole, side = self.values.whole, scale * self.tiles.side
        rows, columns, weights = neighbours(positions, scale * whole.height, scale * whole.width)
        weights = (weights * shares.unsqueeze(-1)).flatten()
        across = -(-whole.width // self.tiles.side)
        numbers = (rows // side * across + columns // side).flatten()
        group = torch.arange(groups, device=rows.device).view(-1, 1)
        sampled = torch.zeros(positions[..., 0].numel(), channels, device=rows.device)
        for number in numbers[weights != 0].unique().tolist():
            features, tile = self.tiles.features(number, level)
            table = features[0].permute(1, 2, 0).reshape(-1, channels)
            places = (rows - scale * tile.top) * features.shape[-1] + columns - scale * tile.left
            chosen = ((numbers == number) & (weights != 0)).nonzero().squeeze(1)
            targets, counts = (chosen // 4).unique_consecutive(return_counts=True)
            places = (places * groups + group).flatten()[chosen]
            starts = counts.cumsum(0) - counts
            sums = F.embedding_bag(
                places, table, starts, mode="sum", per_sample_weights=weights[chosen].to(table.dtype)
            )
            sampled.index_add_(0, targets, sums)
        return sampled.view(*positions.shape[:-1], channels)


class AggregationTiles:
    """C2-Matching or AMSA on parts of an image.

    Args:
        model: the network.
        lr, lr_up, refs: the images, extended to what the network takes.
        refs_du: not used: references are matched as they are.

    Raises:
        UserError: AMSA with references at several sizes.
    """

    step = 1  # edges of tiles are multiples of it

    def __init__(
        self, model: C2Matching, lr: Picture, lr_up: Picture, refs: Sequence[Picture], refs_du: Sequence[Picture]
    ):
        if isinstance(model, AMSA) and model.sizes != (1.0,):
            raise UserError("AMSA with references at several sizes is not tiled; take a model of `sizes: [1.0]`")
        self.model, self.lr, self.whole = model, lr, lr.whole
        self.query = Described(model.matcher.query, lr_up)
        self.keys = [Described(model.matcher.key, x) for x in refs]
        self.values = [Features(model.dfe, x) for x in refs]
        reach = [convolutions(level) for level in model.levels]
        large = cells(convolutions(model.tail) + reach[2], 4)
        medium = large + cells(1 + reach[1], 2)
        small = medium + 1 + reach[0]
        # Cells beyond a tile of what goes into each level, coarsest first, and of LR.
        self.entered, self.start = (small, medium, large), small + convolutions(model.content)

    def least_bytes(self) -> float:
        """Of the search."""
        return least_bytes(self.model.dfe.width, 1, self.whole, [key.whole for key in self.keys])

    def search(self, memory: float, report: Report) -> Matches:
        """Match the whole image with each reference; what is returned is of all of them, for figures of it."""
        rows, columns = self.whole.height, self.whole.width
        self.flows, self.scores, found = [], [], []
        first = 0
        for number, key in enumerate(self.keys):
            matches = search_inner_patches(
                self.query,
                [key],
                memory,
                lambda done, total, number=number: report(number * total + done, len(self.keys) * total),
            )
            places = matches.indices.view(rows, columns)[1:-1, 1:-1]
            y = places // key.whole.width - torch.arange(1, rows - 1, device=places.device).view(-1, 1)
            x = places % key.whole.width - torch.arange(1, columns - 1, device=places.device)
            self.flows.append(F.pad(torch.stack((y, x)).float(), (2, 2, 2, 2)))
            self.scores.append(surround(matches.scores.view(1, 1, rows, columns)[..., 1:-1, 1:-1]))
            found.append((matches.scores[0, 0], matches.indices[0, 0] + first))
            first += key.whole.height * key.whole.width
        best = torch.stack([scores for scores, _ in found]).max(0)
        indices = torch.stack([places for _, places in found]).gather(0, best.indices.unsqueeze(0))
        return Matches(indices.unsqueeze(0), best.values.view(1, 1, -1), first)

    def tile_bytes(self, edge: int) -> float:
        """Peak memory of a tile of `edge` x `edge` cells."""
        features, width, groups = self.model.content[0].out_channels, self.model.dfe.width, self.model.groups
        maps = []
        for scale, multiple, margin in zip((1, 2, 4), (4, 2, 1), self.entered, strict=True):
            # Offsets and masks with what they come from, twice; the features, thrice; x and the blocks.
            channels = 2 * 27 * groups + 18 * groups + 3 * multiple * width + 7 * features
            maps.append(scale**2 * area(edge, edge, margin, self.whole) * channels)
        # Indices, places and weights of the samples that are read at once.
        return 4 * max(maps) + _AT_ONCE * 4 * 4 * 10 + 4 * _AT_ONCE * 4 * width // groups

    def begin(self, memory: float, tiles: Sequence[Window]) -> None:
        """Keep features of the references in `memory` bytes; `tiles` are those that come."""
        self.samplers = [Sampler(values, memory / len(self.values)) for values in self.values]

    def run(self, inner: Window) -> Tensor:
        """SR of a tile, 1, 3, 4 height, 4 width."""
        window = inner.grow(self.start, self.whole)
        content = Patch(self.model.content((self.lr.cut(window) + 1) / 2), window, 1)
        outer = inner.grow(1, self.whole)
        found = []
        for number in range(len(self.values)):
            scores = enlarge_nearest(outer.of(self.scores[number], self.whole, 1), 4)
            found.append((self._restore(content, number, inner).crop(outer).x, scores))
        base = F.interpolate((self.lr.cut(outer) + 1) / 2, scale_factor=4, mode="bilinear")
        return inner.of(2 * (self.model.tail(merge(found)) + base) - 1, outer, 4)

    def _restore(self, x: Patch, number: int, inner: Window) -> Patch:
        """Features at full size with one reference."""
        sampler = self.samplers[number]
        for place, level in enumerate(self.model.levels):
            x = x.crop(inner.grow(self.entered[place], self.whole))
            window, fineness = x.window, 2 - place
            sample = partial(sampler.convolve, window=window, level=fineness)
            offset = self._offsets(number, window, x.scale)
            x = x._replace(x=level.aggregate_from(x.x, sampler.beside(window, fineness), sample, offset))
            if place < len(self.model.ups):
                # What lies further out is wrong after the level's convolutions; a pixel more is for the next one.
                x = x.crop(inner.grow(self.entered[place + 1] + 1, self.whole))
                enlarged = F.leaky_relu(F.pixel_shuffle(self.model.ups[place](x.x), 2), 0.1)
                x = Patch(enlarged, x.window, 2 * x.scale)
        return x

    def _offsets(self, number: int, window: Window, scale: int) -> Tensor:
        """`pre_offsets` of a window, 1, 18, scale height, scale width."""
        flow = self.flows[number]  # with two pixels of zeros on each side
        taps = [
            flow[:, window.top + 2 - i : window.bottom + 2 - i, window.left + 2 - j : window.right + 2 - j]
            for i in range(3)
            for j in range(3)
        ]
        return enlarge_nearest(torch.cat(taps).unsqueeze(0), scale) * scale
