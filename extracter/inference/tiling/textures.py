"""Textures T_i of a window, copied from wherever in the references the search found them."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from extracter.inference.tiling.features import LEVELS, SIDE, Features
from extracter.inference.tiling.windows import Window
from extracter.search.block_grid import to_blocks
from extracter.search.key_table import parallel
from extracter.search.numba_loops import add_tile

_AT_ONCE = 2**25  # bytes of blocks that are summed at once


class Textures:
    """Hard attention (section 3.2), window by window.

    Reference features are kept as far as `memory` goes, the coarse ones first, which cost most to compute and least to
    keep; the rest is computed again for each window that needs it.

    Args:
        references: features of each Ref.
        indices: int64, u, rows, columns: the key that each query matched, counting on from one reference to the next.
        stride: s, cells of a block's side; patches are 3 x 3 blocks.
        memory: bytes for kept features.
        constant_coverage: see `SearchTransfer`.
        reach: cells beyond a tile of the reference whose features are kept with it.
    """

    def __init__(
        self,
        references: Sequence[Features],
        indices: Tensor,
        stride: int,
        memory: float,
        constant_coverage: bool = False,
        reach: int = 0,
    ):
        self.reach = reach
        self.constant_coverage = constant_coverage
        self.references, self.indices, self.stride = references, indices, stride
        self.whole = Window(0, stride * indices.shape[1], 0, stride * indices.shape[2])
        self.side = max(SIDE // stride, 1) * stride
        self.tiles = [
            (number, tile)
            for number, reference in enumerate(references)
            for tile in reference.whole.split(self.side, self.side)
        ]
        self.memory = memory
        self.kept: dict[tuple[int, int], Tensor] = {}
        self.room = [0.0, 0.0, 0.0]
        cells = sum(reference.whole.height * reference.whole.width for reference in references)
        for level in (2, 1, 0):
            multiple, scale = LEVELS[level]
            self.room[level] = min(memory, 4.0 * multiple * references[0].width * scale**2 * cells)
            memory -= self.room[level]

    def cut(self, window: Window, level: int) -> list[Tensor]:
        """Textures of a window, for each rank.

        Args:
            window: its edges are multiples of the stride.
            level: 0 to 2, finest first.

        Returns:
            u tensors 1, C, scale height, scale width.
        """
        multiple, scale = LEVELS[level]
        block = scale * self.stride
        rows, columns = window.height // self.stride, window.width // self.stride
        channels = multiple * self.references[0].width
        size = channels * block**2
        sources = [self._sources(window, indices) for indices in self.indices]
        if add_tile is not None and self.indices.device.type == "cpu":
            return self._cut_compiled(sources, level, block, channels, (rows, columns))
        sums = [torch.zeros(rows * columns, size, device=self.indices.device) for _ in sources]
        needed = torch.cat([tiles[tiles >= 0].unique() for tiles, _, _ in sources]).unique().tolist()
        for number in needed:
            table = to_blocks(self._features(number, level), block).flatten(0, 2)
            for (tiles, places, weights), total in zip(sources, sums, strict=True):
                chosen = (tiles == number).nonzero().squeeze(1)
                for part in chosen.split(max(1, _AT_ONCE // (4 * size))):
                    _add(total, table, part, places, weights)
        shape = (1, rows, columns, size)
        textures = []
        while sums:  # each sum is freed once it is laid out
            textures.append(F.pixel_shuffle(sums.pop(0).view(shape).permute(0, 3, 1, 2), block))
        return textures

    def _cut_compiled(
        self, sources: list[tuple[Tensor, Tensor, Tensor]], level: int, block: int, channels: int, size: tuple[int, int]
    ) -> list[Tensor]:
        """`cut` by compiled loops, which write each texture once; channels-last in memory."""
        rows, columns = size
        textures = [torch.zeros(rows * block, columns * block * channels) for _ in sources]
        ranks = [
            (*(x.contiguous().view(rows, columns, 9).numpy() for x in of_rank), texture.numpy())
            for of_rank, texture in zip(sources, textures, strict=True)
        ]
        needed = np.zeros(len(self.tiles) + 1, bool)  # the last one stands for what lies outside, -1
        for tiles, _, _ in sources:
            needed[tiles.numpy()] = True
        for number in np.flatnonzero(needed[:-1]).tolist():
            image = self._features(number, level)[0].permute(1, 2, 0).contiguous().flatten(1).numpy()

            def add(first: int, last: int) -> None:
                for tiles, places, weights, texture in ranks:
                    add_tile(image, number, tiles, places, weights, block, channels, first, last, texture)  # noqa: B023

            parallel(add, 0, rows)
        shape = (1, rows * block, columns * block, channels)
        return [texture.view(shape).permute(0, 3, 1, 2) for texture in textures]

    def _features(self, number: int, level: int) -> Tensor:
        if (number, level) in self.kept:
            return self.kept[number, level]
        reference, tile = self.tiles[number]
        features = self.references[reference].cut(tile.grow(self.reach, self.references[reference].whole), level)
        size = 4 * features.numel()
        if size <= self.room[level]:
            self.room[level] -= size
            features = features.clone()  # without the margin that it is a view of
            self.kept[number, level] = features
        return features

    def _sources(self, window: Window, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For each block of the window nine sources, flat: tile (-1 outside), block inside the tile, and weight.

        A query lends its patch's nine blocks to its own place and its eight neighbours, so a block is the mean of what
        the queries around it found.
        """
        device = indices.device
        rows, columns = indices.shape
        top, left = window.top // self.stride, window.left // self.stride
        row = torch.arange(top, window.bottom // self.stride, device=device).view(-1, 1, 1)
        column = torch.arange(left, window.right // self.stride, device=device).view(1, -1, 1)
        offset = torch.arange(9, device=device).view(1, 1, -1)
        down, right = offset // 3 - 1, offset % 3 - 1
        query_row, query_column = row - down, column - right
        inside = (query_row >= 0) & (query_row < rows) & (query_column >= 0) & (query_column < columns)
        coverage = inside.sum(2, keepdim=True)
        if self.constant_coverage:
            coverage = torch.full_like(coverage, 9)
        key = indices[query_row.clamp(0, rows - 1), query_column.clamp(0, columns - 1)]
        tiles, places = torch.full_like(key, -1), torch.zeros_like(key)
        start = first_tile = 0
        for reference in self.references:
            height, width = reference.whole.height // self.stride, reference.whole.width // self.stride
            place = key - start
            key_row, key_column = place.div(width, rounding_mode="floor") + down, place % width + right
            found = inside & (place >= 0) & (place < height * width)
            found &= (key_row >= 0) & (key_row < height) & (key_column >= 0) & (key_column < width)
            side = self.side // self.stride
            across = -(-width // side)
            number = first_tile + key_row.div(side, rounding_mode="floor") * across
            number += key_column.div(side, rounding_mode="floor")
            # Blocks of a tile's row; the last tile of a row may be narrower.
            breadth = (width - key_column.div(side, rounding_mode="floor") * side).clamp(max=side)
            tiles = torch.where(found, number, tiles)
            places = torch.where(found, key_row % side * breadth + key_column % side, places)
            start += height * width
            first_tile += -(-height // side) * across
        weights = (1 / coverage).expand(tiles.shape)
        return tiles.flatten(), places.flatten(), weights.flatten()


def _add(total: Tensor, table: Tensor, chosen: Tensor, places: Tensor, weights: Tensor) -> None:
    """Add the chosen sources (rising, nine for each row of `total`) to their rows, in place."""
    targets, counts = (chosen // 9).unique_consecutive(return_counts=True)
    offsets = counts.cumsum(0) - counts
    sums = F.embedding_bag(places[chosen], table, offsets, mode="sum", per_sample_weights=weights[chosen])
    total.index_add_(0, targets, sums)
