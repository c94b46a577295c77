"""Reading what `prepare` wrote, for the tests of several folders."""

import csv
from pathlib import Path


def rows(folder: Path, name: str = "references.csv") -> list[dict]:
    """A table of a prepared set."""
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
