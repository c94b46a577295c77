"""A contact sheet of training pairs, on which one can see whether references show what their inputs show."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from extracter.data.images import encode_png, write_bytes
from extracter.data.pair_arrays import PREFIXES

NAME = "contact_sheet.png"
PAIRS = 10
SIDE = 160
GAP = 4
TITLE = 14


def _pick(rows: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Up to ten pairs of each split and kind, evenly spaced."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[f"{row['split']}: {row['kind']}"].append(row)
    picked = []
    for title, members in groups.items():
        numbers = np.unique(np.linspace(0, len(members) - 1, PAIRS).round().astype(int))
        picked.append((title, [members[number] for number in numbers]))
    return picked


def _shown(arrays: dict[tuple[str, str], np.ndarray], split: str, name: str) -> int:
    """Side of an input or reference on the sheet: both have the same scale, and the larger one fills its cell."""
    largest = max(arrays[split, other].shape[1] for other in ("hr", "ref"))
    return round(SIDE * arrays[split, name].shape[1] / largest)


def _height(arrays: dict[tuple[str, str], np.ndarray], title: str) -> int:
    split = title.partition(":")[0]
    return TITLE + sum(_shown(arrays, split, name) + GAP for name in ("hr", "ref"))


def write_contact_sheet(out: Path, rows: list[dict[str, Any]]) -> None:
    """Write contact_sheet.png: a row for each split and kind, with inputs above their references at the same scale.

    The number beside an input is that of the matched points of the two photographs.

    Args:
        out: folder of the arrays.
        rows: as in pairs.csv.
    """
    groups = _pick(rows)
    arrays = {
        (split, name): np.load(out / f"{prefix}{name}.npy", mmap_mode="r")
        for split, prefix in PREFIXES.items()
        for name in ("hr", "ref")
    }
    sheet = Image.new("RGB", (PAIRS * (SIDE + GAP), sum(_height(arrays, title) for title, _ in groups)), "white")
    draw = ImageDraw.Draw(sheet)
    top = 0
    for title, members in groups:
        for column, row in enumerate(members):
            left, line = column * (SIDE + GAP), top + TITLE
            draw.text((left + 2, top), title if not column else "", fill="black")
            for name in ("hr", "ref"):
                image = Image.fromarray(arrays[row["split"], name][row["index"]])
                side = _shown(arrays, row["split"], name)
                sheet.paste(image.resize((side, side), Image.Resampling.BICUBIC), (left, line))
                if name == "hr":
                    draw.text((left + side + GAP, line), str(row["inliers"]), fill="black")
                line += side + GAP
        top += _height(arrays, title)
    write_bytes(out / NAME, encode_png(sheet))
