"""Approximate search: patches of 3 x 3 blocks matched at a cost that grows with the pixels, not with their square.

The exact search scores all pairs, so its cost grows with the fourth power of an image's side. Here each query scores a
few dozen keys, whatever the size:

1. **Projection.** Blocks, then whole patches, are projected to 16 numbers, in which near means similar.
2. **Seeds.** A tree of k-means over the projected keys (two levels) gives each query a few keys to begin with.
3. **Propagation** (as in PatchMatch, Barnes et al. 2009). A query tries the matches of its neighbours, shifted, and the
   neighbours of its own matches. Some six rounds spread good matches over the image.
4. **Exact scores.** Whatever is compared is compared by the exact cosine, so each reported score is that of its pair.
   What the search may miss is a better key.

All choices are made without random numbers, and each query's result depends on its neighbourhood alone. So threads and
bands of rows change nothing.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from extracter.search.approximate_torch import search_torch
from extracter.search.block_search import SPARE
from extracter.search.key_table import (
    DIM,
    LEAF,
    NO_CELL,
    Blocks,
    KeyTable,
    StoredBlocks,
    Strip,
    parallel,
    project_image,
    read_with_border,
)
from extracter.search.projection_loops import inverse_norms
from extracter.search.propagation_loops import (
    collect_allowed,
    first_allowed,
    insert_all,
    propagate_row,
    score_cells,
    seed_row,
)

_STEPS = 6  # rounds of propagation; the last inserts a few keys in a thousand queries
_TOP, _LOCAL = 3, 2  # entries of a neighbour's list, and of the query's own, that a round goes on from
_PROBES = 2  # centres of the tree's first level that a query enters
_SEEDS = 4  # keys that a query begins with
_LIMIT = 128  # keys of a leaf that a query looks at
_LEAST_ROWS = 8  # of queries in a band, and of keys in a strip


class Lists(NamedTuple):
    """The best keys found so far: scores in falling order (without the query's norm), cells or indices, and flags."""

    scores: np.ndarray
    cells: np.ndarray
    is_new: np.ndarray

    @classmethod
    def empty(cls, rows: int, columns: int, length: int) -> "Lists":
        """Lists that hold nothing."""
        shape = (rows, columns, length)
        return cls(np.full(shape, -np.inf, np.float32), np.full(shape, NO_CELL, np.int32), np.zeros(shape, np.uint8))


@dataclass
class Band:
    """Rows of queries with as many more on each side as propagation reaches.

    Attributes:
        top: first row.
        bottom: end of the rows.
        low: first of the rows that are laid out.
        table: rows + 2, columns + 2, D.
        weights: rows + 2, columns + 2: 1 / norm.
    """

    top: int
    bottom: int
    low: int
    table: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, query: Blocks, top: int, bottom: int, halo: int) -> "Band":
        """Lay out rows `top` to `bottom` and `halo` more on each side."""
        low, high = max(0, top - halo), min(query.rows, bottom + halo)
        table = np.zeros((high - low + 2, query.columns + 2, query.depth), np.float32)
        read_with_border(query, low, high, table)
        weights = np.zeros(table.shape[:2], np.float32)
        parallel(lambda a, b: inverse_norms(table, weights, a, b), 1, high - low + 1)
        return cls(top, bottom, low, table, weights)

    @property
    def inner(self) -> slice:
        """The rows from `top` to `bottom` among those that are laid out."""
        return slice(self.top - self.low, self.bottom - self.low)

    def match(self, keys: KeyTable, length: int, u: int) -> tuple[Lists, float]:
        """Lists of the rows that are laid out, right in the inner ones; and the multiply-adds that they took."""
        rows, columns = (side - 2 for side in self.table.shape[:2])
        projected = project_image(self.table, self.weights, keys.projection)
        old, new = Lists.empty(rows, columns, length), Lists.empty(rows, columns, length)
        common = keys.blocks, keys.weights, keys.starts, keys.pitches
        seeds = min(length, max(_SEEDS, u))

        def seed(first: int, last: int) -> None:
            for row in range(first, last):
                number = (self.low + row) * columns
                seed_row(row, number, self.table, projected, *common, *keys.tree, _PROBES, _LIMIT, seeds, *old)

        parallel(seed, 0, rows)
        inner, scored = self.inner, 0
        for step in range(_STEPS):
            # What lies beyond a band's edge is unknown, and each step carries that one row further in.
            reach = _STEPS - 1 - step

            def propagate(first: int, last: int) -> int:
                rows = range(first, last)
                return sum(propagate_row(y, self.table, *common, _TOP, _LOCAL, *old, *new) for y in rows)  # noqa: B023

            scored += sum(parallel(propagate, max(0, inner.start - reach), min(rows, inner.stop + reach)))
            old, new = new, old
        depth, tree = self.table.shape[2], keys.tree
        compared = tree.centres.size + _PROBES * (tree.leaf_centres[0].size + DIM * min(_LIMIT, LEAF))
        of_query = DIM * (depth + 9 * DIM) + compared + 9 * depth * seeds
        return old, rows * columns * of_query + 9 * depth * scored

    def score(self, queries: np.ndarray, keys: KeyTable, indices: np.ndarray, scores: np.ndarray) -> None:
        """Exact scores (without the query's norm) of some of the inner rows' queries.

        Args:
            queries: n: numbers of queries in the whole image.
            keys: of which those are scored that are its own.
            indices: n, m: keys over all references; -1 for none.
            scores: n, m, written where there is a key.
        """
        columns = self.table.shape[1] - 2
        row, column = np.divmod(queries, columns)
        at = (row - self.low + 1) * (columns + 2) + column + 1
        cells = keys.cell_of(indices)
        common = keys.blocks, keys.weights, keys.starts, keys.pitches

        def part(a: int, b: int) -> None:
            score_cells(self.table, at[a:b], *common, cells[a:b], scores[a:b])

        parallel(part, 0, len(queries))


