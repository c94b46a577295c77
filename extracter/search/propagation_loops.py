"""Compiled loops of the approximate search (`approximate`): seeds, propagation, and the completion of stage two.

A key or a query is named by its *cell*: its index in a table of blocks in which every image has a border of one block
of zeros. A patch is then three runs of three blocks, whatever lies around it, and the next key to the right or below is
one cell or one row of cells further. Cells rise with the indices of keys, so ties may be settled by either.
"""

import numpy as np

from extracter.search.numba_loops import compile_loop
from extracter.search.projection_loops import DIM, nearest


@compile_loop(reassociate=True)
def insert(scores: np.ndarray, cells: np.ndarray, score: float, cell: int) -> int:
    """Put a key into a list in falling order of score, ties to the lower cell; its rank, or -1 where it is too low."""
    rank = scores.size - 1
    if score < scores[rank] or (score == scores[rank] and cell > cells[rank]):
        return -1
    while rank > 0 and (scores[rank - 1] < score or (scores[rank - 1] == score and cells[rank - 1] > cell)):
        scores[rank] = scores[rank - 1]
        cells[rank] = cells[rank - 1]
        rank -= 1
    scores[rank] = score
    cells[rank] = cell
    return rank


@compile_loop(reassociate=True)
def dot_patches(query: np.ndarray, at: int, pitch: int, keys: np.ndarray, cell: int, key_pitch: int) -> float:
    """Inner product of a query patch and a key patch: three runs of three blocks each.

    Args:
        query: flat blocks, cells, D.
        at: the middle cell of the query patch.
        pitch: cells in a row of the query's blocks.
        keys: flat blocks, cells, D.
        cell: the middle cell of the key patch.
        key_pitch: cells in a row of the key's image.
    """
    total = np.float32(0)
    depth = query.shape[1]
    size = 3 * depth
    a, b = query.reshape(-1), keys.reshape(-1)
    for down in range(-1, 2):
        first, second = (at + down * pitch - 1) * depth, (cell + down * key_pitch - 1) * depth
        left, right = a[first : first + size], b[second : second + size]
        for t in range(size):
            total += left[t] * right[t]
    return total


@compile_loop(reassociate=True)
def pitch_of(cell: int, starts: np.ndarray, pitches: np.ndarray) -> int:
    """Cells in a row of the image in which a cell lies."""
    image = 0
    while starts[image + 1] <= cell:
        image += 1
    return pitches[image]


@compile_loop(reassociate=True)
def seed_row(
    row: int,
    first_query: int,
    query: np.ndarray,
    projected: np.ndarray,
    keys: np.ndarray,
    weights: np.ndarray,
    starts: np.ndarray,
    pitches: np.ndarray,
    centres: np.ndarray,
    offsets: np.ndarray,
    leaf_centres: np.ndarray,
    leaf_offsets: np.ndarray,
    leaf_starts: np.ndarray,
    points: np.ndarray,
    half_squares: np.ndarray,
    key_cells: np.ndarray,
    probes: int,
    limit: int,
    seeds: int,
    scores: np.ndarray,
    cells: np.ndarray,
    is_new: np.ndarray,
) -> None:
    """Begin the lists of one row of queries with the best of a few leaves.

    Args:
        row: of queries, counted without the border.
        first_query: number of the row's first query in the whole image.
        query: rows + 2, columns + 2, D: blocks of the queries within their border.
        projected: rows, columns, DIM.
        keys: cells, D: blocks of all keys within their borders.
        weights: cells: 1 / norm of each key, -1 at cells that are no keys.
        starts: images + 1: first cell of each image.
        pitches: images: cells in a row of each image.
        centres, offsets, leaf_centres, leaf_offsets: the tree, as for `descend`.
        leaf_starts: leaves + 1: where each leaf's keys begin among the points.
        points: DIM, keys: projected keys, leaf by leaf.
        half_squares: keys: half the squared norm of each point.
        key_cells: keys: cell of each point.
        probes: centres that a query enters; in each, its best leaf is scanned.
        limit: keys of a leaf that are scanned at most.
        seeds: keys that are scored exactly.
        scores: rows, columns, L: lists in falling order, -inf where empty; without the query's norm.
        cells: rows, columns, L int32.
        is_new: rows, columns, L uint8: 1 at what the last step inserted.
    """
    columns, pitch = projected.shape[1], query.shape[1]
    flat = query.reshape(-1, query.shape[2])
    of_centres = np.zeros(offsets.size, np.float32)
    leaves = leaf_offsets.shape[1]
    of_leaves, in_leaf = np.zeros(leaves, np.float32), np.zeros(limit, np.float32)
    near, near_cells = np.zeros(seeds, np.float32), np.zeros(seeds, np.int32)
    for column in range(columns):
        point = projected[row, column]
        near[:] = -np.inf
        near_cells[:] = 2**31 - 1
        entered = nearest(point, centres, offsets, of_centres)
        for probe in range(probes):
            if probe:
                of_centres[entered] = -np.inf
                for j in range(of_centres.size):
                    if of_centres[j] > of_centres[entered]:
                        entered = j
            if of_centres[entered] == -np.inf:
                break
            leaf = entered * leaves + nearest(point, leaf_centres[entered], leaf_offsets[entered], of_leaves)
            begin, count = leaf_starts[leaf], leaf_starts[leaf + 1] - leaf_starts[leaf]
            # A flat sky makes leaves of thousands of keys, nearly equal: each query looks at another part of them.
            if count > limit:
                begin += (first_query + column) * 40503 % (count - limit + 1)
                count = limit
            products = in_leaf[:count]
            squares = half_squares[begin : begin + count]
            for k in range(count):
                products[k] = -squares[k]
            for d in range(DIM):
                value, others = point[d], points[d, begin : begin + count]
                for k in range(count):
                    products[k] += value * others[k]
            for k in range(count):
                if products[k] >= near[seeds - 1]:
                    insert(near, near_cells, products[k], key_cells[begin + k])
        cell = (row + 1) * pitch + column + 1
        for k in range(seeds):
            if near[k] == -np.inf:
                break
            found = near_cells[k]
            score = dot_patches(flat, cell, pitch, keys, found, pitch_of(found, starts, pitches)) * weights[found]
            insert(scores[row, column], cells[row, column], score, found)
        for k in range(scores.shape[2]):
            is_new[row, column, k] = scores[row, column, k] > -np.inf


