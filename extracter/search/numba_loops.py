"""The inner loops of search and transfer on the CPU, compiled by Numba at the first use and cached on disk if possible.

PyTorch's own operations (`correlation`, `transfer`) read and write each tile of scores about nine times and lay
textures out twice; here a tile is read once, in the cache, and a texture is written once.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

try:
    import numba
except ImportError:  # search and transfer then take PyTorch's operations
    numba = None

# Scores that are held against the least of the best together, before any of them is looked at.
_CHUNK = 64


def compile_loop(function: Callable | None = None, *, reassociate: bool = False) -> Any:
    """Decorator that compiles a function at its first call, without Python's lock; None where Numba is not installed.

    Args:
        function: on arrays and numbers.
        reassociate: let sums be taken in another order, eight or sixteen terms at a time; it is the same at each call.
    """
    if function is None:
        return partial(compile_loop, reassociate=reassociate)
    if numba is None:
        return None
    # NaN is excluded, so that comparisons are made eight or sixteen at a time; -inf is not.
    flags = {"nnan", "nsz", "contract"} | ({"reassoc", "arcp"} if reassociate else set())
    options = {"nogil": True, "fastmath": flags, "boundscheck": False}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return numba.njit(**options)(function)


@compile_loop
def merge_row(
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
) -> None:
    """Merge the scores of one query row's tile into its running best, in place.

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
    """
    columns, ranks = best.shape
    size = count * key_columns
    # For the query columns before, at and after the one in hand: its products summed over the three query rows.
    sums = np.zeros((3, size), np.float32)
    scores = np.full(-(-size // _CHUNK) * _CHUNK, -np.inf, np.float32)
    for coming in range(columns + 1):
        right = sums[coming % 3]
        right[:] = 0
        if coming < columns:
            for near in range(3):
                first = max(low, lows[near])
                last = max(first, min(low + count, lows[near] + counts[near]))
                target = right[(first - low) * key_columns : (last - low) * key_columns]
                at = (coming * counts[near] + first - lows[near]) * key_columns
                source = products[near, at : at + target.size]
                for j in range(target.size):
                    target[j] += source[j]
        if coming == 0:
            continue
        column = coming - 1
        left, middle = sums[(column + 2) % 3], sums[column % 3]
        # Slices, for an index such as j - 1 might be negative for all that the compiler knows, and is not vectorised.
        inner, before, own, after = scores[1 : size - 1], left[: size - 2], middle[1 : size - 1], right[2:size]
        factor, offset = weights[1 : size - 1], bias[1 : size - 1]
        for j in range(inner.size):
            inner[j] = (own[j] + before[j] + after[j]) * factor[j] + offset[j]
        # Rows of keys lie end to end: at theirs, one of the diagonal's neighbours is another row's.
        for row in range(count):
            j, last = row * key_columns, (row + 1) * key_columns - 1
            score = middle[j] + right[j + 1] if last > j else middle[j]
            scores[j] = score * weights[j] + bias[j]
            if last > j:
                scores[last] = (middle[last] + left[last - 1]) * weights[last] + bias[last]
        # Nearly all scores are below the worst of the best: whole chunks are ruled out by comparisons side by side.
        least = best[column, ranks - 1]
        for chunk in range(0, scores.size, _CHUNK):
            above = 0
            part = scores[chunk : chunk + _CHUNK]
            for j in range(_CHUNK):
                above += part[j] > least
            if not above:
                continue
            for j in range(chunk, chunk + _CHUNK):
                score = scores[j]
                if score > least:
                    rank = ranks - 1
                    # After its equals, which have lower indices.
                    while rank > 0 and best[column, rank - 1] < score:
                        best[column, rank] = best[column, rank - 1]
                        where[column, rank] = where[column, rank - 1]
                        rank -= 1
                    best[column, rank] = score
                    where[column, rank] = start + j
                    least = best[column, ranks - 1]


@compile_loop
def gather_row(
    image: np.ndarray,
    sources: np.ndarray,
    first: int,
    weights: np.ndarray,
    block: int,
    channels: int,
    textures: np.ndarray,
) -> None:
    """Add the weighted blocks of one image that make up one row of blocks of the textures, in place.

    Args:
        image: rows of pixels, each `width * channels` float32.
        sources: columns, 9: the image's blocks, counted row by row from `first`; others are left out.
        first: number of the image's first block.
        weights: columns, one for all nine sources of a block.
        block: side of a block.
        channels: C.
        textures: block, columns * block * channels.
    """
    across = image.shape[1] // (block * channels)
    count = across * (image.shape[0] // block)
    span = block * channels
    for column in range(sources.shape[0]):
        weight = weights[column]
        for y in range(block):
            target = textures[y, column * span : (column + 1) * span]
            for near in range(9):
                index = sources[column, near] - first
                if 0 <= index < count:
                    left = index % across * span
                    source = image[index // across * block + y, left : left + span]
                    for t in range(span):
                        target[t] += weight * source[t]
