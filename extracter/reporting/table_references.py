"""Table 4, not in the paper: what a reference is worth to each network, by how similar it is to the input."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from extracter.errors import UserError
from extracter.files import write_csv
from extracter.reporting.figures import BLUE, GREY, save, tidy
from extracter.reporting.tables import METHODS, NOT_REPORTED, read_levels, title, write_markdown

COLUMNS = ["set", "stand_in", "variant", "references", "images", "gain", "harmed", "worst"]
HEADS = {**{f"level_{level}": f"Level {level}" for level in range(1, 6)}, "pooled": "All together"}
_UNRELATED = "level_5"  # of views
_NOTES = {
    "views": "On `views` levels 1 to 4 are other photographs of the input's scene, in which fewer and fewer points "
    "match, level 5 is of another scene, and all together are those of the scene.",
    "cufed5": "On CUFED5 the levels are the ranks of its references, by falling similarity.",
}


def table_references(summaries: list[Path], out: Path) -> None:
    """Table 4: mean gain over no reference, images that lose more than 0.05 dB, and the worst gain, by level.

    Args:
        summaries: JSON of `extracter evaluate-levels` or `study-references` on sets with levels.
        out: CSV; the Markdown table is written beside it.

    Raises:
        UserError: a summary is missing or is something else.
    """
    found = read_levels(summaries)
    rows = [
        {**content, "references": level, **figures} for content in found for level, figures in content["levels"].items()
    ]
    write_csv(out, [{key: row.get(key, "") for key in COLUMNS} for row in rows], COLUMNS)
    cells = [
        [
            title(content["set"]) + (" (stand-in)" if content["stand_in"] else ""),
            METHODS.get(content["variant"], content["variant"]),
            f"{content['levels']['none']['gain']:+.2f}",
            *(_print(content["levels"].get(level)) for level in HEADS),
        ]
        for content in found
    ]
    caption = [
        "PSNR on Y (dB). Mean gain over no reference; in brackets the images that lose more than 0.05 dB, of all with "
        "such a reference, and the worst gain. No reference: the gain over bicubic.",
        *(note for name, note in _NOTES.items() if name in {content["set"] for content in found}),
    ]
    heads = ["Images", "Method", "No reference", *HEADS.values()]
    write_markdown(out, "Table 4. What a reference is worth", " ".join(caption), heads, cells)


def figure_references(figures: Path, out: Path) -> None:
    """Draw the gain of each reference against the number of points that match in it and in the input.

    Of sets that do not say how many these are nothing is drawn.

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
    if rows["inliers"].isna().all():
        return
    figure = Figure(figsize=(7, 3.8), layout="constrained")
    axes = figure.subplots()
    unrelated = rows["level"] == _UNRELATED
    for mask, colour, marker, label in ((~unrelated, BLUE, "o", "same scene"), (unrelated, GREY, "x", "another scene")):
        # Nothing matches in most photographs of other scenes, which a logarithm cannot show.
        points = np.maximum(rows["inliers"][mask].fillna(0), 3)
        axes.scatter(points, rows["gain"][mask], s=18, color=colour, marker=marker, label=label, linewidth=1)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(xscale="log", xlabel="points that match in input and reference", ylabel="gain over no reference (dB)")
    tidy(axes)
    axes.legend(frameon=False)
    save(figure, out)


def _print(figures: dict | None) -> str:
    if figures is None:
        return NOT_REPORTED
    return f"{figures['gain']:+.2f} ({figures['harmed']}/{figures['images']}, {figures['worst']:+.2f})"
