"""Table 4, not in the paper: what a reference is worth to each network, by how similar it is to the input."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from extracter.data import views
from extracter.errors import UserError
from extracter.files import read_json, write_csv
from extracter.reporting.figures import BLUE, GREY, save, tidy
from extracter.reporting.tables import METHODS, NOT_REPORTED, sort_key, write_markdown

COLUMNS = ["variant", "references", "images", "gain", "harmed", "worst"]
HEADS = {
    "level_1": "Level 1",
    "level_2": "Level 2",
    "level_3": "Level 3",
    "level_4": "Level 4",
    "level_5": "Unrelated",
    "pooled": "Whole scene",
}


def table_references(summaries: list[Path], out: Path) -> None:
    """Table 4: mean gain over no reference, images that lose more than 0.05 dB, and the largest loss, by level.

    Args:
        summaries: JSON of `extracter study-references` on a set with levels.
        out: CSV; the Markdown table stands beside it.

    Raises:
        UserError: a summary is missing or is something else.
    """
    found = sorted(map(_read, summaries), key=lambda content: sort_key(content["variant"], list(METHODS)))
    rows = [
        {"variant": content["variant"], "references": level, **figures}
        for content in found
        for level, figures in [("none", content["over_bicubic"]), *content["levels"].items()]
    ]
    write_csv(out, [{key: row.get(key, "") for key in COLUMNS} for row in rows], COLUMNS)
    cells = [
        [
            METHODS.get(content["variant"], content["variant"]),
            f"{content['over_bicubic']['gain']:+.2f}",
            *(_print(content["levels"].get(level)) for level in HEADS),
        ]
        for content in found
    ]
    caption = (
        "PSNR on Y (dB) on `views`, whose references are other photographs of the input's scene, in which fewer points "
        "match from level 1 to level 4, or of another scene. Mean gain over no reference; in brackets the images that "
        "lose more than 0.05 dB, of all with such a reference; and the largest loss. No reference: the gain over "
        "bicubic."
    )
    write_markdown(
        out, "Table 4: what a reference is worth", caption, ["Method", "No reference", *HEADS.values()], cells
    )


def figure_references(figures: Path, out: Path) -> None:
    """Draw the gain of each reference against the number of points that match in it and in the input.

    Args:
        figures: CSV of `extracter study-references` on a set with levels.
        out: PNG.

    Raises:
        UserError: the file is missing or is something else.
    """
    try:
        rows = pd.read_csv(figures)
        rows = rows[rows["level"] != "pooled"][["level", "inliers", "gain"]]
    except (OSError, ValueError, KeyError):
        raise UserError(f"{figures}: no figures of `extracter study-references` on a set with levels") from None
    figure = Figure(figsize=(7, 3.8), layout="constrained")
    axes = figure.subplots()
    unrelated = rows["level"] == f"level_{views.UNRELATED}"
    for mask, colour, marker, label in ((~unrelated, BLUE, "o", "same scene"), (unrelated, GREY, "x", "another scene")):
        # Nothing matches in most photographs of other scenes, which a logarithm cannot show.
        points = np.maximum(rows["inliers"][mask].fillna(0), 3)
        axes.scatter(points, rows["gain"][mask], s=18, color=colour, marker=marker, label=label, linewidth=1)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(xscale="log", xlabel="points that match in input and reference", ylabel="gain over no reference (dB)")
    tidy(axes)
    axes.legend(frameon=False)
    save(figure, out)


def _read(path: Path) -> dict:
    content = read_json(path)
    if not isinstance(content, dict) or not {"variant", "levels", "over_bicubic"} <= set(content):
        raise UserError(f"{path}: no summary of `extracter study-references` on a set with levels; make it again")
    return content


def _print(figures: dict | None) -> str:
    if figures is None:
        return NOT_REPORTED
    return f"{figures['gain']:+.2f} ({figures['harmed']}/{figures['images']}, {figures['worst']:+.2f})"
