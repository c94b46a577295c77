"""Squares of an image that a figure shows, chosen by a rule and never by hand."""

import numpy as np

from extracter.metrics import luma

DETAIL = 96  # side of a detail, in pixels


def box_sums(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Sums over all boxes of a size.

    Args:
        values: (H, W).
        height, width: of a box, at most H and W.

    Returns:
        (H - height + 1, W - width + 1), by the upper left corner.
    """
    sums = np.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    return sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]


def worst_crop(hr: np.ndarray, bicubic: np.ndarray) -> tuple[int, int, int]:
    """Find the square in which the bicubic enlargement is furthest from the original.

    Args:
        hr, bicubic: uint8, (H, W, 3); sides are multiples of 4.

    Returns:
        Top, left and side in pixels, multiples of 4.
    """
    return _square(_errors(hr, bicubic), "largest gain")


def gain_crop(
    hr: np.ndarray, before: np.ndarray, after: np.ndarray, role: str = "largest gain"
) -> tuple[int, int, int]:
    """Find the square in which the squared error of luma falls most, least, or by the median.

    Args:
        hr, before, after: uint8, (H, W, 3): original and two results; sides are multiples of 4.
        role: `largest gain`, `median gain`; any other stands for the smallest gain, which may be a loss.

    Returns:
        Top, left and side in pixels, multiples of 4.
    """
    return _square(_errors(hr, before) - _errors(hr, after), role)


def _errors(hr: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Sums of the squared error of luma over blocks of 4 x 4, (H / 4, W / 4)."""
    height, width = (length // 4 for length in hr.shape[:2])
    errors = np.empty((height, width))
    for row in range(height):  # of blocks, since the luma of the complete image needs much memory
        pixels = np.s_[4 * row : 4 * row + 4, : 4 * width]
        errors[row] = ((luma(hr[pixels]) - luma(image[pixels])) ** 2).reshape(4, width, 4).sum((0, 2))
    return errors


def _square(blocks: np.ndarray, role: str) -> tuple[int, int, int]:
    """The square with the largest, the (lower) median or the smallest sum over blocks of 4 x 4, in pixels."""
    side = min(DETAIL // 4, *blocks.shape)
    sums = box_sums(blocks, side, side)
    if role == "largest gain":
        place = sums.argmax()
    elif role == "median gain":
        place = np.argsort(sums, axis=None, kind="stable")[(sums.size - 1) // 2]
    else:
        place = sums.argmin()
    top, left = np.unravel_index(place, sums.shape)
    return 4 * int(top), 4 * int(left), 4 * side