def compiled(device: torch.device) -> bool:
    """Whether a search on this device takes the compiled loops; elsewhere it takes PyTorch's operations."""
    return device.type == "cpu" and propagate_row is not None


def search_approximate(
    query: Tensor, keys: Sequence[Tensor], u: int, stride: int, memory: float, two_stage: bool
) -> tuple[Tensor, Tensor]:
    """As `block_search.search_blocks`, with keys that are nearly always the best ones.

    Args:
        query: N, C, h, w; sides are multiples of `stride`.
        keys: N, C, any such sides, for each reference.
        u: matches for each query.
        stride: s, side of a block.
        memory: bytes to stay within, where keys and a few rows of queries fit; see `search_rows`.
        two_stage: restrict the top u to the keys that are some query's best.

    Returns:
        Scores and indices of the best keys found, N, u, Q; -inf where fewer were found.
    """
    if not compiled(query.device):
        return search_torch(query, keys, u, stride, memory, two_stage)
    dtype = torch.promote_types(query.dtype, torch.float32)
    query, keys = query.detach().float(), [key.detach().float() for key in keys]
    found = [
        search_rows(StoredBlocks(x, stride), [StoredBlocks(key[n], stride) for key in keys], u, two_stage, memory)
        for n, x in enumerate(query)
    ]
    scores, indices = (torch.stack([torch.from_numpy(x[i]) for x in found]).mT for i in (0, 1))
    return scores.to(dtype), indices.long()


