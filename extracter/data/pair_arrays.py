"""Write the arrays of training and validation pairs: inputs and references, uint8 (N, H, W, 3)."""

import hashlib
import io
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from extracter.data import manifest
from extracter.data.manifest import Entry
from extracter.data.parallel import ordered_map
from extracter.files import atomic_path

# Prefix of the arrays' names by split: hr.npy and ref.npy, validation_hr.npy and validation_ref.npy.
PREFIXES = {"train": "", "validation": "validation_"}
ARRAYS = ("hr", "ref")
COLUMNS = ["index", "name", "reference", "split", "kind", "inliers"]

# By the names of ARRAYS: uint8 (N, H, W, 3).
Pairs = dict[str, np.ndarray]
# name, reference, split, kind, inliers of one pair.
Row = dict[str, Any]


@dataclass(frozen=True)
class Block:
    """Pairs of one split that are made together: their rows of pairs.csv, and the function that makes them."""

    rows: tuple[Row, ...]
    make: Callable[[], Pairs]


def stack(pairs: list[tuple[Image.Image, Image.Image]]) -> Pairs:
    """Arrays of inputs and references."""
    return {name: np.stack([np.asarray(pair[n]) for pair in pairs]) for n, name in enumerate(ARRAYS)}


class _Writer:
    """Write one array piece by piece. On a full disk this raises an error, where mapped memory would crash."""

    def __init__(self, path: Path, shape: tuple[int, ...], stack: ExitStack) -> None:
        self.path, self.size, self._hash = path, 0, hashlib.sha256()
        self._file = stack.enter_context(stack.enter_context(atomic_path(path)).open("wb"))
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
        self.append(header.getvalue())

    def append(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def entry(self) -> Entry:
        return {"path": self.path.name, "sha256": self._hash.hexdigest(), "size": self.size}


def write_arrays(out: Path, blocks: list[Block], sides: dict[str, tuple[int, int]]) -> list[Entry]:
    """Write all arrays or none, block by block.

    Args:
        out: folder of the set.
        blocks: in the order of the arrays' rows.
        sides: sides of input and reference in pixels, by split.

    Returns:
        manifest entries of the arrays.
    """
    for left in out.glob(".*.part.npy"):  # gigabytes, left by a run that was killed
        left.unlink()
    with ExitStack() as stack:
        writers = {}
        for split, prefix in PREFIXES.items():
            count = sum(len(block.rows) for block in blocks if block.rows[0]["split"] == split)
            for name, side in zip(ARRAYS, sides[split], strict=True):
                writers[split, name] = _Writer(out / f"{prefix}{name}.npy", (count, side, side, 3), stack)
        made = ordered_map(lambda block: (block.rows[0]["split"], block.make()), blocks, "prepare train")
        for split, pairs in made:
            for name in ARRAYS:
                writers[split, name].append(np.ascontiguousarray(pairs[name]).reshape(-1).data)
        (out / manifest.NAME).unlink(missing_ok=True)
    return [writer.entry() for writer in writers.values()]


def numbered(blocks: list[Block]) -> list[Row]:
    """The rows of pairs.csv: `index` counts the pairs of each split."""
    rows, counts = [], dict.fromkeys(PREFIXES, 0)
    for row in (row for block in blocks for row in block.rows):
        rows.append({"index": counts[row["split"]], **row})
        counts[row["split"]] += 1
    return rows
