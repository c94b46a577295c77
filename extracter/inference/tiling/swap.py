"""SRNTT, tile by tile: content and three scales, into which swapped textures are merged."""

from collections.abc import Sequence

import torch
from torch import Tensor

from extracter.inference.tiling.budget import area
from extracter.inference.tiling.features import Features
from extracter.inference.tiling.network import cells, convolutions
from extracter.inference.tiling.search import least_bytes, search_inner_patches
from extracter.inference.tiling.textures import Textures
from extracter.inference.tiling.windows import Patch, Picture, Report, Window
from extracter.models.srntt import SRNTT
from extracter.search.search import Matches


class SwapTiles:
    """SRNTT on parts of an image.

    Args:
        model: the network.
        lr, lr_up, refs, refs_du: the images, extended to what the network takes.
    """

    step = 1  # edges of tiles are multiples of it

    def __init__(self, model: SRNTT, lr: Picture, lr_up: Picture, refs: Sequence[Picture], refs_du: Sequence[Picture]):
        self.model, self.lr, self.whole = model, lr, lr.whole
        self.query = Features(model.dfe, lr_up)
        self.keys, self.values = ([Features(model.dfe, x) for x in pictures] for pictures in (refs_du, refs))
        large = cells(1 + convolutions(model.scales[2]), 4)
        medium = large + cells(1 + convolutions(model.scales[1]), 2)
        small = medium + 1 + convolutions(model.scales[0])
        # Cells beyond a tile of what goes into each scale, coarsest first, and of LR.
        self.entered, self.start = (small, medium, large), small + convolutions(model.content)

    def least_bytes(self) -> float:
        """Of the search."""
        return least_bytes(self.model.dfe.width, 1, self.whole, [key.whole for key in self.keys])

    def search(self, memory: float, report: Report) -> Matches:
        """Match the whole image; the outer ring of queries holds no patch."""
        self.matches = search_inner_patches(self.query, self.keys, memory, report)
        return self.matches

    def tile_bytes(self, edge: int) -> float:
        """Peak memory of a tile of `edge` x `edge` cells."""
        features, width = self.model.ups[0].conv.in_channels, self.model.dfe.width
        # At each scale: the texture twice, x beside it, and five maps of the blocks.
        maps = [
            scale**2 * area(edge, edge, margin, self.whole) * (3 * multiple * width + 7 * features)
            for scale, multiple, margin in zip((1, 2, 4), (4, 2, 1), self.entered, strict=True)
        ]
        return 4 * max(area(edge, edge, self.start, self.whole) * 6 * features, *maps)

    def begin(self, memory: float, tiles: Sequence[Window]) -> None:
        """Keep features of the references in `memory` bytes; `tiles` are those that come."""
        indices = torch.full((1, self.whole.height, self.whole.width), -1, device=self.lr.device)
        inner = (slice(None), slice(1, -1), slice(1, -1))
        indices[inner] = self.matches.indices.view(indices.shape)[inner]
        self.textures = Textures(self.values, indices, 1, memory)

    def run(self, inner: Window) -> Tensor:
        """SR of a tile without the bicubic skip, 1, 3, 4 height, 4 width."""
        window = inner.grow(self.start, self.whole)
        x = Patch(self.model.content(self.lr.cut(window)), window, 1)
        for number, scale in enumerate(self.model.scales):
            x = x.crop(inner.grow(self.entered[number], self.whole))
            (texture,) = self.textures.cut(x.window, 2 - number)
            x = x._replace(x=scale(x.x, texture))
            if number < len(self.model.ups):
                # What lies further out is wrong after the scale's convolutions; a pixel more is for the next one.
                x = x.crop(inner.grow(self.entered[number + 1] + 1, self.whole))
                x = Patch(self.model.ups[number](x.x), x.window, 2 * x.scale)
        return inner.of(self.model.tail(x.x).tanh(), x.window, 4)
