"""A test set evaluated in parts, by as many jobs, and put together again: the same bytes as in one piece.

Part 2 of 8 has every eighth image from the second on, so that parts take about equally long whatever the order.
"""

import re
import shutil
from pathlib import Path
from statistics import mean
from typing import Any

from extracter.errors import UserError
from extracter.files import atomic_path, read_json, read_rows, write_csv, write_json

MEASURES = ("psnr_y", "ssim_y")
COLUMNS = ["image", "reference", *MEASURES]
TIMINGS = ["image", "seconds", "peak_memory_mib"]
_REMEDY = "evaluate this part again"


def parse_part(text: str) -> slice:
    """Which images `2-of-8` means.

    Raises:
        UserError: it names no part.

    Example:
        >>> parse_part("2-of-8")
        slice(1, None, 8)
    """
    found = re.fullmatch(r"(\d+)-of-(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UserError(f"--part {text}: write the number of the part and of all parts, from 1-of-1 on, such as 2-of-8")
    return slice(int(found[1]) - 1, None, int(found[2]))


def summarise(rows: list[dict[str, Any]], about: dict[str, Any]) -> dict[str, Any]:
    """The summary of an evaluation: what it is about, and the means; None where a part has no image."""
    means = {key: round(mean(float(row[key]) for row in rows), 8) if rows else None for key in MEASURES}
    before = ("variant", "set", "stand_in")
    first = {key: about[key] for key in before}
    rest = {key: value for key, value in about.items() if key not in (*before, "references", "images", *MEASURES)}
    return {**first, "images": len(rows), "references": about["references"], **means, **rest}


def merge(parts: list[Path], out: Path, summary: Path, sr: Path, timings: Path | None) -> None:
    """Put the parts of an evaluation together.

    Args:
        parts: folder of each part in order, with images.csv, timings.csv, summary.json and the folder sr.
        out, summary, sr, timings: as of `evaluate`.

    Raises:
        UserError: a part is missing or of another evaluation.
    """
    abouts = [read_json(part / "summary.json") for part in parts]
    for part, about in zip(parts, abouts, strict=True):
        for key in ("variant", "set", "references", "border", "padding", "precision"):
            mine, first = about.get(key), abouts[0].get(key)
            if mine != first:
                raise UserError(f"{part}: of {key} {mine}, but {parts[0]} is of {first}; merge one of them")
    rows = _interleave([read_rows(part / "images.csv", _REMEDY) for part in parts])
    for part in parts:
        for image in sorted((part / "sr").glob("*.png")):
            with atomic_path(sr / image.name) as temporary:
                shutil.copyfile(image, temporary)
    write_csv(out, rows, COLUMNS)
    if timings is not None:
        costs = _interleave([read_rows(part / "timings.csv", _REMEDY) for part in parts])
        write_csv(timings, costs, TIMINGS)
    # A part in which each image has one reference does not say how several are used.
    several = next((about["several"] for about in abouts if about.get("several")), None)
    write_json(summary, summarise(rows, abouts[0] | {"several": several}))


def _interleave(parts: list[list[dict[str, str]]]) -> list[dict[str, str]]:
    """The rows in the order that they had before the set was divided."""
    merged: list[dict[str, str]] = [{}] * sum(map(len, parts))
    for number, rows in enumerate(parts):
        merged[number :: len(parts)] = rows
    return merged
