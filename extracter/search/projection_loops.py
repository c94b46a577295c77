"""Compiled loops of the approximate search (`approximate`): norms, projection, and the tree over projected keys.

Each row is computed by itself in a fixed order of operations, so the results are the same to the bit however rows are
shared among threads or split into bands.
"""

import numpy as np

from extracter.search.numba_loops import compile_loop

DIM = 16  # numbers that a block, and then a patch, is projected to: one vector register of float32


@compile_loop(reassociate=True)
def dot(a: np.ndarray, b: np.ndarray) -> float:
    """Inner product of two vectors."""
    total = np.float32(0)
    for i in range(a.size):
        total += a[i] * b[i]
    return total


@compile_loop(reassociate=True)
def inverse_norms(table: np.ndarray, weights: np.ndarray, top: int, bottom: int) -> None:
    """1 / norm of the patches in rows `top` to `bottom`, as `block_grid.inverse_norms` defines it.

    Args:
        table: rows + 2, columns + 2, D float32: an image's blocks within a border of zeros.
        weights: rows + 2, columns + 2, written at patches; its border stays as it is.
        top: first row of patches, counted with the border: 1 or more.
        bottom: end of the rows.
    """
    width = table.shape[1]
    squares = np.zeros((3, width), np.float64)
    for row in range(top - 1, bottom + 1):
        into = squares[row % 3]
        for x in range(width):
            total = 0.0
            for value in table[row, x]:
                total += np.float64(value) * np.float64(value)
            into[x] = total
        if row < top + 1:
            continue
        for x in range(1, width - 1):
            total = 0.0
            for line in squares:
                total += line[x - 1] + line[x] + line[x + 1]
            weights[row - 1, x] = 1.0 / np.sqrt(max(total, 1e-24))


@compile_loop(reassociate=True)
def project_rows(
    table: np.ndarray,
    weights: np.ndarray,
    basis: np.ndarray,
    patch_basis: np.ndarray,
    mean: np.ndarray,
    top: int,
    bottom: int,
    out: np.ndarray,
) -> None:
    """Project the patches in rows `top` to `bottom` to DIM numbers.

    Args:
        table: as for `inverse_norms`.
        weights: rows + 2, columns + 2: 1 / norm of each patch.
        basis: DIM, D: from a block to its projection.
        patch_basis: DIM, 3, 3 DIM: from the three rows of projected blocks of a patch to its projection.
        mean: DIM, subtracted.
        top: first row of patches, counted with the border.
        bottom: end of the rows.
        out: rows, columns, DIM, counted without the border.
    """
    width = table.shape[1]
    cells = np.zeros((3, width, DIM), np.float32)
    for row in range(top - 1, bottom + 1):
        into = cells[row % 3]
        for x in range(width):
            for d in range(DIM):
                into[x, d] = dot(table[row, x], basis[d])
        if row < top + 1:
            continue
        above, own, below = cells[(row + 1) % 3].reshape(-1), cells[(row + 2) % 3].reshape(-1), into.reshape(-1)
        for x in range(1, width - 1):
            target, weight = out[row - 2, x - 1], weights[row - 1, x]
            run = slice((x - 1) * DIM, (x + 2) * DIM)
            for d in range(DIM):
                parts = patch_basis[d]
                total = dot(above[run], parts[0]) + dot(own[run], parts[1]) + dot(below[run], parts[2])
                target[d] = total * weight - mean[d]


