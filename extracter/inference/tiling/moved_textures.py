"""Textures of a window whose matches were moved by whole pixels (`extracter.search.align`)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from extracter.inference.tiling.features import LEVELS, Features
from extracter.inference.tiling.textures import Textures
from extracter.inference.tiling.windows import Window

_AT_ONCE = 2**23  # bytes of pixels that are gathered at once


class _Sources(NamedTuple):
    """For each block of a window nine sources, flat.

    Attributes:
        tiles: of the references; -1 where no query lends a block.
        top, left: first pixel in the reference; it may lie outside.
        weights: 1 / number of queries that cover the block.
    """

    tiles: Tensor
    top: Tensor
    left: Tensor
    weights: Tensor


class MovedTextures(Textures):
    """`Textures` where each patch is moved before it is copied.

    Args:
        references: features of each Ref.
        indices: int64, u, rows, columns: the key that each query matched.
        offsets: int8, u, rows, columns, 2: pixels of the image, down and right.
        stride: s.
        memory: bytes for kept features.
    """

    def __init__(self, references: Sequence[Features], indices: Tensor, offsets: Tensor, stride: int, memory: float):
        # The largest offset, in whole cells: a moved block may begin in the tile before its own.
        super().__init__(references, indices, stride, memory, reach=-(-(2 * stride + 1) // 4))
        self.offsets = offsets

    def cut(self, window: Window, level: int) -> list[Tensor]:
        """Textures of a window, for each rank: u tensors 1, C, scale height, scale width."""
        multiple, scale = LEVELS[level]
        block, channels = scale * self.stride, multiple * self.references[0].width
        rows, columns = window.height // self.stride, window.width // self.stride
        sources = [self._moved(window, rank, scale) for rank in range(len(self.indices))]
        shape = (rows * columns, block * block, channels)
        sums = [torch.zeros(shape, device=self.indices.device) for _ in sources]
        for number in torch.cat([of_rank.tiles[of_rank.tiles >= 0].unique() for of_rank in sources]).unique().tolist():
            reference, tile = self.tiles[number]
            kept = tile.grow(self.reach, self.references[reference].whole)
            features = self._features(number, level)[0]
            # One row for each pixel, and a last one of zeros for those outside the reference.
            table = F.pad(features.permute(1, 2, 0).flatten(0, 1), (0, 0, 0, 1))
            for of_rank, total in zip(sources, sums, strict=True):
                chosen = (of_rank.tiles == number).nonzero().squeeze(1)
                for part in chosen.split(max(1, _AT_ONCE // (4 * block * block * channels))):
                    _add_moved(total, table, part, of_rank, kept, scale, block)
        return [
            total.view(rows, columns, block, block, channels)
            .permute(4, 0, 2, 1, 3)
            .reshape(1, channels, rows * block, columns * block)
            for total in sums
        ]

    def _moved(self, window: Window, rank: int, scale: int) -> _Sources:
        """The sources of a window's blocks, at `scale` pixels a cell."""
        indices, device = self.indices[rank], self.indices.device
        rows, columns = indices.shape
        row = torch.arange(window.top // self.stride, window.bottom // self.stride, device=device).view(-1, 1, 1)
        column = torch.arange(window.left // self.stride, window.right // self.stride, device=device).view(1, -1, 1)
        near = torch.arange(9, device=device).view(1, 1, -1)
        down, right = near // 3 - 1, near % 3 - 1
        query_row, query_column = row - down, column - right
        inside = (query_row >= 0) & (query_row < rows) & (query_column >= 0) & (query_column < columns)
        at = query_row.clamp(0, rows - 1), query_column.clamp(0, columns - 1)
        key = indices[at]
        move = (self.offsets[rank][at] * (scale / 4)).round().long()
        block, side = scale * self.stride, self.side // self.stride
        tiles, top, left = torch.full_like(key, -1), torch.zeros_like(key), torch.zeros_like(key)
        start = first_tile = 0
        for reference in self.references:
            height, width = reference.whole.height // self.stride, reference.whole.width // self.stride
            here = inside & (key >= start) & (key < start + height * width)
            key_row, key_column = (key - start).div(width, rounding_mode="floor") + down, (key - start) % width + right
            # A block just outside may be moved inside: it belongs to the nearest tile.
            home_row, home_column = key_row.clamp(0, height - 1), key_column.clamp(0, width - 1)
            across = -(-width // side)
            number = first_tile + home_row.div(side, rounding_mode="floor") * across
            number += home_column.div(side, rounding_mode="floor")
            tiles = torch.where(here, number, tiles)
            top = torch.where(here, key_row * block + move[..., 0], top)
            left = torch.where(here, key_column * block + move[..., 1], left)
            start += height * width
            first_tile += -(-height // side) * across
        weights = (1 / inside.sum(2, keepdim=True)).expand(tiles.shape)
        return _Sources(tiles.flatten(), top.flatten(), left.flatten(), weights.flatten())


def _add_moved(
    total: Tensor, table: Tensor, chosen: Tensor, sources: _Sources, kept: Window, scale: int, block: int
) -> None:
    """Add the chosen sources (nine for each block of `total`) to their blocks, in place.

    Args:
        total: blocks, block block, C.
        table: pixels of the features over `kept`, row by row, then zeros.
        chosen: of the sources.
        sources: of a window.
        kept: cells of the reference that the features cover.
        scale: pixels of a cell's side.
        block: pixels of a block's side.
    """
    height, width = scale * kept.height, scale * kept.width
    line = torch.arange(block, device=table.device)
    y = (sources.top[chosen] - scale * kept.top).view(-1, 1, 1) + line.view(-1, 1)
    x = (sources.left[chosen] - scale * kept.left).view(-1, 1, 1) + line
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    pixels = table[torch.where(inside, y * width + x, height * width).flatten(1)]
    total.index_add_(0, chosen // 9, pixels.mul_(sources.weights[chosen].view(-1, 1, 1)))
