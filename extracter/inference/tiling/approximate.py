"""The approximate search over whole images, whose features are computed strip by strip."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from extracter.inference.tiling.features import SIDE, Features, bytes_at_once
from extracter.inference.tiling.windows import InsufficientMemoryError, Window
from extracter.memory import MIB
from extracter.search import approximate
from extracter.search.approximate import search_rows
from extracter.search.key_table import copy_blocks
from extracter.search.search import Matches, SearchConfig, search

_HELD = 2  # strips of features that are held: as many as two bands of queries have in common


class FeatureBlocks:
    """Blocks of a picture's features, computed in strips at fixed places: the same values whatever rows are read.

    Args:
        features: of the picture.
        stride: s, side of a block.
    """

    def __init__(self, features: Features, stride: int):
        self.features, self.stride = features, stride
        self.rows, self.columns = features.whole.height // stride, features.whole.width // stride
        self.depth = 4 * features.width * stride**2
        self.side = max(SIDE // stride, 1)
        self.held: dict[int, Tensor] = {}

    def read(self, top: int, bottom: int, out: Tensor) -> None:
        """As of `key_table.Blocks`."""
        for number in range(top // self.side, -(-bottom // self.side)):
            first = number * self.side
            low, high = max(top, first), min(bottom, first + self.side)
            part = self._strip(number)[:, (low - first) * self.stride : (high - first) * self.stride]
            copy_blocks(part, self.stride, out[low - top : high - top])

    def _strip(self, number: int) -> Tensor:
        if number not in self.held:
            whole, height = self.features.whole, self.side * self.stride
            window = Window(number * height, min((number + 1) * height, whole.bottom), whole.left, whole.right)
            while len(self.held) >= _HELD:
                self.held.pop(next(iter(self.held)))
            self.held[number] = self.features.cut(window, 2)[0]
        return self.held[number]


class ApproximateSearch:
    """Finds the matches of a whole image by `extracter.search.approximate`.

    Args:
        query: features of LR_up.
        keys: features of each Ref_du; all are searched together.
        u: matches for each query.
        config: patches with k = 3s, p = s, and the strategy.
        memory: bytes for all of it; on a GPU the features of all images have to fit.
        report: called with (done, total) after each step.
    """

    def __init__(
        self,
        query: Features,
        keys: Sequence[Features],
        u: int,
        config: SearchConfig,
        memory: float,
        report: Callable[[int, int], None],
    ):
        self.query, self.keys, self.u, self.config, self.memory, self.report = query, keys, u, config, memory, report

    @torch.inference_mode()
    def run(self) -> Matches:
        """Matches of all queries: indices, scores 1, u, Q."""
        if not approximate.compiled(self.query.picture.device):
            query, *keys = (features.cut(features.whole, 2) for features in (self.query, *self.keys))
            matches = search(query, keys, self.u, replace(self.config, memory=self.memory / MIB / 2))
            self.report(1, 1)
            return matches
        wholes = [features.whole for features in (self.query, *self.keys)]
        width, stride = self.query.width, self.config.stride
        needed = least_bytes(width, stride, wholes[0], wholes[1:], self.u)
        if self.memory < needed:
            raise InsufficientMemoryError(needed)
        query, *keys = (FeatureBlocks(features, stride) for features in (self.query, *self.keys))
        memory = self.memory - _beside(width, stride, wholes)
        two_stage = self.config.strategy == "two_stage"
        found = search_rows(query, keys, self.u, two_stage, memory, self.report)
        scores, indices = (torch.from_numpy(x).mT.unsqueeze(0) for x in found)
        missing = scores.isneginf()
        indices = torch.where(missing, indices[:, :1], indices).long()
        return Matches(indices, scores.masked_fill(missing, 0), sum(key.rows * key.columns for key in keys))


class _Grid(NamedTuple):
    """Sizes of `key_table.Blocks`."""

    rows: int
    columns: int
    depth: int


def _beside(width: int, stride: int, wholes: Sequence[Window]) -> float:
    """Bytes for computing features and for the strips that are held: of the query, and of one reference at a time."""
    query, *keys = (4 * _HELD * max(SIDE // stride, 1) * stride * whole.width * 4 * width for whole in wholes)
    return bytes_at_once(width) + query + max(keys)


def least_bytes(width: int, stride: int, query: Window, keys: Sequence[Window], u: int) -> float:
    """The least memory for a search on the CPU.

    Args:
        width: of the DFE.
        stride: s.
        query: the padded LR.
        keys: the padded references.
        u: matches for each query.
    """
    grids = [_Grid(x.height // stride, x.width // stride, 4 * width * stride**2) for x in (query, *keys)]
    return _beside(width, stride, [query, *keys]) + approximate.least_bytes(grids[0], grids[1:], u)
