"""The search over whole images, in memory that does not grow with them.

Key features are held strip by strip and query features tile by tile, each with a margin of one block, from which the
block search gives the scores of the whole. The running best of each query goes from strip to strip, so a query finds
the same keys whatever the strips and tiles are; where keys score the same, the lower index wins as in the whole.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from extracter.inference.tiling.features import Features, bytes_at_once
from extracter.inference.tiling.windows import InsufficientMemoryError, Window
from extracter.memory import MIB
from extracter.search.batched import merge_topk
from extracter.search.block_grid import inverse_norms
from extracter.search.block_search import SPARE, filter_candidates, rescore_candidates
from extracter.search.correlation import block_correlation_topk
from extracter.search.search import Matches, SearchConfig

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
        ring: keys at each edge that are no patches, and left out: 1 where patches are not padded.
    """

    def __init__(
        self,
        query: Features,
        keys: Sequence[Features],
        u: int,
        config: SearchConfig,
        memory: float,
        report: Callable[[int, int], None],
        ring: int = 0,
    ):
        self.query, self.keys, self.u, self.config, self.report = query, keys, u, config, report
        self.ring = ring
        self.stride = config.stride
        self.device = query.picture.device
        on_cpu = self.device.type == "cpu"
        self.tile_bytes = min(memory / 10, 2**20) if on_cpu else min(memory / 40, 2**28)
        free = memory - bytes_at_once(query.width) - 5 * self.tile_bytes
        wholes = [key.whole for key in keys]
        *key_rows, query_row = _row_bytes(query.width, self.stride, query.whole, wholes)
        if free < _least(key_rows, query_row):
            raise InsufficientMemoryError(least_bytes(query.width, self.stride, query.whole, wholes))
        # Beside its rows of blocks each part has a margin of one on each side.
        heights = [int(_KEY_SHARE * free / row) - 2 for row in key_rows]
        self.strips = [
            key.whole.split(height * self.stride, key.whole.width) for key, height in zip(keys, heights, strict=True)
        ]
        columns = _QUERY_COLUMNS * self.stride
        self.tiles = query.whole.split((int((1 - _KEY_SHARE) * free / query_row) - 2) * self.stride, columns)
        self.two_stage = config.strategy == "two_stage" and u > 1
        self.total = (1 + self.two_stage) * len(self.tiles) * sum(len(strips) for strips in self.strips)
        self.done = 0

    @torch.inference_mode()
    def run(self) -> Matches:
        """Matches of all queries, as `models.search.search` gives them for the whole: indices, scores 1, u, Q."""
        values, indices, norms = self._correlate(self.u + SPARE if self.two_stage else self.u)
        shape = (*indices.shape[:2], self.u)
        if self.two_stage:
            keys = sum(self._count(key.whole) for key in self.keys)
            allowed = torch.zeros(keys, dtype=torch.bool, device=self.device)
            allowed[indices[..., 0].flatten()] = True
            found = filter_candidates(values.flatten(0, 1)[None], indices.flatten(0, 1)[None], allowed[None], self.u)
            values, indices, incomplete = (x[0] for x in found)
            values, indices, incomplete = values.view(shape), indices.view(shape), incomplete.view(shape[:2])
            values[incomplete] = -torch.inf
            self._complete(allowed, incomplete, values, indices)
        scores, indices = (x.permute(2, 0, 1).flatten(1).unsqueeze(0) for x in (values * norms, indices))
        missing = scores.isneginf()
        indices = torch.where(missing, indices[:, :1], indices)
        return Matches(indices, scores.masked_fill(missing, 0), sum(self._count(key.whole) for key in self.keys))

    def _count(self, whole: Window) -> int:
        return (whole.height // self.stride) * (whole.width // self.stride)

    def _parts(self) -> Iterator[tuple[Features, Window, int, Tensor | None]]:
        """Each strip of each reference with its margin: features, window, its first key, and which keys are its own.

        None stands for all.
        """
        start = 0
        for key, strips in zip(self.keys, self.strips, strict=True):
            columns = key.whole.width // self.stride
            for strip in strips:
                outer = strip.grow(self.stride, key.whole)
                first_key = start + outer.top // self.stride * columns
                if outer == strip and not self.ring:
                    yield key, outer, first_key, None
                    continue
                own = torch.zeros(outer.height // self.stride, columns, dtype=torch.bool, device=self.device)
                own[(strip.top - outer.top) // self.stride :][: strip.height // self.stride] = True
                self._bar_ring(own, outer, key.whole)
                yield key, outer, first_key, own.flatten()
            start += self._count(key.whole)

    def _bar_ring(self, own: Tensor, outer: Window, whole: Window) -> None:
        """Leave out keys at the edges of the reference, in place."""
        ring, rows = self.ring, whole.height // self.stride
        if ring:
            first = outer.top // self.stride
            own[: max(0, ring - first)] = False
            own[max(0, rows - ring - first) :] = False
            own[:, :ring] = False
            own[:, own.shape[1] - ring :] = False

    def _correlate(self, u: int) -> tuple[Tensor, Tensor, Tensor]:
        """The best u keys: scores without the queries' norms and indices, rows, columns, u; and 1 / norm of queries."""
        shape = (self.query.whole.height // self.stride, self.query.whole.width // self.stride)
        best = torch.full((*shape, u), -torch.inf, device=self.device)
        indices = torch.zeros((*shape, u), dtype=torch.long, device=self.device)
        norms = torch.zeros((*shape, 1), device=self.device)
        for key, outer, first, own in self._parts():
            features = key.cut(outer, 2)
            mask = None if own is None else own.unsqueeze(0)
            for tile in self.tiles:
                query, inner, around = self._query(tile)
                place = inner.slices
                norms[place] = inner.of(inverse_norms(query, self.stride), around, 1)[0].unsqueeze(2)
                found, where = (
                    inner.of(x[0].movedim(2, 0), around, 1).movedim(0, 2)
                    for x in block_correlation_topk(query, [features], u, self.stride, self.tile_bytes, mask)
                )
                best[place], indices[place] = merge_topk(best[place], indices[place], found, where + first)
                self._step()
        return best, indices, norms

    def _complete(self, allowed: Tensor, incomplete: Tensor, values: Tensor, indices: Tensor) -> None:
        """Search the allowed keys for the incomplete queries, into values and indices, rows, columns, u."""
        for key, outer, first, own in self._parts():
            part = allowed[first : first + outer.height * outer.width // self.stride**2]
            own_allowed = part if own is None else own & part
            features = key.cut(outer, 2)[0] if incomplete.any() and own_allowed.any() else None
            for tile in self.tiles:
                self._step()
                inner, around = self._blocks(tile)
                place = inner.slices
                wanting = incomplete[place]
                if features is None or not wanting.any():
                    continue
                query, _, _ = self._query(tile)
                marks = torch.zeros(around.height, around.width, dtype=torch.bool, device=self.device)
                inner.of(marks, around, 1)[:] = wanting
                chosen = marks.flatten().nonzero().squeeze(1)
                found, where = rescore_candidates(
                    query[0], [features], self.stride, self.tile_bytes, own_allowed, chosen, self.u
                )
                merged = merge_topk(values[place][wanting], indices[place][wanting], found, where + first)
                values[place][wanting], indices[place][wanting] = merged

    def _query(self, tile: Window) -> tuple[Tensor, Window, Window]:
        """Features of a tile of queries with its margin; the tile and what is with the margin, in blocks."""
        return self.query.cut(tile.grow(self.stride, self.query.whole), 2), *self._blocks(tile)

    def _blocks(self, tile: Window) -> tuple[Window, Window]:
        outer = tile.grow(self.stride, self.query.whole)
        return tile.in_blocks(self.stride), outer.in_blocks(self.stride)

    def _step(self) -> None:
        self.done += 1
        self.report(self.done, self.total)


def search_inner_patches(
    query: Features, keys: Sequence[Features], memory: float, report: Callable[[int, int], None]
) -> Matches:
    """The best match of each 3 x 3 patch without padding, by its middle.

    Queries and keys are counted over whole maps, as with padding; the outer ring of queries, where no patch has its
    middle, repeats the match beside it.
    """
    found = Search(query, keys, 1, SearchConfig(3, 1, 1, "direct"), memory, report, ring=1).run()
    rows, columns = query.whole.height, query.whole.width
    row, column = (torch.arange(n, device=found.indices.device).clamp(1, n - 2) for n in (rows, columns))
    beside = (row.view(-1, 1) * columns + column).flatten()
    return found._replace(indices=found.indices[..., beside], scores=found.scores[..., beside])


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
