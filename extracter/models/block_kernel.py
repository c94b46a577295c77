"""The inner loop of the block search on the CPU: sum block products along diagonals and keep the best, in one pass.

The same arithmetic in PyTorch's own operations (`block_walk`) reads and writes each tile about nine times; here it is
read once, in the cache. Compiled by Numba at the first use and kept on disk where that is possible.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

try:
    import numba
except ImportError:  # the search then takes PyTorch's operations
    numba = None


def _merge_row(
    products: np.ndarray,
    lows: np.ndarray,
    counts: np.ndarray,
    low: int,
    count: int,
    key_columns: int,
    weights: np.ndarray,
    bias: np.ndarray,
    best: np.ndarray,
    where: np.ndarray,
    start: int,
    first: int,
    last: int,
) -> None:
    """Merge the scores of one query row's tile into its running best, in place; queries `first` to `last` of the row.

    Args:
        products: 3, columns * rows * key_columns float32: block products of the query rows above, at, and below.
        lows: 3: the tile row at which each of them begins.
        counts: 3: tile rows in each of them; 0 where there is no such query row.
        low: the first tile row that lies inside the key; 0 stands for `weights[0]`.
        count: tile rows inside the key.
        key_columns: blocks in a row of the key.
        weights: count * key_columns, 1 / norm of each key.
        bias: count * key_columns, 0 or -inf for a key that is barred.
        best: columns, u: the best scores so far in falling order.
        where: columns, u: their keys.
        start: index of the tile's first key.
        first, last: range of queries.
    """
    columns = best.shape[0]
    ranks = best.shape[1]
    scores = np.empty(key_columns, np.float32)
    for column in range(first, last):
        least = best[column, ranks - 1]
        for row in range(count):
            place = low + row
            scores[:] = 0
            for near in range(3):
                inside = place - lows[near]
                if inside < 0 or inside >= counts[near]:
                    continue
                width = counts[near] * key_columns
                at = column * width + inside * key_columns
                tile = products[near]
                for j in range(key_columns):
                    scores[j] += tile[at + j]
                if column > 0:
                    for j in range(1, key_columns):
                        scores[j] += tile[at - width + j - 1]
                if column < columns - 1:
                    for j in range(key_columns - 1):
                        scores[j] += tile[at + width + j + 1]
            offset = row * key_columns
            highest = np.float32(-np.inf)
            for j in range(key_columns):
                scores[j] = scores[j] * weights[offset + j] + bias[offset + j]
                highest = max(highest, scores[j])
            if not highest > least:
                continue
            for j in range(key_columns):
                score = scores[j]
                if score > least:
                    rank = ranks - 1
                    # Behind its equals, which have lower indices.
                    while rank > 0 and best[column, rank - 1] < score:
                        best[column, rank] = best[column, rank - 1]
                        where[column, rank] = where[column, rank - 1]
                        rank -= 1
                    best[column, rank] = score
                    where[column, rank] = start + offset + j
                    least = best[column, ranks - 1]


def _compile(function: Callable) -> Any:
    # NaN is excluded, so that maxima are found eight or sixteen at a time; -inf is not.
    options = {"nogil": True, "fastmath": {"nnan", "nsz", "contract"}, "boundscheck": False}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return numba.njit(**options)(function)


merge_row = None if numba is None else _compile(_merge_row)