@compile_loop(reassociate=True)
def propagate_row(
    row: int,
    query: np.ndarray,
    keys: np.ndarray,
    weights: np.ndarray,
    starts: np.ndarray,
    pitches: np.ndarray,
    top: int,
    local: int,
    scores: np.ndarray,
    cells: np.ndarray,
    is_new: np.ndarray,
    new_scores: np.ndarray,
    new_cells: np.ndarray,
    new_is_new: np.ndarray,
) -> int:
    """One step of propagation for one row of queries, from the lists before it to those after it.

    Neighbouring queries tend to match neighbouring keys. Candidates are the new entries among the first `top` of each
    of the four neighbours, shifted to this query, and the four neighbours on the key grid of the query's own new
    entries among the first `local`. Only new entries are followed: the candidates of older ones were tried before.

    Args:
        row, query, keys, weights, starts, pitches, scores, cells, is_new: as for `seed_row`.
        top, local: see above.
        new_scores, new_cells, new_is_new: as the lists, written.

    Returns:
        How many patches were scored.
    """
    rows, columns, length = scores.shape
    pitch = query.shape[1]
    flat = query.reshape(-1, query.shape[2])
    tried = np.zeros(4 * (top + local), np.int32)
    scored = 0
    for column in range(columns):
        list_scores, list_cells, list_is_new = new_scores[row, column], new_cells[row, column], new_is_new[row, column]
        for k in range(length):
            list_scores[k] = scores[row, column, k]
            list_cells[k] = cells[row, column, k]
            list_is_new[k] = 0
        count = 0
        # A neighbour's match, moved one key back, is what this query would match if both showed the same surface.
        for side in range(4):  # above, left, right, below
            down, right = (-1, 0, 0, 1)[side], (0, -1, 1, 0)[side]
            y, x = row + down, column + right
            if y < 0 or y >= rows or x < 0 or x >= columns:
                continue
            for k in range(top):
                if is_new[y, x, k]:
                    cell = cells[y, x, k]
                    tried[count] = cell - down * pitch_of(cell, starts, pitches) - right
                    count += 1
        # A seed often lands beside the best key: its four neighbours lead there.
        for k in range(local):
            if is_new[row, column, k]:
                cell = cells[row, column, k]
                down = pitch_of(cell, starts, pitches)
                tried[count], tried[count + 1] = cell - down, cell - 1
                tried[count + 2], tried[count + 3] = cell + 1, cell + down
                count += 4
        at = (row + 1) * pitch + column + 1
        for n in range(count):
            cell = tried[n]
            known = weights[cell] < 0  # a cell of the border is no key
            for k in range(length):
                known |= list_cells[k] == cell
            for k in range(n):
                known |= tried[k] == cell
            if known:
                continue
            score = dot_patches(flat, at, pitch, keys, cell, pitch_of(cell, starts, pitches)) * weights[cell]
            scored += 1
            rank = insert(list_scores, list_cells, score, cell)
            if rank >= 0:
                # The flags of the entries after it move down with them.
                for k in range(length - 1, rank, -1):
                    list_is_new[k] = list_is_new[k - 1]
                list_is_new[rank] = 1
    return scored


