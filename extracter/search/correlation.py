"""The exact search over blocks: all block products along diagonals, and a running best of each query.

With `delta` = key row - query row, a tile holds one query row against the key rows of a range of deltas. The sum over
rows then adds three consecutive tiles at the same position, so each tile is computed once and three are held at a time.
On the CPU in float32 the memory for it does not grow with the images.
"""

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from extracter.search.batched import Keys, batched_topk, prepared_keys
from extracter.search.block_grid import grid_of, im2row
from extracter.search.numba_loops import merge_row

# Upper bound in bytes for a thread's tile of scores, of which three are summed. In smaller ones calls take most time.
_THREAD_TILE = 2**19
# Upper bound in bytes for the key blocks in one thread's matrix product; larger products are no faster.
_THREAD_BLOCKS = 2**21
# Rows of blocks in the key for each thread; with fewer, laying them out would take longer than multiplying them.
_ROWS_OF_A_THREAD = 8


def block_correlation_topk(
    query: Tensor, keys: Sequence[Tensor], u: int, stride: int, tile_bytes: float, allowed: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The best u of all or the `allowed` keys: scores without the query's norm and indices, N, rows, columns, u."""
    if not is_fused(query):
        return batched_topk(query, keys, u, stride, tile_bytes, allowed)
    shape = (query.shape[0], *grid_of(query, stride), u)
    best = torch.full(shape, -torch.inf)
    indices = torch.zeros(shape, dtype=torch.long)
    for key in prepared_keys(keys, stride, allowed):
        _merge_fused(query, key, stride, tile_bytes, best, indices)
    return best, indices


def is_fused(query: Tensor) -> bool:
    """Whether the compiled loop takes these features; otherwise it is `batched`."""
    return merge_row is not None and query.device.type == "cpu" and query.dtype == torch.float32


def _merge_fused(query: Tensor, keys: Keys, stride: int, tile_bytes: float, best: Tensor, indices: Tensor) -> None:
    """Merge all scores of one reference into the running best, N, rows, columns, u, in place.

    One pass over each tile by the compiled loop, and blocks laid out row by row.
    Each thread takes a band of query rows and multiplies on its own: shared products would wait for one another, and
    their idle threads would hold the cores that the sums need.
    """
    batch, rows, columns, _ = best.shape
    _, key_rows, key_columns = keys.weights.shape
    bias = torch.zeros_like(keys.weights)
    if keys.barred is not None:
        bias.masked_fill_(keys.barred, -torch.inf)
    threads = max(1, min(torch.get_num_threads(), key_rows // _ROWS_OF_A_THREAD))
    # Three tiles for each thread are no more than five of what is asked for.
    tile_bytes = min(tile_bytes * 5 / (3 * threads), _THREAD_TILE)
    row_bytes = 4 * key_columns * query.shape[1] * stride**2
    # What the threads lay out takes no more memory than the key's features.
    height = min(int(tile_bytes / (4 * columns * key_columns)), key_rows // (2 * threads), _THREAD_BLOCKS // row_bytes)
    height = max(1, height)
    # Allocated once, here: memory that a thread frees stays in that thread's malloc arena.
    buffers = [_Buffers.of(query, keys, stride, height) for _ in range(threads)]
    with _single_threaded_workers(threads) as workers:
        for n, first in itertools.product(range(batch), range(1 - rows, key_rows, height)):
            deltas = range(first, min(first + height, key_rows))
            # The query rows that meet the key in this range of diagonals.
            met = range(max(0, 1 - deltas.stop), min(rows, key_rows - deltas.start))
            edges = [met.start + len(met) * part // threads for part in range(threads + 1)]
            band = partial(_merge_band, query[n], keys, bias, n, stride, deltas, met, best[n], indices[n])
            list(workers.map(band, buffers, edges[:-1], edges[1:]))


@contextmanager
def _single_threaded_workers(threads: int) -> Iterator[ThreadPoolExecutor]:
    """A thread pool in which each worker runs PyTorch single-threaded."""
    before = torch.get_num_threads()
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as workers:
        try:
            yield workers
        finally:
            torch.set_num_threads(before)


@torch.inference_mode()  # which does not pass from thread to thread
def _merge_band(
    query: Tensor,
    keys: Keys,
    bias: Tensor,
    n: int,
    stride: int,
    deltas: range,
    met: range,
    best: Tensor,
    indices: Tensor,
    buffer: "_Buffers",
    start: int,
    stop: int,
) -> None:
    """Merge one range of diagonals into the running best of the query rows from `start` to `stop`."""
    if start == stop:
        return
    columns = best.shape[1]
    _, key_rows, key_columns = keys.weights.shape
    pixels_first = query.stride(0) == 1
    laid_out = _Rows(keys.features[n], stride, pixels_first, buffer.key)
    lows, counts = np.zeros(3, np.int64), np.zeros(3, np.int64)
    for coming in range(start - 1, stop + 1):
        slot = coming % 3
        counts[slot] = 0
        if coming in met:
            top, bottom = max(coming + deltas.start, 0), min(coming + deltas.stop, key_rows)
            lows[slot], counts[slot] = top - coming - deltas.start, bottom - top
            tile = buffer.products[slot, : columns * (bottom - top) * key_columns].view(columns, -1)
            blocks = im2row(query, coming, stride, pixels_first, buffer.query)
            torch.mm(blocks, laid_out.get(top, bottom).mT, out=tile)
        row = coming - 1
        if row < start:
            continue
        top, bottom = max(row + deltas.start, 0), min(row + deltas.stop, key_rows)
        merge_row(
            buffer.products.numpy(), lows, counts, top - row - deltas.start, bottom - top, key_columns,
            keys.weights[n, top:bottom].flatten().numpy(), bias[n, top:bottom].flatten().numpy(),
            best[row].numpy(), indices[row].numpy(), keys.start + top * key_columns,
        )  # fmt: skip


class _Buffers(NamedTuple):
    """What one thread writes to again and again.

    Attributes:
        query: columns, D: blocks of one query row.
        key: rows * columns, D: blocks of up to twice as many key rows as a product has.
        products: 3, products of one query row: those of query row r at r % 3.
    """

    query: Tensor
    key: Tensor
    products: Tensor

    @classmethod
    def of(cls, query: Tensor, keys: Keys, stride: int, height: int) -> "_Buffers":
        """Room for `height` diagonals."""
        size = query.shape[1] * stride**2
        columns = query.shape[3] // stride
        _, key_rows, key_columns = keys.weights.shape
        products = torch.empty(3, columns * min(height, key_rows) * key_columns)
        return cls(torch.empty(columns, size), torch.empty(min(2 * height, key_rows) * key_columns, size), products)


class _Rows:
    """Rows of blocks of C, h, w, laid out as the search along diagonals comes to them, each once.

    Args:
        image: C, h, w.
        stride: s, side of a block.
        pixels_first: as for `im2row`.
        buffer: rows * columns, D: for twice as many rows as are asked for at once, or for all.
    """

    def __init__(self, image: Tensor, stride: int, pixels_first: bool, buffer: Tensor):
        self.image, self.stride, self.pixels_first, self.buffer = image, stride, pixels_first, buffer
        self.columns = image.shape[2] // stride
        self.top = self.bottom = 0

    def get(self, top: int, bottom: int) -> Tensor:
        """Rows `top` to `bottom`, (bottom - top) * columns, D; both only ever grow."""
        width = self.columns
        if self.bottom <= top:
            self.top = self.bottom = top
        if (bottom - self.top) * width > len(self.buffer):
            # Half of the buffer at most, and from the other half.
            remaining = self.buffer[(top - self.top) * width : (self.bottom - self.top) * width]
            self.buffer[: len(remaining)] = remaining
            self.top = top
        for row in range(self.bottom, bottom):
            start = (row - self.top) * width
            im2row(self.image, row, self.stride, self.pixels_first, self.buffer[start : start + width])
        self.bottom = max(self.bottom, bottom)
        return self.buffer[(top - self.top) * width : (bottom - self.top) * width]
