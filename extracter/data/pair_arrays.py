"""The arrays of training pairs: written whole, and rewritten with what an earlier run made of the same bytes."""

import hashlib
import io
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from extracter.data import manifest
from extracter.data.degradation import SCALE
from extracter.data.manifest import Entry
from extracter.data.pairs import ARRAYS
from extracter.data.parallel import ordered_map
from extracter.files import atomic_path, read_json, write_json

RECORD = ".prepared.json"

# One array for each name of ARRAYS: uint8 N, H, W, 3.
Pairs = dict[str, np.ndarray]


@dataclass(frozen=True)
class Block:
    """Consecutive pairs that are made together.

    `key` tells apart whatever changes them: blocks of one key hold the same pairs. `rows` are name and split of each.
    """

    key: str
    rows: tuple[tuple[str, str], ...]
    make: Callable[[], Pairs]


class _Earlier:
    """What an earlier run made in the same way, as far as its arrays are still what was written."""

    def __init__(self, out: Path, recipe: dict[str, Any]) -> None:
        self._blocks: dict[str, tuple[int, int]] = {}
        self._arrays: Pairs = {}
        if not (out / RECORD).is_file():
            return
        record = read_json(out / RECORD)
        if record.get("recipe") != recipe:
            return
        intact = ordered_map(
            lambda entry: (out / entry["path"]).is_file() and manifest.describe(out, entry["path"]) == entry,
            record["arrays"],
            "check train",
        )
        if all(list(intact)):
            self._arrays = {name: np.load(out / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
            self._blocks = {key: tuple(place) for key, place in record["blocks"].items()}

    def make_or_keep(self, block: Block) -> Pairs:
        """The pairs of a block, new or as they were."""
        if block.key not in self._blocks:
            return block.make()
        start, stop = self._blocks[block.key]
        return {name: array[start:stop] for name, array in self._arrays.items()}


def write_arrays(out: Path, blocks: list[Block], size: int, recipe: dict[str, Any]) -> list[Entry]:
    """Write the six arrays, all or none, one block after the other.

    They are written as files, since a full disk is an error there and a crash where memory is mapped.

    Args:
        out: the set's folder.
        blocks: in the order of the arrays' rows.
        size: side of input and reference, pixels.
        recipe: all that blocks have in common; another recipe makes everything anew.

    Returns:
        manifest entries of the arrays.
    """
    for name in ARRAYS:
        for left in out.glob(f".{name}.*.part.npy"):  # by a run that was killed; gigabytes
            left.unlink()
    earlier = _Earlier(out, recipe)
    count = sum(len(block.rows) for block in blocks)
    with ExitStack() as stack:
        files, hashes, sizes = {}, {}, dict.fromkeys(ARRAYS, 0)
        for name in ARRAYS:
            temporary = stack.enter_context(atomic_path(out / f"{name}.npy"))
            files[name] = stack.enter_context(temporary.open("wb"))
            hashes[name] = hashlib.sha256()

        def append(name: str, data: bytes | memoryview) -> None:
            files[name].write(data)
            hashes[name].update(data)
            sizes[name] += len(data)

        for name in ARRAYS:
            side = size // SCALE if name in ("lr", "ref_lr") else size
            header = io.BytesIO()
            shape = (count, side, side, 3)
            np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
            append(name, header.getvalue())
        for pairs in ordered_map(earlier.make_or_keep, blocks, "prepare train"):
            for name in ARRAYS:
                append(name, np.ascontiguousarray(pairs[name]).reshape(-1).data)
        (out / manifest.NAME).unlink(missing_ok=True)
    entries = [{"path": f"{n}.npy", "sha256": hashes[n].hexdigest(), "size": sizes[n]} for n in ARRAYS]
    places, start = {}, 0
    for block in blocks:
        places[block.key] = (start, start + len(block.rows))
        start += len(block.rows)
    write_json(out / RECORD, {"recipe": recipe, "arrays": entries, "blocks": places})
    return entries
