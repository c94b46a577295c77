"""The approximate search over whole images, whose features are computed strip by strip."""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import torch
from torch import Tensor

from extracter.inference.tiling.features import SIDE, Features, bytes_at_once
from extracter.inference.tiling.windows import InsufficientMemoryError, Report, Window
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


@torch.inference_mode()
def search_approximately(
    query: Features, keys: Sequence[Features], u: int, config: SearchConfig, memory: float, report: Report
) -> Matches:
    """Matches of a whole image by `extracter.search.approximate`: indices, scores 1, u, Q.

    Args:
        query, keys, u, config, report: as of `search.Search`.
        memory: bytes for all of it; on a GPU the features of all images have to fit.
    """
    pictures = (query, *keys)
    if not approximate.compiled(query.picture.device):
        first, *others = (features.cut(features.whole, 2) for features in pictures)
        matches = search(first, others, u, replace(config, memory=memory / MIB / 2))
        report(1, 1)
        return matches
    wholes = [features.whole for features in pictures]
    width, stride = query.width, config.stride
    needed = least_bytes(width, stride, wholes[0], wholes[1:], u)
    if memory < needed:
        raise InsufficientMemoryError(needed)
    blocks = [FeatureBlocks(features, stride) for features in pictures]
    memory -= _beside(width, stride, wholes)
    found = search_rows(blocks[0], blocks[1:], u, config.strategy == "two_stage", memory, report)
    scores, indices = (torch.from_numpy(x).mT.unsqueeze(0) for x in found)
    missing = scores.isneginf()
    indices = torch.where(missing, indices[:, :1], indices).long()
    return Matches(indices, scores.masked_fill(missing, 0), sum(key.rows * key.columns for key in blocks[1:]))


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
    depth = 4 * width * stride**2
    grids = [SimpleNamespace(rows=x.height // stride, columns=x.width // stride, depth=depth) for x in (query, *keys)]
    return _beside(width, stride, [query, *keys]) + approximate.least_bytes(grids[0], grids[1:], u)
