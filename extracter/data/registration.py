"""Registration: warp a reference into the geometry of the input, by matched points and optical flow.

The search compares patches without rotating or scaling them. If the reference shows the scene of the input, its
geometry can be estimated first. SIFT features and MAGSAC give a homography; dense optical flow corrects what a
homography cannot describe. The warped copy is searched together with the reference: its patches are upright, have the
right size, and lie nearly in the right place. In photographs of another scene too few points agree, and no copy is
made.

The paper has no such step; `model.registration` turns it on.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from extracter.data.sift import mutual_neighbours, root_sift
from extracter.photos.photo import to_bytes

# Long side in pixels at which optical flow is computed. Features are computed at half of it, since LR_up has no more
# detail than LR.
LONG_SIDE = 1024
# Minimum number of points that must agree; in photographs of other scenes (level 5 of `views`) up to 6 agree by chance.
MIN_INLIERS = 10
_FEATURES = 4000
_CONTRAST = 0.01  # of a SIFT feature; low, since LR_up has little
_THRESHOLD = 4.0  # of an inlier, in pixels
_SMALLEST = 64  # side of an image in which anything is looked for
_LARGEST = 2**15 - 2  # side of an image that OpenCV warps
# Range of plausible scales of the reference. Outside it, or for a mirror image, the points agreed by chance.
_SCALES = (0.2, 5.0)
# A reference with a larger scale than this, relative to the input, is reduced before warping to avoid aliasing.
_FINER = 1.25
# Movement in pixels below which the warped copy would equal the reference, so none is made.
_STILL = 0.5
_STRIP = 256  # rows warped at once
_FAR = 20_000  # pixels; places farther away lie beyond any reduced image
_LOCK = threading.Lock()


@dataclass(frozen=True)
class _View:
    """An image reduced to at most `LONG_SIDE`, grey, and its size over that of the image, in x and y."""

    grey: np.ndarray
    factors: tuple[float, float]

    @classmethod
    def of(cls, pixels: np.ndarray) -> "_View":
        height, width = pixels.shape[:2]
        factor = min(1.0, LONG_SIDE / max(height, width))
        size = (max(round(width * factor), 1), max(round(height * factor), 1))
        small = to_bytes(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
        return cls(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), (size[0] / width, size[1] / height))


class Copy(NamedTuple):
    """A registered copy of a reference.

    Attributes:
        pixels: see `register_copy`.
        place: row and column of LR, a quarter of those of LR_up, at which the copy begins.
    """

    pixels: np.ndarray
    place: tuple[int, int]


def register_copy(lr_up: np.ndarray, ref: np.ndarray, ref_du: np.ndarray) -> Copy | None:
    """Warp a reference into the geometry of the input.

    Args:
        lr_up: (H, W, 3), uint8, uint16, or float32 in [-1, 1].
        ref: (H_ref, W_ref, 3) of any size, of one of these types.
        ref_du: the same, brought down and up by 4.

    Returns:
        The part of LR_up's frame in which the reference shows something, of the reference's type; sides are multiples
        of 4. None where too few points agree, where the reference is in place already, and for sides of less than 64
        or more than 32,766 pixels.

    Example:
        >>> register_copy(lr_up, ref, ref_du).pixels.shape  # doctest: +SKIP
        (384, 512, 3)
    """
    sides = (*lr_up.shape[:2], *ref.shape[:2])
    if min(sides) < _SMALLEST or max(sides) > _LARGEST:
        return None
    with _single_thread():
        query, key = _View.of(lr_up), _View.of(ref_du)
        homography = _find_homography(query.grey, key.grey)
        if homography is None:
            return None
        places = _refine(query.grey, key.grey, _project(homography, query.grey.shape[:2]))
        if lr_up.shape == ref.shape and _moves(places) < _STILL * min(query.factors):
            return None
        return _warp(lr_up.shape, ref, places, query.factors, key.factors)


@contextmanager
def _single_thread() -> Iterator[None]:
    """OpenCV on one thread: its optical flow depends on their number."""
    with _LOCK:
        before = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            yield
        finally:
            cv2.setNumThreads(before)


def _describe(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """RootSIFT features at half of the size: positions (N, 2), and descriptors (N, 128) of unit length."""
    half = cv2.resize(grey, (-(-grey.shape[1] // 2), -(-grey.shape[0] // 2)), interpolation=cv2.INTER_AREA)
    points, descriptors = root_sift(half, nfeatures=_FEATURES, contrastThreshold=_CONTRAST)
    scale = np.array([grey.shape[1] / half.shape[1], grey.shape[0] / half.shape[0]])
    return ((points + 0.5) * scale - 0.5).astype(np.float32), descriptors


def _find_homography(query: np.ndarray, key: np.ndarray) -> np.ndarray | None:
    """The map (3, 3) from pixels of the query to those of the key; None where nothing speaks for one."""
    first, second = _describe(query), _describe(key)
    if min(len(first[0]), len(second[0])) < MIN_INLIERS:
        return None
    pairs = mutual_neighbours(first[1], second[1])
    if len(pairs) < MIN_INLIERS:
        return None
    a, b = first[0][pairs[:, 0]], second[0][pairs[:, 1]]
    try:
        found, inliers = cv2.findHomography(a, b, cv2.USAC_MAGSAC, _THRESHOLD, confidence=0.9999, maxIters=20_000)
    except cv2.error:  # too few distinct points
        return None
    if found is None or np.count_nonzero(inliers) < MIN_INLIERS:
        return None
    # The Jacobian of a homography has this determinant.
    at = np.concatenate((a, np.ones((len(a), 1))), 1)[inliers.ravel() > 0]
    areas = np.linalg.det(found) / (at @ found[2]) ** 3
    low, high = _SCALES
    return found if low**2 < areas.min() and areas.max() < high**2 else None


def _project(homography: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Where each pixel of an image of some shape lies: x and y, float32 (H, W, 2); -1 if behind the camera."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    projected = np.stack((x, y, np.ones_like(x)), -1) @ homography.T.astype(np.float32)
    depth = projected[..., 2:]
    return np.where(depth > 0, projected[..., :2] / np.maximum(depth, 1e-6), -1).clip(-_FAR, _FAR)


def _refine(query: np.ndarray, key: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Places in the key by which each pixel of the query is found, after optical flow."""
    warped = _sample(key, places)
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(  # type: ignore[attr-defined]
        _normalise(query), _normalise(warped), None
    )
    y, x = np.mgrid[: query.shape[0], : query.shape[1]].astype(np.float32)
    moved = flow + np.stack((x, y), -1)
    return _sample(places, moved)


