"""Compiled loops that copy matched patches into textures on the CPU; `textures` says what they compute."""

import numpy as np

from extracter.search.numba_loops import compile_loop


@compile_loop
def list_sources(
    indices: np.ndarray,
    offsets: np.ndarray,
    references: np.ndarray,
    first: int,
    last: int,
    left: int,
    right: int,
    scale: int,
    block: int,
    side: int,
    constant: bool,
    tiles: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where each block of some rows of the textures comes from, sorted by the tile of the reference that holds it.

    A query lends its patch's nine blocks to its own place and its eight neighbours, so up to nine sources meet in a
    block. Where neighbours matched neighbours, several of them are the same block: it is listed once, with its share.

    Args:
        indices: u, rows, columns int64: the key of each query; a negative one: the query has no patch.
        offsets: u, rows, columns, 2 int8: pixels of the image by which each match is moved.
        references: n, 4: first key, rows and columns of keys, and first tile of each reference.
        first: row of blocks to begin with.
        last: the one after the last.
        left: column of blocks to begin with.
        right: the one after the last.
        scale: pixels of this level for one cell; a cell has 4 pixels of the image.
        block: side of a block in pixels of this level.
        side: blocks of a tile's side.
        constant: divide by nine at the image's edges too, where fewer sources meet.
        tiles: of all references.

    Returns:
        Where each tile's sources begin, tiles + 1; and of each source the block, counted over ranks, rows and columns;
        its top and left pixel in the reference, which may lie outside; and its share.
    """
    ranks, rows, columns = indices.shape
    width = right - left
    most = ranks * (last - first) * width * 9
    number, target = np.empty(most, np.int32), np.empty(most, np.int32)
    top_of, left_of, share_of = np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.float32)
    starts = np.zeros(tiles + 1, np.int64)
    count = 0
    for rank in range(ranks):
        for row in range(first, last):
            for column in range(left, right):
                begin, covered = count, 0
                for near in range(9):
                    down, across = near // 3 - 1, near % 3 - 1
                    y, x = row - down, column - across
                    if y < 0 or y >= rows or x < 0 or x >= columns:
                        continue
                    key, image = indices[rank, y, x], 0
                    if key < 0:
                        continue
                    covered += 1
                    while image + 1 < len(references) and references[image + 1, 0] <= key:
                        image += 1
                    key -= references[image, 0]
                    height, breadth = references[image, 1], references[image, 2]
                    key_row, key_column = key // breadth + down, key % breadth + across
                    # A block just outside may be moved inside: it belongs to the nearest tile.
                    home_row, home_column = min(max(key_row, 0), height - 1), min(max(key_column, 0), breadth - 1)
                    tile = references[image, 3] + home_row // side * -(-breadth // side) + home_column // side
                    pixel_row = key_row * block + int(np.rint(offsets[rank, y, x, 0] * scale / 4))
                    pixel_column = key_column * block + int(np.rint(offsets[rank, y, x, 1] * scale / 4))
                    same = begin
                    while same < count and not (
                        top_of[same] == pixel_row and left_of[same] == pixel_column and number[same] == tile
                    ):
                        same += 1
                    if same < count:
                        share_of[same] += 1
                        continue
                    number[count], top_of[count], left_of[count] = tile, pixel_row, pixel_column
                    target[count] = (rank * (last - first) + row - first) * width + column - left
                    share_of[count] = 1
                    starts[tile + 1] += 1
                    count += 1
                if constant:
                    covered = 9
                for source in range(begin, count):
                    share_of[source] /= covered
    for tile in range(tiles):
        starts[tile + 1] += starts[tile]
    place = starts[:-1].copy()
    blocks, tops = np.empty(count, np.int32), np.empty(count, np.int32)
    lefts, shares = np.empty(count, np.int32), np.empty(count, np.float32)
    for source in range(count):
        at = place[number[source]]
        place[number[source]] += 1
        blocks[at], tops[at], lefts[at], shares[at] = (
            target[source], top_of[source], left_of[source], share_of[source],
        )  # fmt: skip
    return starts, blocks, tops, lefts, shares


@compile_loop
def add_sources(
    image: np.ndarray,
    channels: int,
    top: int,
    left: int,
    blocks: np.ndarray,
    tops: np.ndarray,
    lefts: np.ndarray,
    shares: np.ndarray,
    block: int,
    textures: np.ndarray,
) -> None:
    """Add the sources that lie in one tile of a reference to the textures, in place; outside the image is zero.

    Args:
        image: rows of pixels, each width * channels float32: the tile with its margin.
        channels: C.
        top: first row of the image in the reference.
        left: first column.
        blocks, tops, lefts, shares: sources, as `list_sources` gives them.
        block: side of a block in pixels.
        textures: u, rows of blocks, block, columns * block * C.
    """
    height, width = image.shape[0], image.shape[1] // channels
    rows, span = textures.shape[1], block * channels
    columns = textures.shape[3] // span
    for source in range(blocks.size):
        share = shares[source]
        rank, place = divmod(blocks[source], rows * columns)
        row, column = divmod(place, columns)
        x = lefts[source] - left
        skipped = max(-x, 0)
        size = (min(block, width - x) - skipped) * channels
        if size <= 0:
            continue
        begin, origin = column * span + skipped * channels, (x + skipped) * channels
        for line in range(block):
            y = tops[source] - top + line
            if 0 <= y < height:
                into, pixels = textures[rank, row, line, begin : begin + size], image[y, origin : origin + size]
                for t in range(size):
                    into[t] += share * pixels[t]
