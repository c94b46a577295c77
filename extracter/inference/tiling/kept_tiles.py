"""Features of references, tile by tile, of which as many are kept as there is memory for."""

from collections.abc import Sequence

import torch
from torch import Tensor

from extracter.inference.tiling.features import LEVELS, Features
from extracter.inference.tiling.windows import Window


class KeptTiles:
    """Features that do not fit the memory are computed again whenever they are needed.

    Args:
        references: features of each Ref.
        memory: bytes for kept features.
        stride: s; sides of tiles are multiples of it.
        reach: cells beyond a tile whose features belong to it, too.
        levels: those that will be asked for, finest 0; the first ones are kept first. Coarse ones cost most to compute
            and least to keep.
    """

    def __init__(
        self,
        references: Sequence[Features],
        memory: float,
        stride: int = 1,
        reach: int = 0,
        levels: Sequence[int] = (2, 1, 0),
    ):
        self.references, self.stride, self.reach = references, stride, reach
        # A tile and its margin are just what `Features` computes at once.
        self.side = max((references[0].side - 2 * reach) // stride, 1) * stride
        self.tiles = [
            (number, tile)
            for number, reference in enumerate(references)
            for tile in reference.whole.split(self.side, self.side)
        ]
        self.kept: dict[tuple[int, int], Tensor] = {}
        self.left_for = [0.0, 0.0, 0.0]  # bytes that may still be kept of each level
        cells = sum(reference.whole.height * reference.whole.width for reference in references)
        for level in levels:
            self.left_for[level] = min(memory, 4.0 * references[0].channels(level) * LEVELS[level][1] ** 2 * cells)
            memory -= self.left_for[level]

    def features(self, number: int, level: int) -> tuple[Tensor, Window]:
        """Features of one of `tiles` with its margin, 1, C, scale height, scale width, and the window they cover."""
        reference, tile = self.tiles[number]
        window = tile.grow(self.reach, self.references[reference].whole)
        if (number, level) in self.kept:
            return self.kept[number, level], window
        features = self.references[reference].cut(window, level)
        size = 4 * features.numel()
        if size <= self.left_for[level]:
            self.left_for[level] -= size
            features = features.clone()  # without the margin that it is a view of
            self.kept[number, level] = features
        return features, window

    def assemble(self, reference: int, window: Window, level: int) -> Tensor:
        """Features of a window of a reference, 1, C, scale height, scale width."""
        first = next(number for number, (of, _) in enumerate(self.tiles) if of == reference)
        across = -(-self.references[reference].whole.width // self.side)
        rows = []
        for down in range(window.top // self.side, (window.bottom - 1) // self.side + 1):
            row = []
            for right in range(window.left // self.side, (window.right - 1) // self.side + 1):
                number = first + down * across + right
                features, around = self.features(number, level)
                row.append(window.meet(self.tiles[number][1]).of(features, around, LEVELS[level][1]))
            rows.append(torch.cat(row, 3))
        return torch.cat(rows, 2)
