"""The test set `views`: photographs of the same scenes, with references of five levels.

views.csv lists the pairs. Levels 1 to 4 are other photographs of the scene of the input, with fewer and fewer matching
points; level 5 is a photograph of another scene. `inliers` is the number of matched points that agree with the
geometry. `pick` is `level` for the reference that represents its level, `extra` for further ones.
"""

from functools import cache
from pathlib import Path, PurePosixPath

import pandas as pd
from PIL import Image

from extracter.data.manifest import Entry
from extracter.errors import UserError

LEVELS = (1, 2, 3, 4, 5)
UNRELATED = 5
LONG_SIDE = 512
# What `references` of the set may be.
REFERENCES = (*(f"level_{level}" for level in LEVELS), "pooled", "self")


@cache
def pairs() -> pd.DataFrame:
    """Inputs and references of the set by path, with level, inliers and pick, in the order of their rank."""
    return pd.read_csv(Path(__file__).with_name("views.csv"))


def name_of(path: str) -> str:
    """Name of a photograph in the prepared set: scene and file name without suffix."""
    return "_".join(PurePosixPath(path).with_suffix("").parts)


def inputs_of(entries: list[Entry]) -> list[tuple[Entry, tuple[Entry, ...]]]:
    """The inputs among raw files, each with its references of all levels.

    A subset (`evaluation.every`) contains photographs that are inputs of the whole set, but only references in the
    subset: only those with all of their references are inputs.

    Raises:
        UserError: there is no input.
    """
    by_path = {entry["path"]: entry for entry in entries}
    found = []
    for path, rows in pairs().groupby("image"):
        if path in by_path and set(rows["reference"]) <= set(by_path):
            found.append((by_path[path], tuple(by_path[reference] for reference in rows["reference"])))
    if not found:
        raise UserError("views: no photograph with all of its references; supply the whole set")
    return found


def shrink(image: Image.Image) -> Image.Image:
    """Reduce an image to a long side of 512 pixels by Lanczos, which removes JPEG artefacts."""
    longest = max(image.size)
    size = (round(image.width * LONG_SIDE / longest), round(image.height * LONG_SIDE / longest))
    return image.resize(size, Image.Resampling.LANCZOS)


def reference_rows(inputs: list[str]) -> list[dict[str, str | int]]:
    """The rows of references.csv: first the input's own bicubic, then its references by level.

    Args:
        inputs: paths of the inputs.
    """
    rows: list[dict[str, str | int]] = []
    for path in inputs:
        name = name_of(path)
        image = f"hr/{name}.png"
        own = {"reference": f"lr_up/{name}.png", "reference_du": f"self_du/{name}.png"}
        rows.append({"image": image, "rank": 0, **own, "level": "self", "inliers": "", "pick": "level"})
        for rank, row in enumerate(pairs()[pairs()["image"] == path].itertuples(), 1):
            reference = f"{name_of(row.reference)}.png"
            other = {"reference": f"ref/{reference}", "reference_du": f"ref_du/{reference}"}
            graded = {"level": row.level, "inliers": row.inliers, "pick": row.pick}
            rows.append({"image": image, "rank": rank, **other, **graded})
    return rows


def choose(rows: list[dict[str, str]], references: str) -> list[dict[str, str]]:
    """The rows of references.csv that one choice of references consists of.

    Args:
        rows: all of them.
        references: `level_1` to `level_5`: the one reference of that level, on the inputs that have it; `pooled`: all
            photographs of the input's scene, most similar first; `self`: the input's own bicubic.

    Raises:
        UserError: there is no such choice.
    """
    if references not in REFERENCES:
        raise UserError(f"references: {references!r}: the set `views` has {', '.join(REFERENCES)}")
    if references == "pooled":
        return [row for row in rows if row["level"] not in ("self", str(UNRELATED))]
    level = references.removeprefix("level_")
    return [row for row in rows if row["level"] == level and row["pick"] == "level"]
