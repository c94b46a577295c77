"""The search over whole images, in memory that does not grow with them.

Key features are held strip by strip and query features tile by tile, each with a margin of one block, from which the
block search gives the scores of the whole. The running best of each query goes from strip to strip, so a query finds
the same keys whatever the strips and tiles are; where keys score the same, the lower index wins as in the whole.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from extracter.memory import MIB
from extracter.models.block_walk import walk
from extracter.models.grid import inverse_norms
from extracter.models.search import Matches, SearchConfig
from extracter.tiles.features import Features, bytes_at_once
from extracter.tiles.windows import TooLittleMemory, Window

# Strips of keys and tiles of queries exist three times at once: as features, as blocks, and squared for their norms.
_COPIES = 3
_KEY_SHARE = 0.7  # of the memory; the rest is for queries
_LEAST_ROWS = 3  # blocks; a strip of fewer is mostly margin
_QUERY_COLUMNS = 512  # blocks; bounds the tile of scores for very wide images


class Search:
    """Finds the matches of Eq. 4 to 6 for a whole image.

    Args:
        query: features of LR_up.
        keys: features of each Ref_du; all are searched together.
        u: matches for each query.
        config: patches with k = 3s, p = s, and the strategy.
        memory: bytes for all of it.
        report: called with (done, total) after each step.
    """

    def __init__(
        self,
        query: Features,
        keys: Sequence[Features],
        u: int,
        config: SearchConfig,
        memory: float,
        report: Callable[[int, int], None],
    ):
        self.query, self.keys, self.u, self.config, self.report = query, keys, u, config, report
        self.stride = config.stride
        self.device = query.picture.device
        on_cpu = self.device.type == "cpu"
        self.score_bytes = min(memory / 10, 2**20) if on_cpu else min(memory / 40, 2**28)
        free = memory - bytes_at_once(query.width) - 5 * self.score_bytes
        wholes = [key.whole for key in keys]
        *key_rows, query_row = _row_bytes(query.width, self.stride, query.whole, wholes)
        if free < _least(key_rows, query_row):
            raise TooLittleMemory(least_bytes(query.width, self.stride, query.whole, wholes))
        # Beside its rows of blocks each part has a margin of one on each side.
        heights = [int(_KEY_SHARE * free / row) - 2 for row in key_rows]
        self.strips = [
            key.whole.split(height * self.stride, key.whole.width) for key, height in zip(keys, heights, strict=True)
        ]
        columns = _QUERY_COLUMNS * self.stride
        self.tiles = query.whole.split((int((1 - _KEY_SHARE) * free / query_row) - 2) * self.stride, columns)
        stages = 2 if config.strategy == "two_stage" else 1
        self.total = stages * len(self.tiles) * sum(len(strips) for strips in self.strips)
        self.done = 0

    @torch.inference_mode()
    def run(self) -> Matches:
        """Matches of all queries, as `models.search.search` gives them for the whole: indices, scores 1, u, Q."""
        allowed = None
        if self.config.strategy == "two_stage":
            _, best = self._walk(1, None)
            allowed = torch.zeros(sum(self._count(key.whole) for key in self.keys), dtype=torch.bool)
            allowed = allowed.to(self.device)
            allowed[best.flatten()] = True
        scores, indices = (x.permute(2, 0, 1).flatten(1).unsqueeze(0) for x in self._walk(self.u, allowed))
        missing = scores.isneginf()
        indices = torch.where(missing, indices[:, :1], indices)
        return Matches(indices, scores.masked_fill(missing, 0), sum(self._count(key.whole) for key in self.keys))

    def _count(self, whole: Window) -> int:
        return (whole.height // self.stride) * (whole.width // self.stride)

    def _walk(self, u: int, allowed: Tensor | None) -> tuple[Tensor, Tensor]:
        """Scores and indices of the best u keys that are allowed: rows, columns, u."""
        shape = (self.query.whole.height // self.stride, self.query.whole.width // self.stride)
        best = torch.full((*shape, u), -torch.inf, device=self.device)
        indices = torch.zeros((*shape, u), dtype=torch.long, device=self.device)
        norms = torch.zeros((*shape, 1), device=self.device)
        start = 0
        for key, strips in zip(self.keys, self.strips, strict=True):
            columns = key.whole.width // self.stride
            for strip in strips:
                outer = strip.grow(self.stride, key.whole)
                first, last = (start + edge // self.stride * columns for edge in (outer.top, outer.bottom))
                kept = torch.ones(1, last - first, dtype=torch.bool, device=self.device)
                if allowed is not None:
                    kept[0] = allowed[first:last]
                margins = ((strip.top - outer.top) // self.stride, (outer.bottom - strip.bottom) // self.stride)
                kept[:, : margins[0] * columns] = False
                kept[:, (last - first) - margins[1] * columns :] = False
                features = key.cut(outer, 2) if kept.any() else None
                mask = None if kept.all() else kept
                for tile in self.tiles:
                    if features is not None:
                        self._search_tile(tile, features, mask, first, best, indices, norms)
                    self.done += 1
                    self.report(self.done, self.total)
            start += self._count(key.whole)
        return best * norms, indices

    def _search_tile(
        self,
        tile: Window,
        features: Tensor,
        kept: Tensor | None,
        first: int,
        best: Tensor,
        indices: Tensor,
        norms: Tensor,
    ) -> None:
        """Merge one tile's matches in one strip into the running best, in place."""
        outer = tile.grow(self.stride, self.query.whole)
        query = self.query.cut(outer, 2)
        inner, around = (
            Window(w.top // self.stride, w.bottom // self.stride, w.left // self.stride, w.right // self.stride)
            for w in (tile, outer)
        )
        place = (slice(inner.top, inner.bottom), slice(inner.left, inner.right))
        norms[place] = inner.of(inverse_norms(query, self.stride), around, 1)[0].unsqueeze(2)
        u = best.shape[2]
        found, where = (
            inner.of(x[0].movedim(2, 0), around, 1).movedim(0, 2)
            for x in walk(query, [features], u, self.stride, self.score_bytes, kept)
        )
        merged, order = torch.cat((best[place], found), 2).sort(dim=2, descending=True, stable=True)
        best[place] = merged[..., :u]
        indices[place] = torch.cat((indices[place], where + first), 2).gather(2, order)[..., :u]


def least_bytes(width: int, stride: int, query: Window, keys: Sequence[Window]) -> float:
    """The least memory for a search on the CPU.

    Args:
        width: of the DFE.
        stride: s.
        query: the padded LR.
        keys: the padded references.
    """
    *key_rows, query_row = _row_bytes(width, stride, query, keys)
    free = _least(key_rows, query_row)
    # Scores take half of the memory, and 5 MiB at most.
    return bytes_at_once(width) + free + min(5 * MIB, free + bytes_at_once(width))


def _row_bytes(width: int, stride: int, query: Window, keys: Sequence[Window]) -> list[int]:
    """Bytes that a row of blocks takes: of each reference over its whole width, last of a tile of queries."""
    row = _COPIES * 16 * width * stride  # for each column of cells
    return [*(row * key.width for key in keys), row * (min(_QUERY_COLUMNS * stride, query.width) + 2 * stride)]


def _least(key_rows: Sequence[int], query_row: int) -> float:
    """Bytes for the least strips and tiles, with their margins."""
    return (_LEAST_ROWS + 2) * max(max(key_rows) / _KEY_SHARE, query_row / (1 - _KEY_SHARE))
