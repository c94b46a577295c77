"""`extracter upscale --compare`: a figure of inputs and result, and of where textures come from."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from extracter.files import atomic_path
from extracter.inference.plan import COMPARISON
from extracter.inference.upscaler import Result
from extracter.photos.photo import to_bytes
from extracter.reporting.figures import ORANGE, show_image
from extracter.reporting.origins import origin_map, origin_of, spread, tinted
from extracter.reporting.squares import worst_crop
from extracter.search.search import Matches

_SHOWN = 3  # references that are drawn


def draw(result: Result, out: Path) -> None:
    """Draw one result.

    The upper row shows LR with a detail framed, the result, the references tinted by position, and a map in which each
    part of the result has the tint of the position that its texture comes from (see `extracter.reporting.origins`). The
    lower row shows the detail in which the result differs most from bicubic, in LR, bicubic, result, and the reference
    that it comes from. Without a reference there are neither tints nor map.

    Args:
        result: from `Upscaler.run`.
        out: PNG file to write.

    Raises:
        UserError: the disk is full or not writable.
    """
    sr, bicubic, lr = (to_bytes(x) for x in (result.sr, result.inputs.lr_up, result.inputs.lr))
    refs = [to_bytes(ref) for ref in result.inputs.refs]
    top, left, side = worst_crop(sr, bicubic)
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    axes = figure.subplots(2, 3 if result.matches is None else 4)
    show_image(axes[0, 0], lr, f"LR, {lr.shape[1]} x {lr.shape[0]}")
    axes[0, 0].add_patch(
        Rectangle((left / 4 - 0.5, top / 4 - 0.5), side / 4, side / 4, fill=False, edgecolor=ORANGE, linewidth=2)
    )
    show_image(axes[0, 2 if result.matches is None else 1], sr, f"result, {sr.shape[1]} x {sr.shape[0]}")
    detail = np.s_[top : top + side, left : left + side]
    show_image(axes[1, 0], lr[top // 4 : (top + side) // 4, left // 4 : (left + side) // 4], "LR")
    show_image(axes[1, 1], bicubic[detail], "bicubic")
    show_image(axes[1, 2], sr[detail], "result")
    if result.matches is None:
        show_image(axes[0, 1], bicubic, "bicubic")
    else:
        keys = [tinted(ref, number, len(refs)) for number, ref in enumerate(refs[:_SHOWN])]
        show_image(axes[0, 2], _row(keys), f"{_count(result)}\n(tinted by position)")
        height, width = lr.shape[:2]
        origins = origin_map(result.matches, (height, width), _sizes(refs), result.search)
        show_image(axes[0, 3], spread(origins, height, width, result.search.stride), "where textures come from")
        middle = (top + side // 2, left + side // 2)
        source = _source(refs, result.matches, result, middle, side)
        show_image(axes[1, 3], source, "reference, at its best match")
    with atomic_path(out) as temporary:
        figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None, "Title": COMPARISON})


def _count(result: Result) -> str:
    """How many references there are, in words."""
    given = len(result.inputs.refs) - result.copies
    registered = f", {result.copies} registered" if result.copies else ""
    return f"{given} reference{'s'[: given > 1]}{registered}"


def _sizes(images: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    return [(image.shape[0], image.shape[1]) for image in images]


def _row(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Place pictures side by side, with white below the shorter ones."""
    height = max(picture.shape[0] for picture in pictures)
    padded = [np.pad(p, ((0, height - len(p)), (0, 8), (0, 0)), constant_values=255) for p in pictures]
    return np.concatenate(padded, 1)[:, :-8]


def _source(
    refs: Sequence[np.ndarray], matches: Matches, result: Result, middle: tuple[int, int], side: int
) -> np.ndarray:
    """The part of a reference, at most `side` pixels wide and high, around the best match of a pixel of SR."""
    number, place = origin_of(matches, result.inputs.lr.shape[:2], _sizes(refs), result.search, middle)
    top, left = (
        max(0, min(centre - side // 2, length - side))
        for centre, length in zip(place, refs[number].shape[:2], strict=True)
    )
    return refs[number][top : top + side, left : left + side]
