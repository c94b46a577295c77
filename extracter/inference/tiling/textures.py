"""Textures T_i of a window, copied from wherever in the references the search found them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from extracter.inference.tiling.features import LEVELS, Features
from extracter.inference.tiling.kept_tiles import KeptTiles
from extracter.inference.tiling.texture_loops import add_sources, list_sources
from extracter.inference.tiling.windows import Window
from extracter.search.key_table import parallel

_AT_ONCE = 2**23  # bytes of pixels that are gathered at once


class _Sources(NamedTuple):
    """For each block of a window nine sources, flat.

    Attributes:
        tiles: of the references; -1 where no query lends a block.
        top, left: first pixel in the reference; it may lie outside, where features count as zero.
        weights: 1 / number of queries that cover the block.
    """

    tiles: Tensor
    top: Tensor
    left: Tensor
    weights: Tensor


class Textures(KeptTiles):
    """Hard attention (section 3.2), window by window; each patch may be moved before it is copied.

    Args:
        references: features of each Ref.
        indices: int64, u, rows, columns: the key that each query matched, counting on from one reference to the next; a
            negative one: the query has no patch.
        stride: s, cells of a block's side; patches are 3 x 3 blocks.
        memory: bytes for kept features.
        offsets: int8, u, rows, columns, 2: pixels of the image, down and right, by which each patch is moved
            (`extracter.search.align`); None moves none.
        constant_coverage: see `SearchTransfer`.
        levels: as of `KeptTiles`.
    """

    def __init__(
        self,
        references: Sequence[Features],
        indices: Tensor,
        stride: int,
        memory: float,
        offsets: Tensor | None = None,
        constant_coverage: bool = False,
        levels: Sequence[int] = (2, 1, 0),
    ):
        # Cells by which a moved block may reach out of the tile that it belongs to.
        reach = 0 if offsets is None else -(-(2 * stride + 1) // 4)
        super().__init__(references, memory, stride, reach, levels)
        self.indices, self.constant_coverage = indices, constant_coverage
        self.offsets = torch.zeros(*indices.shape, 2, dtype=torch.int8) if offsets is None else offsets
        self.offsets = self.offsets.to(indices.device)

    def cut(self, window: Window, level: int) -> list[Tensor]:
        """Textures of a window, for each rank.

        Args:
            window: its edges are multiples of the stride.
            level: 0 to 2, finest first.

        Returns:
            u tensors 1, C, scale height, scale width; channels-last in memory on the CPU.
        """
        if list_sources is not None and self.indices.device.type == "cpu":
            return self._cut_compiled(window, level)
        multiple, scale = LEVELS[level]
        block, channels = scale * self.stride, multiple * self.references[0].width
        rows, columns = window.height // self.stride, window.width // self.stride
        sources = [self._sources(window, rank, scale) for rank in range(len(self.indices))]
        shape = (rows * columns, block * block, channels)
        sums = [torch.zeros(shape, device=self.indices.device) for _ in sources]
        for number in torch.cat([of_rank.tiles[of_rank.tiles >= 0].unique() for of_rank in sources]).unique().tolist():
            features, kept = self.features(number, level)
            # One row for each pixel, and a last one of zeros for those outside the reference.
            table = F.pad(features[0].permute(1, 2, 0).flatten(0, 1), (0, 0, 0, 1))
            for of_rank, total in zip(sources, sums, strict=True):
                chosen = (of_rank.tiles == number).nonzero().squeeze(1)
                for part in chosen.split(max(1, _AT_ONCE // (4 * block * block * channels))):
                    _add(total, table, part, of_rank, kept, scale, block)
        return [
            total.view(rows, columns, block, block, channels)
            .permute(4, 0, 2, 1, 3)
            .reshape(1, channels, rows * block, columns * block)
            for total in sums
        ]

    def _cut_compiled(self, window: Window, level: int) -> list[Tensor]:
        """`cut` by compiled loops, which write each texture once."""
        multiple, scale = LEVELS[level]
        block, channels = scale * self.stride, multiple * self.references[0].width
        part = window.in_blocks(self.stride)
        indices, offsets = self.indices.contiguous().numpy(), self.offsets.contiguous().numpy()
        references, side = self._layout(), self.side // self.stride

        def list_rows(first: int, last: int) -> tuple[int, int, tuple[np.ndarray, ...]]:
            return first, last, list_sources(
                indices, offsets, references, first, last, part.left, part.right, scale, block, side,
                self.constant_coverage, len(self.tiles),
            )  # fmt: skip

        bands = parallel(list_rows, part.top, part.bottom)
        textures = torch.zeros(len(indices), part.height, block, part.width * block * channels)
        into = textures.numpy()
        for number in np.flatnonzero(sum(np.diff(sources[0]) for _, _, sources in bands)).tolist():
            features, kept = self.features(number, level)
            image = features[0].permute(1, 2, 0).contiguous().flatten(1).numpy()
            top, left = scale * kept.top, scale * kept.left

            def add(begin: int, end: int) -> None:
                for first, last, (starts, *sources) in bands[begin:end]:
                    here = slice(starts[number], starts[number + 1])  # noqa: B023
                    rows = into[:, first - part.top : last - part.top]
                    add_sources(image, channels, top, left, *(x[here] for x in sources), block, rows)  # noqa: B023

            parallel(add, 0, len(bands))
        shape = (1, part.height * block, part.width * block, channels)
        return [texture.view(shape).permute(0, 3, 1, 2) for texture in textures]

    def _layout(self) -> np.ndarray:
        """First key, rows and columns of keys, and first tile of each reference."""
        rows, key, tile = [], 0, 0
        for reference in self.references:
            height, width = reference.whole.height // self.stride, reference.whole.width // self.stride
            rows.append((key, height, width, tile))
            key += height * width
            tile += len(reference.whole.split(self.side, self.side))
        return np.array(rows)

    def _sources(self, window: Window, rank: int, scale: int) -> _Sources:
        """The sources of a window's blocks, at `scale` pixels a cell; see `texture_loops`."""
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
        inside &= key >= 0
        move = (self.offsets[rank][at] * (scale / 4)).round().long()
        block, side = scale * self.stride, self.side // self.stride
        tiles, top, left = torch.full_like(key, -1), torch.zeros_like(key), torch.zeros_like(key)
        for start, height, width, first_tile in self._layout().tolist():
            here = inside & (key >= start) & (key < start + height * width)
            key_row, key_column = (key - start).div(width, rounding_mode="floor") + down, (key - start) % width + right
            # A block just outside may be moved inside: it belongs to the nearest tile.
            home_row, home_column = key_row.clamp(0, height - 1), key_column.clamp(0, width - 1)
            number = first_tile + home_row.div(side, rounding_mode="floor") * -(-width // side)
            number += home_column.div(side, rounding_mode="floor")
            tiles = torch.where(here, number, tiles)
            top = torch.where(here, key_row * block + move[..., 0], top)
            left = torch.where(here, key_column * block + move[..., 1], left)
        coverage = torch.full_like(key, 9) if self.constant_coverage else inside.sum(2, keepdim=True)
        weights = (1 / coverage).expand(tiles.shape)
        return _Sources(tiles.flatten(), top.flatten(), left.flatten(), weights.flatten())


def _add(total: Tensor, table: Tensor, chosen: Tensor, sources: _Sources, kept: Window, scale: int, block: int) -> None:
    """Add the chosen sources (nine for each block of `total`) to their blocks, block block, C, in place.

    The table has the pixels of the features over the cells `kept` of the reference, row by row, then zeros.
    """
    height, width = scale * kept.height, scale * kept.width
    line = torch.arange(block, device=table.device)
    y = (sources.top[chosen] - scale * kept.top).view(-1, 1, 1) + line.view(-1, 1)
    x = (sources.left[chosen] - scale * kept.left).view(-1, 1, 1) + line
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    pixels = table[torch.where(inside, y * width + x, height * width).flatten(1)]
    total.index_add_(0, chosen // 9, pixels.mul_(sources.weights[chosen].view(-1, 1, 1)))
