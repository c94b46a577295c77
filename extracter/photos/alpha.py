"""Colours under transparency: un-premultiply them, and fill in those of fully transparent pixels."""

import numpy as np

_ROWS = 256  # rows of a strip; even


def unmultiplied(samples: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Straight colours from premultiplied ones ("associated" alpha in TIFF).

    Args:
        samples: (H, W, C) uint8 or uint16.
        alpha: (H, W) of the same type as `samples`.

    Returns:
        (H, W, C) of the same type as `samples`.
    """
    largest = np.iinfo(samples.dtype).max
    result = np.empty_like(samples)
    for row, (colours, cover) in enumerate(zip(samples, alpha, strict=True)):
        whole = np.maximum(cover, 1)[:, None].astype(np.float64)
        result[row] = np.minimum(np.rint(colours * (largest / whole)), largest)
    return result


def bleed(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Spread the colours of visible pixels into the fully transparent ones.

    Convolutions mix neighbours, so a colour hidden under alpha 0 would show as a fringe around what is visible. The
    image is halved down to a single pixel, weighted by alpha, and the averages fill the holes on the way back up.

    Args:
        rgb: (H, W, 3).
        alpha: (H, W); pixels with alpha 0 (-1 for float32 in [-1, 1]) get new colours; the others keep theirs.

    Returns:
        (H, W, 3) of the same type as `rgb`; it does not depend on the hidden colours.
    """
    floating = rgb.dtype.kind == "f"
    least = -1 if floating else 0
    if not (alpha <= least).any():
        return rgb
    height, width = alpha.shape
    half = ((height + 1) // 2, (width + 1) // 2)
    weighted, weight = np.empty((*half, 3), np.float32), np.empty((*half, 1), np.float32)
    for top in range(0, height, _ROWS):  # in strips: colours times weights take four times the memory of the image
        cover = alpha[top : top + _ROWS, :, None].astype(np.float32) - least
        rows = np.s_[top // 2 : (top + len(cover) + 1) // 2]
        weight[rows] = _halved(cover)
        weighted[rows] = _halved(np.where(cover > 0, rgb[top : top + _ROWS], 0) * cover)
    coarse = _fill(weighted, weight)
    result = rgb.copy()
    for top in range(0, height, _ROWS):
        part, hidden = result[top : top + _ROWS], alpha[top : top + _ROWS] <= least
        fill = coarse[top // 2 : (top + len(part) + 1) // 2].repeat(2, 0)[: len(part)].repeat(2, 1)[:, :width]
        part[hidden] = fill[hidden] if floating else np.rint(fill[hidden])
    return result


def _fill(weighted: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Colours everywhere, from weighted colours and their weights; black if nothing is visible at all."""
    height, width = weight.shape[:2]
    known = weight > 0
    own = weighted / np.where(known, weight, 1)
    if known.all() or height == width == 1:
        return own
    coarse = _fill(_halved(weighted), _halved(weight))
    return np.where(known, own, coarse.repeat(2, 0)[:height].repeat(2, 1)[:, :width])


def _halved(values: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels, with zeros beyond the edges."""
    height, width = values.shape[:2]
    padded = np.pad(values, ((0, height % 2), (0, width % 2), (0, 0)))
    return (padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2]) / 4