@compile_loop(reassociate=True)
def first_allowed(
    scores: np.ndarray, indices: np.ndarray, allowed: np.ndarray, first: np.ndarray, first_indices: np.ndarray
) -> np.ndarray:
    """The first u keys of each list that stage two keeps, and how many there are.

    Args:
        scores, indices: Q, L: lists in falling order, -inf where empty.
        allowed: keys, uint8.
        first: Q, u, written; -inf where there are fewer.
        first_indices: Q, u, written.

    Returns:
        Q: how many of u were found.
    """
    counts = np.zeros(scores.shape[0], np.int64)
    for query in range(scores.shape[0]):
        count = 0
        for k in range(scores.shape[1]):
            if count < first.shape[1] and scores[query, k] > -np.inf and allowed[indices[query, k]]:
                first[query, count] = scores[query, k]
                first_indices[query, count] = indices[query, k]
                count += 1
        counts[query] = count
    return counts


@compile_loop(reassociate=True)
def add(key: int, into: np.ndarray, count: int) -> int:
    """Append a key unless it is there; the new count."""
    for k in range(count):
        if into[k] == key:
            return count
    into[count] = key
    return count + 1


@compile_loop(reassociate=True)
def collect_allowed(
    queries: np.ndarray,
    best: np.ndarray,
    columns: int,
    own: np.ndarray,
    allowed: np.ndarray,
    rising: np.ndarray,
    firsts: np.ndarray,
    widths: np.ndarray,
    wanted: int,
    out: np.ndarray,
) -> None:
    """Candidates for queries with too few allowed keys in their lists; stage two allows the best keys of all queries.

    These are their own allowed keys, the best keys of the 5 x 5 queries around them, and those keys shifted to the
    query, if they are allowed. In flat areas all of these may be the same few: then the next allowed keys are added.

    Args:
        queries: n.
        best: Q: each query's best key, which is allowed; -1 for none.
        columns: queries in a row.
        own: n, u: their own allowed keys; -1 for none.
        allowed: keys, uint8.
        rising: all allowed keys in rising order.
        firsts: images + 1: first key of each image.
        widths: images: keys in a row of each image.
        wanted: keys to collect at least, where there are so many.
        out: n, own + 48 + 2 wanted: -1 where there are fewer.
    """
    rows = best.size // columns
    for n in range(queries.size):
        into, count = out[n], 0
        row, column = queries[n] // columns, queries[n] % columns
        for k in range(own.shape[1]):
            if own[n, k] >= 0:
                count = add(own[n, k], into, count)
        for down in range(-2, 3):
            for right in range(-2, 3):
                y, x = row + down, column + right
                if y < 0 or y >= rows or x < 0 or x >= columns or best[y * columns + x] < 0:
                    continue
                key = best[y * columns + x]
                count = add(key, into, count)
                image = 0
                while firsts[image + 1] <= key:
                    image += 1
                key_column = (key - firsts[image]) % widths[image] - right
                key -= down * widths[image] + right
                inside = 0 <= key_column < widths[image] and firsts[image] <= key < firsts[image + 1]
                if inside and allowed[key]:
                    count = add(key, into, count)
        start = np.searchsorted(rising, best[queries[n]])
        for distance in range(1, wanted + 1):
            for position in (start - distance, start + distance):
                if count < wanted and 0 <= position < rising.size:
                    count = add(rising[position], into, count)


@compile_loop(reassociate=True)
def score_cells(
    query: np.ndarray,
    at: np.ndarray,
    keys: np.ndarray,
    weights: np.ndarray,
    starts: np.ndarray,
    pitches: np.ndarray,
    cells: np.ndarray,
    scores: np.ndarray,
) -> None:
    """Exact scores (without the query's norm) of queries with chosen keys.

    Args:
        query, keys, weights, starts, pitches: as for `seed_row`.
        at: n: the queries' cells.
        cells: n, m: cells of keys; -1 for none.
        scores: n, m, written where there is a key.
    """
    flat, pitch = query.reshape(-1, query.shape[2]), query.shape[1]
    for n in range(at.size):
        for k in range(cells.shape[1]):
            cell = cells[n, k]
            if cell >= 0:
                product = dot_patches(flat, at[n], pitch, keys, cell, pitch_of(cell, starts, pitches))
                scores[n, k] = product * weights[cell]


@compile_loop(reassociate=True)
def insert_all(
    queries: np.ndarray, scores: np.ndarray, keys: np.ndarray, best: np.ndarray, indices: np.ndarray
) -> None:
    """Replace the lists of queries by the best of n, m scored keys.

    Args:
        queries: n: rows of the lists.
        scores: n, m; -inf for none.
        keys: n, m.
        best: Q, u, written.
        indices: Q, u, written.
    """
    for n in range(queries.size):
        into, into_indices = best[queries[n]], indices[queries[n]]
        into[:] = -np.inf
        into_indices[:] = 2**31 - 1
        for k in range(scores.shape[1]):
            if scores[n, k] > -np.inf:
                insert(into, into_indices, scores[n, k], keys[n, k])
        for k in range(into.size):
            if into[k] == -np.inf:
                into_indices[k] = 0
