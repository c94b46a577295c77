"""The picture of `extracter upscale --compare`: inputs and result side by side, and where textures came from."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from extracter.inference.upscaler import Result
from extracter.photos.photo import rounded
from extracter.reporting.figure_comparison import worst_crop
from extracter.reporting.figures import ORANGE, save, show_image

_SHOWN = 3  # references that are drawn


def draw(result: Result, out: Path) -> None:
    """Draw one result.

    Above: LR with the detail's frame, the references tinted by place (red downwards, green to the right, blue by
    reference), and the map of LR in which each place has the tint of the place that its texture came from. Below: the
    detail in which the result differs most from bicubic, in LR, bicubic, result, and the reference it came from.

    Args:
        result: of `Upscaler.run`.
        out: PNG.

    Raises:
        UserError: the disk is full or not writable.
    """
    sr, bicubic, lr = (_bytes(x) for x in (result.sr, result.inputs.lr_up, result.inputs.lr))
    refs = [_bytes(ref) for ref in result.inputs.refs]
    top, left, side = worst_crop(sr, bicubic)
    rows, columns = _blocks(lr.shape, result.search.stride)
    origins = result.matches.indices[0, 0].view(rows, columns).cpu().numpy()
    grids = [_blocks([-(-side // 4) for side in ref.shape[:2]], result.search.stride) for ref in refs]
    tints = [_tint(grid, number / max(1, len(refs) - 1)) for number, grid in enumerate(grids)]
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    axes = figure.subplots(2, 4)
    show_image(axes[0, 0], lr, f"LR, {lr.shape[1]} x {lr.shape[0]}")
    axes[0, 0].add_patch(
        Rectangle((left / 4 - 0.5, top / 4 - 0.5), side / 4, side / 4, fill=False, edgecolor=ORANGE, linewidth=2)
    )
    show_image(axes[0, 1], sr, f"result, {sr.shape[1]} x {sr.shape[0]}")
    tinted = [_blend(ref, tint) for ref, tint in zip(refs[:_SHOWN], tints, strict=False)]
    show_image(axes[0, 2], _row(tinted), f"{len(refs)} reference{'s'[: len(refs) > 1]}, tinted by place")
    flat = np.concatenate([tint.reshape(-1, 3) for tint in tints])
    show_image(axes[0, 3], flat[origins], "where textures came from")
    detail = np.s_[top : top + side, left : left + side]
    show_image(axes[1, 0], lr[top // 4 : (top + side) // 4, left // 4 : (left + side) // 4], "LR")
    show_image(axes[1, 1], bicubic[detail], "bicubic")
    show_image(axes[1, 2], sr[detail], "result")
    cell = 4 * result.search.stride
    middle = origins[min(rows - 1, (top + side // 2) // cell), min(columns - 1, (left + side // 2) // cell)]
    show_image(axes[1, 3], _source(refs, grids, int(middle), cell, side), "best match of its middle")
    save(figure, out)


def _bytes(pixels: np.ndarray) -> np.ndarray:
    """uint8 of any kind of pixels, in strips, for what is between takes several times as much."""
    if pixels.dtype == np.uint8:
        return pixels
    result = np.empty(pixels.shape, np.uint8)
    for top in range(0, len(pixels), 64):
        part = pixels[top : top + 64]
        result[top : top + 64] = rounded(part) if part.dtype == np.uint16 else np.rint((part + 1) * 127.5)
    return result


def _blocks(shape: Sequence[int], stride: int) -> tuple[int, int]:
    """Rows and columns of search patches over so many cells."""
    return -(-shape[0] // stride), -(-shape[1] // stride)


def _tint(grid: tuple[int, int], blue: float) -> np.ndarray:
    """A colour for each patch of a reference: (rows, columns, 3) uint8."""
    tint = np.empty((*grid, 3))
    tint[..., 0] = np.linspace(0, 1, grid[0])[:, None]
    tint[..., 1] = np.linspace(0, 1, grid[1])
    tint[..., 2] = blue
    return np.rint(40 + 215 * tint).astype(np.uint8)


def _blend(pixels: np.ndarray, tint: np.ndarray) -> np.ndarray:
    """The picture in grey, in the colours of its places."""
    rows, columns = (np.arange(n) * m // n for n, m in zip(pixels.shape[:2], tint.shape[:2], strict=True))
    return (0.5 * pixels.mean(2, keepdims=True) + 0.5 * tint[rows][:, columns]).astype(np.uint8)


def _row(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures beside one another, white below the lower ones."""
    height = max(picture.shape[0] for picture in pictures)
    padded = [np.pad(p, ((0, height - len(p)), (0, 8), (0, 0)), constant_values=255) for p in pictures]
    return np.concatenate(padded, 1)[:, :-8]


def _source(refs: Sequence[np.ndarray], grids: Sequence[tuple[int, int]], key: int, cell: int, side: int) -> np.ndarray:
    """The part of a reference, at most `side` pixels wide and high, around a key."""
    number = 0
    while key >= grids[number][0] * grids[number][1]:
        key -= grids[number][0] * grids[number][1]
        number += 1
    place = divmod(key, grids[number][1])
    top, left = (
        max(0, min(cell * n + cell // 2 - side // 2, length - side))
        for n, length in zip(place, refs[number].shape[:2], strict=True)
    )
    return refs[number][top : top + side, left : left + side]