def _sample(
    image: np.ndarray, places: np.ndarray, how: int = cv2.INTER_LINEAR, beyond: int = cv2.BORDER_REPLICATE
) -> np.ndarray:
    """An image at places (H, W, 2), x and y, in which edges repeat or are mirrored."""
    return cv2.remap(image, places, None, how, borderMode=beyond)  # type: ignore[call-overload]


def _normalise(grey: np.ndarray) -> np.ndarray:
    """Local mean 128 and standard deviation 40, so that light and exposure do not matter; uint8."""
    image = grey.astype(np.float32)
    image -= cv2.GaussianBlur(image, (0, 0), 12)
    deviation = np.sqrt(np.maximum(cv2.GaussianBlur(image * image, (0, 0), 12), 4))
    return np.clip(40 * image / deviation + 128, 0, 255).astype(np.uint8)


def _moves(places: np.ndarray) -> float:
    """The largest movement in pixels, of all but one in a hundred."""
    y, x = np.mgrid[: places.shape[0], : places.shape[1]].astype(np.float32)
    return float(np.quantile(np.abs(places - np.stack((x, y), -1)).max(-1), 0.99))


def _warp(
    shape: tuple[int, ...],
    ref: np.ndarray,
    places: np.ndarray,
    of_query: tuple[float, float],
    of_key: tuple[float, float],
) -> Copy | None:
    """The reference at `places`, in the least box that holds all of them that it shows; None where that is tiny.

    Within the box, beyond the reference's edges, it is mirrored. LR_up must not stand there: it is what is searched
    for, so its empty patches would be the best matches and keep textures of other references out.
    `of_query` and `of_key` are the sizes of the reduced LR_up and of the reduced reference over their own, in x and y.
    """
    ref, of_key = _reduce(ref, places, of_query, of_key)
    last = np.array([ref.shape[1] * of_key[0], ref.shape[0] * of_key[1]]) - 1
    shown = np.argwhere(np.all((places >= 0) & (places <= last), axis=-1))  # rows and columns
    top, bottom = _bounds(shown[:, 0], of_query[1], shape[0])
    left, right = _bounds(shown[:, 1], of_query[0], shape[1])
    if min(right - left, bottom - top) < _SMALLEST:
        return None
    result = np.empty((bottom - top, right - left, 3), ref.dtype)
    columns = ((np.arange(left, right) + 0.5) * of_query[0] - 0.5).astype(np.float32)
    for row in range(top, bottom, _STRIP):
        rows = ((np.arange(row, min(row + _STRIP, bottom)) + 0.5) * of_query[1] - 0.5).astype(np.float32)
        found = _sample(places, np.stack(np.meshgrid(columns, rows), -1))
        found = (found + 0.5) / np.array(of_key, np.float32) - 0.5
        strip = _sample(ref, found, cv2.INTER_CUBIC, cv2.BORDER_REFLECT_101)
        result[row - top : row - top + len(rows)] = strip.clip(-1, 1) if ref.dtype == np.float32 else strip
    return Copy(result, (top // 4, left // 4))


def _bounds(shown: np.ndarray, factor: float, length: int) -> tuple[int, int]:
    """The first pixel and the one after the last, multiples of 4, that hold all the given ones of a reduced side."""
    if not len(shown):
        return 0, 0
    last = -(-int((shown.max() + 1) / factor) // 4) * 4
    return int(shown.min() / factor) // 4 * 4, min(last, length // 4 * 4)


def _reduce(
    ref: np.ndarray, places: np.ndarray, of_query: tuple[float, float], of_key: tuple[float, float]
) -> tuple[np.ndarray, tuple[float, float]]:
    """The reference and `of_key` after it has been reduced to the input's scale, if it is finer."""
    (xy, xx), (yy, yx) = (np.gradient(places[..., axis]) for axis in (0, 1))
    area = np.median(np.abs(xx * yy - xy * yx))
    finer = float(np.sqrt(area * of_query[0] * of_query[1] / (of_key[0] * of_key[1])))
    if finer < _FINER:
        return ref, of_key
    height, width = ref.shape[:2]
    size = (max(round(width / finer), 1), max(round(height / finer), 1))
    reduced = cv2.resize(ref, size, interpolation=cv2.INTER_AREA)
    return reduced, (of_key[0] * width / size[0], of_key[1] * height / size[1])
