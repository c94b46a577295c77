"""The keys of the approximate search: laid out, projected, and sorted into the leaves of a tree."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from extracter.search.projection_loops import (
    DIM,
    descend,
    inverse_norms,
    k_means,
    leading_subspace,
    project,
    project_rows,
    second_moment,
)

LEAF = 64  # keys of a leaf on the mean
NO_CELL = 2**31 - 1


class Blocks(Protocol):
    """Blocks of an image, read row by row.

    Attributes:
        rows: of blocks.
        columns: of blocks.
        depth: D, numbers in a block: C s s.
    """

    rows: int
    columns: int
    depth: int

    def read(self, top: int, bottom: int, out: Tensor) -> None:
        """Write the blocks of rows `top` to `bottom` into `out`, rows, columns, D."""


class StoredBlocks:
    """Blocks of features that lie in memory.

    Args:
        features: C, h, w; sides are multiples of `stride`.
        stride: s, side of a block.
    """

    def __init__(self, features: Tensor, stride: int):
        self.features, self.stride = features, stride
        self.rows, self.columns = (side // stride for side in features.shape[1:])
        self.depth = features.shape[0] * stride**2

    def read(self, top: int, bottom: int, out: Tensor) -> None:
        """As of `Blocks`."""
        copy_blocks(self.features[:, top * self.stride : bottom * self.stride], self.stride, out)


def copy_blocks(features: Tensor, stride: int, out: Tensor) -> None:
    """Lay out C, h, w as rows, columns, C s s."""
    parts = features.unflatten(2, (-1, stride)).unflatten(1, (-1, stride))  # C, rows, s, columns, s
    parts = parts.permute(1, 3, 2, 4, 0)
    out.view(parts.shape).copy_(parts)


def parallel(work: Callable[[int, int], object], start: int, stop: int) -> list:
    """Call `work` on ranges that cover start to stop, in as many threads as PyTorch may take."""
    threads = torch.get_num_threads()
    step = max(1, (stop - start) // (4 * threads))
    edges = [*range(start, stop, step), stop]
    if threads == 1:
        return [work(start, stop)] if stop > start else []
    with ThreadPoolExecutor(threads) as workers:
        return list(workers.map(work, edges[:-1], edges[1:]))


def _spread(count: int, total: int) -> np.ndarray:
    """Up to `count` different numbers below `total`, evenly spread but not in step with the rows of an image."""
    if count >= total:
        return np.arange(total)
    golden = 0.6180339887498949
    return np.unique((np.arange(count) * golden % 1.0 * total).astype(np.int64))


class Projection(NamedTuple):
    """From patches to DIM numbers.

    Attributes:
        basis: DIM, D: of a block.
        patch_basis: DIM, 3, 3 DIM: of the three rows of projected blocks of a patch.
        mean: DIM, subtracted.
    """

    basis: np.ndarray
    patch_basis: np.ndarray
    mean: np.ndarray


class Tree(NamedTuple):
    """Two levels of k-means over projected keys; see `propagation_loops.seed_row` for shapes."""

    centres: np.ndarray
    offsets: np.ndarray
    leaf_centres: np.ndarray
    leaf_offsets: np.ndarray
    leaf_starts: np.ndarray
    points: np.ndarray
    half_squares: np.ndarray
    key_cells: np.ndarray


class Strip(NamedTuple):
    """Rows of one reference.

    Attributes:
        blocks: the reference.
        top: first row.
        bottom: end of the rows.
        first: index of the first key, counted over all references.
    """

    blocks: Blocks
    top: int
    bottom: int
    first: int


class KeyTable:
    """Keys, laid out and sorted for a search.

    Args:
        strips: of references; their keys are searched together.
        tree: whether keys are searched for; without, they can be scored alone.
    """

    def __init__(self, strips: Sequence[Strip], tree: bool = True):
        self.strips = strips
        shapes = [(strip.bottom - strip.top + 2, strip.blocks.columns + 2) for strip in strips]
        self.pitches = np.array([width for _, width in shapes])
        self.starts = np.concatenate(([0], np.cumsum([height * width for height, width in shapes])))
        self.depth = strips[0].blocks.depth
        self.blocks = np.zeros((self.starts[-1], self.depth), np.float32)
        self.weights = np.full(self.starts[-1], -1, np.float32)
        cells = []
        for strip, (height, width), start in zip(strips, shapes, self.starts, strict=False):
            table, weights = (
                x[start : start + height * width].reshape(height, width, *x.shape[1:])
                for x in (self.blocks, self.weights)
            )
            # The rows above and below a strip are no keys of it, but its patches reach them.
            read_with_border(strip.blocks, strip.top, strip.bottom, table)
            parallel(partial(inverse_norms, table, weights), 1, height - 1)
            inside = start + np.arange(height * width).reshape(height, width)[1:-1, 1:-1]
            cells.append(inside.astype(np.int32).ravel())
        self.key_cells = np.concatenate(cells)
        if tree:
            self.projection = self._train_projection()
            self.tree = self._grow_tree(self._project_keys())

    @property
    def multiply_adds(self) -> float:
        """Of the projection and the tree, of which the samples for training take about a tenth."""
        branches, keys = len(self.tree.offsets), len(self.key_cells)
        of_key = DIM * (self.depth + 9 * DIM) + 2 * branches * DIM
        k_means = DIM * branches**2 * (4 * 64 + (2 + 1) * 8 * branches)
        moments = 8192 * self.depth**2 + 2048 * ((9 * DIM) ** 2 + 9 * DIM * self.depth)
        return keys * of_key + k_means + moments

    def index_of(self, cells: np.ndarray) -> np.ndarray:
        """Indices of keys, counted over all references; of `NO_CELL` 0."""
        indices = np.zeros(cells.shape, np.int32)
        for strip, start, end, pitch in zip(self.strips, self.starts, self.starts[1:], self.pitches, strict=False):
            inside = (cells >= start) & (cells < end)
            row, column = np.divmod(cells[inside] - start, pitch)
            indices[inside] = strip.first + (row - 1) * (pitch - 2) + column - 1
        return indices

    def cell_of(self, indices: np.ndarray) -> np.ndarray:
        """Cells of keys; -1 for those of other tables."""
        cells = np.full(indices.shape, -1, np.int64)
        for strip, start, pitch in zip(self.strips, self.starts, self.pitches, strict=False):
            width = strip.blocks.columns
            inside = (indices >= strip.first) & (indices < strip.first + (strip.bottom - strip.top) * width)
            row, column = np.divmod(indices[inside] - strip.first, width)
            cells[inside] = start + (row + 1) * pitch + column + 1
        return cells

    def _train_projection(self) -> Projection:
        """Principal components: of blocks, uncentred, then of patches of projected blocks, centred."""
        cells = self.key_cells[_spread(8192, len(self.key_cells))]
        basis = leading_subspace(second_moment(self.blocks[cells]), min(DIM, self.depth), 20)
        # Rows of zeros up to DIM, for blocks of fewer numbers.
        basis = np.pad(basis, ((0, DIM - len(basis)), (0, 0))).astype(np.float32)
        cells = self.key_cells[_spread(2048, len(self.key_cells))]
        pitch = self.pitches[np.searchsorted(self.starts, cells, "right") - 1]
        around = [cells + down * pitch + right for down in (-1, 0, 1) for right in (-1, 0, 1)]
        patches = np.stack([project(self.blocks[near], basis) for near in around], 1).reshape(len(cells), -1)
        patches *= self.weights[cells, None]
        mean = patches.mean(0, dtype=np.float64)
        of_patches = leading_subspace(second_moment(patches - mean.astype(np.float32)), DIM, 20)
        projected_mean = (of_patches * mean).sum(1).astype(np.float32)
        return Projection(basis, of_patches.astype(np.float32).reshape(DIM, 3, 3 * DIM), projected_mean)

    def _project_keys(self) -> np.ndarray:
        """keys, DIM."""
        parts = []
        for start, end, pitch in zip(self.starts, self.starts[1:], self.pitches, strict=False):
            table = self.blocks[start:end].reshape(-1, pitch, self.depth)
            parts.append(project_image(table, self.weights[start:end].reshape(-1, pitch), self.projection))
        return np.concatenate([part.reshape(-1, DIM) for part in parts])

    def _grow_tree(self, points: np.ndarray) -> Tree:
        """Cluster samples of the keys, then sort all keys into the leaves."""
        branches = max(1, round((len(points) / LEAF) ** 0.5))
        centres = k_means(points[_spread(64 * branches, len(points))], branches, 4)
        columns, offsets = np.ascontiguousarray(centres.T), 0.5 * np.square(centres).sum(1)
        samples = points[_spread(8 * branches**2, len(points))]
        owners = np.zeros(len(samples), np.int32)
        no_leaves = np.zeros((branches, DIM, 0), np.float32), np.zeros((branches, 0), np.float32)
        parallel(lambda a, b: descend(samples[a:b], columns, offsets, *no_leaves, owners[a:b]), 0, len(samples))
        leaf_centres = np.zeros((branches, DIM, branches), np.float32)
        leaf_offsets = np.zeros((branches, branches), np.float32)

        def split(first: int, last: int) -> None:
            for branch in range(first, last):
                means = k_means(samples[owners == branch], branches, 2)
                leaf_centres[branch], leaf_offsets[branch] = means.T, 0.5 * np.square(means).sum(1)

        parallel(split, 0, branches)
        leaves = np.zeros(len(points), np.int32)
        nodes = columns, offsets, leaf_centres, leaf_offsets
        parallel(lambda a, b: descend(points[a:b], *nodes, leaves[a:b]), 0, len(points))
        order = np.argsort(leaves, kind="stable")
        starts = np.searchsorted(leaves[order], np.arange(branches**2 + 1))
        empty = (np.diff(starts) == 0).reshape(branches, branches)
        leaf_offsets[empty] = np.inf
        offsets[empty.all(1)] = np.inf
        # One row a dimension: a leaf is then scanned many keys at a time.
        points = np.ascontiguousarray(points[order].T)
        half_squares = 0.5 * np.square(points).sum(0)
        return Tree(columns, offsets, leaf_centres, leaf_offsets, starts, points, half_squares, self.key_cells[order])


def read_with_border(blocks: Blocks, top: int, bottom: int, table: np.ndarray) -> None:
    """Fill rows + 2, columns + 2, D with rows `top` to `bottom`, a row on each side, and zeros outside the image."""
    low, high = max(top - 1, 0), min(bottom + 1, blocks.rows)
    table[:] = 0
    blocks.read(low, high, torch.from_numpy(table)[low - top + 1 : high - top + 1, 1:-1])


def project_image(table: np.ndarray, weights: np.ndarray, projection: Projection) -> np.ndarray:
    """Projected patches, rows, columns, DIM, of blocks within their border."""
    rows, columns = (side - 2 for side in table.shape[:2])
    out = np.zeros((rows, columns, DIM), np.float32)
    parallel(lambda top, bottom: project_rows(table, weights, *projection, top, bottom, out), 1, rows + 1)
    return out