@compile_loop(reassociate=True)
def project(blocks: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Projected blocks, n, DIM, of n, D by a basis, DIM, D."""
    out = np.zeros((blocks.shape[0], DIM), np.float32)
    for n in range(blocks.shape[0]):
        for d in range(DIM):
            out[n, d] = dot(blocks[n], basis[d])
    return out


@compile_loop(reassociate=True)
def second_moment(samples: np.ndarray) -> np.ndarray:
    """Sum of outer products of n, m float32 samples: m, m float64."""
    size = samples.shape[1]
    total = np.zeros((size, size), np.float64)
    row = np.zeros(size, np.float64)
    for n in range(samples.shape[0]):
        for j in range(size):
            row[j] = samples[n, j]
        for i in range(size):
            value, line = row[i], total[i]
            for j in range(size):
                line[j] += value * row[j]
    return total


@compile_loop(reassociate=True)
def leading_subspace(moment: np.ndarray, size: int, steps: int) -> np.ndarray:
    """An orthonormal basis, size, m, of about the leading eigenvectors of a symmetric matrix, by power iteration.

    LAPACK's eigenvectors would depend on its number of threads in the last bits.
    """
    m = moment.shape[0]
    basis = np.zeros((size, m), np.float64)
    for k in range(size):
        for i in range(m):
            basis[k, i] = np.cos(0.7 + 1.3 * (k + 1) * (i + 1))
    product = np.zeros(m, np.float64)
    for step in range(steps + 1):
        for k in range(size):
            line = basis[k]
            if step:
                for i in range(m):
                    total = 0.0
                    for j in range(m):
                        total += moment[i, j] * line[j]
                    product[i] = total
                line[:] = product
            for _ in range(2):  # a second time, against what rounding left of the others
                for other in basis[:k]:
                    dot = 0.0
                    for i in range(m):
                        dot += other[i] * line[i]
                    for i in range(m):
                        line[i] -= dot * other[i]
            norm = 0.0
            for i in range(m):
                norm += line[i] * line[i]
            # A moment of lower rank leaves directions without length: they project to zero.
            scale = 1.0 / np.sqrt(norm) if norm > 1e-200 else 0.0
            for i in range(m):
                line[i] *= scale
    return basis


@compile_loop(reassociate=True)
def nearest(point: np.ndarray, centres: np.ndarray, offsets: np.ndarray, scores: np.ndarray) -> int:
    """The centre nearest to a point, the first of equals; the scores of all of them are left in `scores`.

    Args:
        point: DIM.
        centres: DIM, n.
        offsets: n: half the squared norm of each centre; inf for one that is not to be chosen.
        scores: n.
    """
    count = offsets.size
    for j in range(count):
        scores[j] = -offsets[j]
    for d in range(DIM):
        value, line = point[d], centres[d]
        for j in range(count):
            scores[j] += value * line[j]
    best = 0
    for j in range(1, count):
        if scores[j] > scores[best]:
            best = j
    return best


@compile_loop(reassociate=True)
def k_means(samples: np.ndarray, count: int, steps: int) -> np.ndarray:
    """Centres of n, DIM samples by Lloyd's algorithm: count, DIM; begins with samples at equal distances."""
    n = samples.shape[0]
    centres = np.zeros((count, DIM), np.float32)
    if n == 0:
        return centres
    for j in range(count):
        centres[j] = samples[j * n // count]
    offsets, scores = np.zeros(count, np.float32), np.zeros(count, np.float32)
    for _ in range(steps):
        columns = centres.T.copy()
        for j in range(count):
            offsets[j] = 0.5 * (centres[j] * centres[j]).sum()
        sums, members = np.zeros((count, DIM), np.float64), np.zeros(count, np.int64)
        for i in range(n):
            j = nearest(samples[i], columns, offsets, scores)
            members[j] += 1
            for d in range(DIM):
                sums[j, d] += samples[i, d]
        for j in range(count):
            if members[j]:
                for d in range(DIM):
                    centres[j, d] = sums[j, d] / members[j]
    return centres


@compile_loop(reassociate=True)
def descend(
    points: np.ndarray,
    centres: np.ndarray,
    offsets: np.ndarray,
    leaf_centres: np.ndarray,
    leaf_offsets: np.ndarray,
    leaves: np.ndarray,
) -> None:
    """The leaf of each point: its nearest centre, then the nearest leaf of it.

    Args:
        points: n, DIM.
        centres: DIM, n1.
        offsets: n1.
        leaf_centres: n1, DIM, n2; for n2 = 0 the centre alone is found.
        leaf_offsets: n1, n2.
        leaves: n int32, written.
    """
    scores = np.zeros(offsets.size, np.float32)
    leaf_scores = np.zeros(leaf_offsets.shape[1], np.float32)
    for i in range(points.shape[0]):
        j = nearest(points[i], centres, offsets, scores)
        if leaf_scores.size:
            j = j * leaf_scores.size + nearest(points[i], leaf_centres[j], leaf_offsets[j], leaf_scores)
        leaves[i] = j