def search_rows(
    query: Blocks,
    keys: Sequence[Blocks],
    u: int,
    two_stage: bool,
    memory: float,
    report: Callable[[int, int], None] = lambda done, total: None,
    count: Callable[[float], None] = lambda multiply_adds: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Scores float32 and indices int32 of the best keys, Q, u; -inf where fewer were found.

    Queries are read in bands; the result does not depend on them. Keys are read at once, unless the memory is too small
    for that: strips of them are then searched one after another, each with its own tree, which finds nearly the same.

    Args:
        query: LR_up's blocks.
        keys: of each reference.
        u: matches for each query.
        two_stage: as of `search_approximate`.
        memory: bytes.
        report: called with (done, total).
        count: called with the multiply-adds of each part of the search, for benchmarks.
    """
    length = u + SPARE
    parts, height = plan(query, keys, length, memory)
    bands = [(top, min(top + height, query.rows)) for top in range(0, query.rows, height)]
    best = Lists.empty(query.rows, query.columns, length)
    norms = np.zeros((query.rows, query.columns, 1), np.float32)
    for number, part in enumerate(parts):
        table = None  # the last one's memory is free before another is made
        table = KeyTable(part)
        count(table.multiply_adds)
        for order, (top, bottom) in enumerate(bands):
            band = Band.of(query, top, bottom, _STEPS)
            lists, multiply_adds = band.match(table, length, u)
            count(multiply_adds)
            scores, cells = lists.scores[band.inner], lists.cells[band.inner]
            norms[top:bottom, :, 0] = band.weights[1:-1, 1:-1][band.inner]
            _merge(best, slice(top, bottom), scores, table.index_of(cells))
            report(number * len(bands) + order + 1, len(parts) * len(bands))
    scores, indices = (x.reshape(-1, length) for x in best[:2])
    if two_stage and u > 1:
        scores, indices, queries, wanted = _first_allowed(scores, indices, keys, query.columns, u)
        if len(queries):
            values = np.full(wanted.shape, -np.inf, np.float32)
            for part in parts:
                table = table if len(parts) == 1 else KeyTable(part, tree=False)
                for top, bottom in bands:
                    first, last = np.searchsorted(queries, (top * query.columns, bottom * query.columns))
                    if first < last:
                        band = band if len(bands) == 1 else Band.of(query, top, bottom, 0)
                        some = slice(first, last)
                        band.score(queries[some], table, wanted[some], values[some])
            insert_all(queries, values, wanted, scores, indices)
    return scores[:, :u] * norms.reshape(-1, 1), indices[:, :u]


def plan(query: Blocks, keys: Sequence[Blocks], length: int, memory: float) -> tuple[list[list[Strip]], int]:
    """Parts of the keys that are searched together, and rows of queries in a band.

    Args:
        query: LR_up's blocks.
        keys: of each reference.
        length: L.
        memory: bytes; the least parts and bands are taken where it is too little.
    """
    memory -= (8 * length + 4) * query.rows * query.columns  # lists of the whole
    row = query_row_bytes(query, length)
    firsts = np.cumsum([0, *(key.rows * key.columns for key in keys)])
    wholes = [Strip(key, 0, key.rows, first) for key, first in zip(keys, firsts.tolist(), strict=False)]
    everything = sum((key.rows + 2) * key_row_bytes(key) for key in keys)
    least_band = (_LEAST_ROWS + 2 * _STEPS + 2) * row
    if everything + least_band <= memory or sum(key.rows for key in keys) <= _LEAST_ROWS:
        height = int((memory - everything) / row) - 2 * _STEPS - 2
        return [wholes], max(height, _LEAST_ROWS)
    parts = []
    for whole in wholes:
        height = max(_LEAST_ROWS, int(max(memory / 2, memory - least_band) / key_row_bytes(whole.blocks)) - 2)
        count = -(-whole.bottom // height)
        edges = [whole.bottom * n // count for n in range(count + 1)]
        parts += [
            [Strip(whole.blocks, top, bottom, whole.first + top * whole.blocks.columns)]
            for top, bottom in itertools.pairwise(edges)
        ]
    largest = max((strip.bottom - strip.top + 2) * key_row_bytes(strip.blocks) for (strip,) in parts)
    return parts, max(int((memory - largest) / row) - 2 * _STEPS - 2, _LEAST_ROWS)


def query_row_bytes(query: Blocks, length: int) -> int:
    """Memory of a row of queries: blocks, norms, projections, and lists before and after a step."""
    return (query.columns + 2) * (4 * query.depth + 4 + 4 * DIM + 2 * 9 * length)


def key_row_bytes(key: Blocks) -> int:
    """Memory of a row of keys: blocks, norms, cells, leaves, and projections, which are twice there while sorted."""
    return (key.columns + 2) * (4 * key.depth + 8 * DIM + 32)


def least_bytes(query: Blocks, keys: Sequence[Blocks], u: int) -> float:
    """The least memory with which `search_rows` keeps to it."""
    length = u + SPARE
    lists = (8 * length + 4) * query.rows * query.columns
    band = (_LEAST_ROWS + 2 * _STEPS + 2) * query_row_bytes(query, length)
    strip = (_LEAST_ROWS + 2) * max(map(key_row_bytes, keys))
    return lists + 2 * max(band, strip)


def _merge(best: Lists, rows: slice, scores: np.ndarray, indices: np.ndarray) -> None:
    """Merge lists of later keys into the rows of `best`; ties stay with the earlier ones."""
    if (best.scores[rows, :, 0] == -np.inf).all():
        best.scores[rows], best.cells[rows] = scores, indices
        return
    both = np.concatenate((best.scores[rows], scores), 2)
    order = np.argsort(-both, axis=2, kind="stable")[..., : scores.shape[2]]
    best.scores[rows] = np.take_along_axis(both, order, 2)
    best.cells[rows] = np.take_along_axis(np.concatenate((best.cells[rows], indices), 2), order, 2)


def _first_allowed(
    scores: np.ndarray, indices: np.ndarray, keys: Sequence[Blocks], columns: int, u: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Stage two of Eq. 5: scores and indices of the first u keys of each list that are some query's best, Q, u.

    Then the queries with fewer, n, rising, and the allowed keys to be scored for them, n, m; -1 where there are fewer.
    """
    firsts = np.cumsum([0, *(key.rows * key.columns for key in keys)])
    widths = np.array([key.columns for key in keys])
    best = np.where(scores[:, 0] > -np.inf, indices[:, 0], -1)
    allowed = np.zeros(firsts[-1], np.uint8)
    allowed[best[best >= 0]] = 1
    rising = np.flatnonzero(allowed).astype(np.int32)
    first = np.full((len(scores), u), -np.inf, np.float32)
    first_indices = np.zeros((len(scores), u), np.int32)
    counts = first_allowed(scores, indices, allowed, first, first_indices)
    queries = np.flatnonzero((counts < min(u, len(rising))) & (best >= 0))
    own = np.where(first[queries] > -np.inf, first_indices[queries], -1)
    collected = np.full((len(queries), u + 50 + 2 * u), -1, np.int32)

    def collect(a: int, b: int) -> None:
        collect_allowed(queries[a:b], best, columns, own[a:b], allowed, rising, firsts, widths, u, collected[a:b])

    parallel(collect, 0, len(queries))
    return first, first_indices, queries, collected
