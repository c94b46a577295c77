"""MASA, tile by tile: what spatial adaptation needs of whole images is computed over them first."""

from collections.abc import Sequence

import torch
from torch import Tensor

from extracter.inference.tiling.budget import area
from extracter.inference.tiling.encoded import Content, Encoded, Reduced, copy_textures, match_blocks, pixel_matches
from extracter.inference.tiling.features import LEVELS
from extracter.inference.tiling.kept_tiles import KeptTiles
from extracter.inference.tiling.network import cells, convolutions
from extracter.inference.tiling.windows import Patch, Picture, Report, Window
from extracter.models.blocks import upsample
from extracter.models.masa import MASA, Statistics
from extracter.models.masa_match import BLOCK, double
from extracter.search.search import Matches

_ADAPT = 2  # pixels: two convolutions
_AGGREGATE = 4  # pixels of the larger size: down, up, and the merge
_ENLARGED = 1  # pixel of the smaller size, for bilinear enlargement


class AdaptationTiles:
    """MASA on parts of an image.

    Args:
        model: the network.
        lr, refs: the images, extended to what the network takes.
        lr_up, refs_du: not used.
    """

    step = 4  # edges of tiles are multiples of it

    def __init__(self, model: MASA, lr: Picture, lr_up: Picture, refs: Sequence[Picture], refs_du: Sequence[Picture]):
        self.model, self.lr, self.whole = model, lr, lr.whole
        self.content = Content(model.encoder, lr)
        self.keys = [Reduced(model.encoder, x) for x in refs]
        self.values = [Encoded(model.encoder, x) for x in refs]
        self.features = model.tail.in_channels
        # Cells beyond a tile that each stage must be right in: of what goes into the adaptation at 1x, 2x and 4x.
        body = [convolutions(part) for part in model.bodies]
        finest = cells(1 + body[2] + _AGGREGATE + _ADAPT, 4)
        middle = cells(2 * finest + 2 * _ENLARGED + body[1] + _AGGREGATE + _ADAPT, 2)
        coarse = middle + _ENLARGED + body[0] + 1 + _ADAPT
        self.entered = (coarse, middle, finest)
        # The way up joins levels at a quarter, a half and full size.
        rises = [1 + convolutions(part) for part in model.rises]
        self.start = coarse + rises[2] + 2 * (_ENLARGED + rises[1]) + 4 * (_ENLARGED + rises[0])
        self.statistics: list[Statistics] = []

    def least_bytes(self) -> float:
        """Of the matching: middles of blocks, strips of keys and their scores."""
        width = max(key.whole.width for key in self.keys)
        blocks = self.whole.height * self.whole.width // BLOCK**2
        strip = BLOCK * width
        return 4 * (blocks * 27 * self.features + strip * (3 * 2 * 9 * self.features + 2 * 64)) + self._encoding()

    def _encoding(self) -> float:
        """Of one part of a reference's features."""
        return 4 * 16 * 5 * self.features * (Encoded.side + 2 * self.values[0].margin) ** 2

    def search(self, memory: float, report: Report) -> Matches:
        """Match all blocks; what is returned has the match of each pixel, for figures of it."""
        width = max(key.whole.width for key in self.keys)
        row = 4 * width * (3 * 2 * 9 * self.features + 2 * 64)
        free = memory - self.least_bytes()
        side = BLOCK * max(1, min(int(free / (BLOCK * row)), 16))
        self.matches = match_blocks(self.content, self.keys, side, report)
        return pixel_matches(self.matches, [key.whole for key in self.keys], self.whole)

    def tile_bytes(self, edge: int) -> float:
        """Peak memory of a tile of `edge` x `edge` cells."""
        start = area(edge, edge, self.start + self.content.margin, self.whole)
        maps = [
            scale**2 * area(edge, edge, margin + BLOCK, self.whole) * 9 * self.features
            for scale, margin in zip((1, 2, 4), self.entered, strict=True)
        ]
        copies = 8 * 3 * 9 * 16 * self.features * 15**2  # patches of the blocks that are copied at once
        return 4 * (max(start * 6 * self.features, *maps) + copies) + self._encoding()

    def begin(self, memory: float, tiles: Sequence[Window]) -> None:
        """Keep features of the references in `memory` bytes, and take the statistics of the whole image.

        Each stage's statistics follow from those before, so that all tiles are computed three times, further each time.
        """
        self.kept = KeptTiles(self.values, memory)
        self.statistics = []
        for stage in range(3):
            moments = [_Moments(self.features, self.lr.device) for _ in range(2)]
            for inner in tiles:
                for moment, x in zip(moments, self._entering(inner, stage)[1:], strict=True):
                    moment.add(inner.of(x.x, x.window, x.scale))
            lr, ref = moments
            found = (lr.variance(1).sqrt(), lr.mean(), ref.variance(0), ref.mean())
            self.statistics.append(Statistics(*(value.float() for value in found)))

    def _entering(self, inner: Window, stage: int) -> tuple[Patch, Patch, Patch]:
        """What goes into the adaptation at 1x, 2x or 4x, with the margin that is needed.

        Returns:
            Features as they are and, after the first stage, enlarged by 2; and the texture.
        """
        start = inner.grow(self.start, self.whole, 4)
        below = Patch(self.model.integrate(self.content.levels(start)), start, 1).crop(self._window(inner, 0))
        x, texture = below, self._texture(below.window, 2)
        for number in range(stage):
            adapted = self.model.adapt(x.x, texture.x, self.statistics[number])
            if number == 0:
                below = below._replace(x=self.model.refine(below.x, adapted))
            else:
                below = Patch(self.model.enlarge(number - 1, below.x, adapted), below.window, 2 * below.scale)
            below = below.crop(self._window(inner, number + 1))
            x = Patch(double(below.x), below.window, 2 * below.scale)
            texture = self._texture(below.window, 1 - number)
        return below, x, texture

    def _window(self, inner: Window, stage: int) -> Window:
        """Of what goes into a stage; a cell more is for bilinear enlargement."""
        return inner.grow(self.entered[stage] + (1 if stage else 0), self.whole)

    def _texture(self, window: Window, level: int) -> Patch:
        blocks = window.grow(0, self.whole, BLOCK)
        with torch.autocast(self.lr.device.type, enabled=False):
            x = copy_textures(self.matches, self.kept, blocks, self.whole, level)
        scale = LEVELS[level][1]
        return Patch(window.of(x, blocks, scale), window, scale)

    def run(self, inner: Window) -> Tensor:
        """SR of a tile, 1, 3, 4 height, 4 width."""
        below, x, texture = self._entering(inner, 2)
        adapted = self.model.adapt(x.x, texture.x, self.statistics[2])
        x = x._replace(x=self.model.tail(self.model.enlarge(1, below.x, adapted)))
        around = inner.grow(3, self.whole)
        base = inner.of(upsample((self.lr.cut(around) + 1) / 2, 4), around, 4)
        return 2 * (x.crop(inner).x + base) - 1


class _Moments:
    """Mean and variance of N, C, H, W that come in parts."""

    def __init__(self, channels: int, device: torch.device):
        self.sums = torch.zeros(2, 1, channels, 1, 1, dtype=torch.float64, device=device)
        self.count = 0

    def add(self, x: Tensor) -> None:
        """Count a part in."""
        x = x.double()
        self.sums += torch.stack([value.sum((2, 3), keepdim=True) for value in (x, x.square())])
        self.count += x.shape[2] * x.shape[3]

    def mean(self) -> Tensor:
        """1, C, 1, 1."""
        return self.sums[0] / self.count

    def variance(self, correction: int) -> Tensor:
        """1, C, 1, 1; `correction` as of `torch.var`."""
        squares = self.sums[1] - self.sums[0].square() / self.count
        return (squares / (self.count - correction)).clamp(min=0)
