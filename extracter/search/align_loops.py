"""The inner loop of alignment on the CPU, compiled by Numba at the first use."""

import numpy as np

from extracter.search.numba_loops import compile_loop


@compile_loop(reassociate=True)
def align_queries(
    query: np.ndarray,
    key: np.ndarray,
    indices: np.ndarray,
    start: int,
    stop: int,
    first: int,
    rows: int,
    columns: int,
    cell: int,
    reach: int,
    flat: float,
    centre: float,
    offsets: np.ndarray,
    statistics: np.ndarray,
) -> None:
    """Align the matches that some queries have in one reference; `extracter.search.align` says what that is.

    Args:
        query: 4h + 2 cell, 4w + 2 cell float32: grey LR_up with a border.
        key: grey Ref_du with a border of `cell` + `reach`.
        indices: u, Q: the matches.
        start: first query.
        stop: the one after the last query.
        first: index of the reference's first key.
        rows: of the reference's keys.
        columns: of the reference's keys.
        cell: pixels of a cell's side; a window has three.
        reach: largest offset.
        flat: standard deviation below which a window counts as flat.
        centre: loss of correlation accepted to stay at the centre.
        offsets: u, Q, 2; filled in.
        statistics: u, 3, Q; filled in.
    """
    side = 3 * cell
    size = np.float32(side * side)
    across = (query.shape[1] - 2 * cell) // cell
    pattern = np.empty((side, side), np.float32)
    for q in range(start, stop):
        top, left = q // across * cell, q % across * cell
        total = np.float32(0)
        for i in range(side):
            for j in range(side):
                total += query[top + i, left + j]
        mean = total / size
        square = np.float32(0)
        for i in range(side):
            for j in range(side):
                pattern[i, j] = query[top + i, left + j] - mean
                square += pattern[i, j] * pattern[i, j]
        deviation = max(np.sqrt(square / size), np.float32(flat))
        for rank in range(indices.shape[0]):
            index = indices[rank, q] - first
            if index < 0 or index >= rows * columns:
                continue
            y0, x0 = index // columns * cell, index % columns * cell
            best = np.float32(-2)
            for dy in range(2 * reach + 1):
                for dx in range(2 * reach + 1):
                    product, total, square = np.float32(0), np.float32(0), np.float32(0)
                    for i in range(side):
                        line = key[y0 + dy + i, x0 + dx : x0 + dx + side]
                        for j in range(side):
                            product += pattern[i, j] * line[j]
                            total += line[j]
                            square += line[j] * line[j]
                    there = total / size
                    spread = max(np.sqrt(max(square / size - there * there, np.float32(0))), np.float32(flat))
                    zncc = product / (deviation * spread * size)
                    merit = zncc - np.float32(centre) * (abs(dy - reach) + abs(dx - reach)) / (2 * reach)
                    if merit > best:
                        best = merit
                        offsets[rank, q, 0], offsets[rank, q, 1] = dy - reach, dx - reach
                        statistics[rank, 0, q] = zncc
                        statistics[rank, 1, q] = mean - there
                        statistics[rank, 2, q] = np.log(deviation / spread)
