"""Training pairs of three kinds: a photograph and its warped copy, two photographs of a scene, two unrelated ones.

The reference is larger than the input (`data.train.ref_size`), as it is in use, where a whole photograph is searched:
most of what a reference shows is not in the input.
"""

import math

import numpy as np
from PIL import Image

from extracter.data.pairs import extend, recolour
from extracter.params import TrainData

# A photograph is reduced at least by this factor, which removes the artefacts of JPEG, unless that makes it small.
REDUCTION = 4 / 3
SMALL = 512
# Inputs whose grey values spread less than this (standard deviation, of 255) are drawn again, up to so many times.
TEXTURE = 8.0
TRIES = 4

Pair = tuple[Image.Image, Image.Image]


def reduced_side(long_side: int, largest: int) -> int:
    """The long side at which a photograph is used.

    Args:
        long_side: of the original, pixels.
        largest: `data.train.mixture.long_side`.
    """
    return min(long_side, largest, max(SMALL, int(long_side / REDUCTION)))


def reduce_photograph(photograph: Image.Image, largest: int) -> Image.Image:
    """A photograph at the size at which it is used, by Lanczos; unchanged where it is small."""
    long_side = max(photograph.size)
    factor = reduced_side(long_side, largest) / long_side
    if factor == 1:
        return photograph
    size = (round(photograph.width * factor), round(photograph.height * factor))
    return photograph.resize(size, Image.Resampling.LANCZOS)


def resize_to(photograph: Image.Image, side: float) -> Image.Image:
    """A photograph at a long side of `side` pixels, by Lanczos."""
    factor = side / max(photograph.size)
    size = (max(round(photograph.width * factor), 1), max(round(photograph.height * factor), 1))
    return photograph if size == photograph.size else photograph.resize(size, Image.Resampling.LANCZOS)


def crop_around(photograph: Image.Image, center: np.ndarray, size: int) -> tuple[Image.Image, np.ndarray]:
    """A square crop as close around a point as the photograph's edges allow.

    Args:
        photograph: 8-bit RGB; one smaller than the crop is mirrored.
        center: x and y, pixels.
        size: side of the crop, pixels.

    Returns:
        the crop and the position (x, y) of its left upper corner.
    """
    photograph = extend(photograph, size)
    limits = np.array(photograph.size) - size
    corner = np.clip(np.rint(np.array(center) - size / 2), 0, limits).astype(int)
    left, top = corner.tolist()
    return photograph.crop((left, top, left + size, top + size)), corner


def _sides(first: int, second: int, scale: float, rng: np.random.Generator) -> tuple[float, float]:
    """Long sides of input and reference. Half the time both are as in testing, at 512 pixels.

    Otherwise the input's side is drawn between 512 (or less, in a smaller photograph) and its own, and the
    reference's is up to 1 + `scale` times larger or smaller.
    """
    plain = min(SMALL, first), min(SMALL, second)
    own, factor = rng.random(), math.exp(rng.uniform(-1, 1) * math.log(1 + scale))
    if rng.random() < 0.5:
        return plain
    side = plain[0] + own * (first - plain[0])
    other = side * factor
    if other > second:  # a reference cannot be finer than its photograph: the input gets coarser instead
        return max(side * second / other, plain[0] / 2), second
    return side, max(other, plain[1] / 2)


def _far_enough(side: float, photograph: Image.Image, size: int) -> float:
    """A long side at which the short side still holds a crop of `size`, where the photograph has that."""
    return max(side, min(size * max(photograph.size) / min(photograph.size), max(photograph.size)))


def crop_same_scene(
    photograph: Image.Image,
    other: Image.Image,
    points: np.ndarray,
    size: int,
    ref_size: int,
    data: TrainData,
    rng: np.random.Generator,
) -> Pair:
    """Crop an input from one photograph, and the part that it shows from another.

    The input lies around a matched point. The reference contains the same point and, if it is large enough,
    all that the input shows, at a random position.

    Args:
        photograph: of the input, 8-bit RGB.
        other: another photograph of the scene.
        points: matched points, as in `Match.points`.
        size: side of the input, pixels.
        ref_size: side of the reference, pixels.
        data: `scale` limits how the photographs' sizes differ.
        rng: source of the random numbers.
    """
    side, other_side = _sides(max(photograph.size), max(other.size), data.scale, rng)
    photograph = resize_to(photograph, _far_enough(side, photograph, size))
    other = resize_to(other, _far_enough(other_side, other, ref_size))
    point = points[rng.integers(len(points))]
    here, there = point[:2] * photograph.size, point[2:] * other.size
    hr, corner = crop_around(photograph, here + rng.uniform(-0.4, 0.4, 2) * size, size)
    offset = corner + size / 2 - here
    slack = max(ref_size - size, 0) / 2
    ref, _ = crop_around(other, there + offset + rng.uniform(-1, 1, 2) * slack, ref_size)
    return hr, ref


def crop_unrelated(
    photograph: Image.Image, other: Image.Image, size: int, ref_size: int, rng: np.random.Generator
) -> Pair:
    """Crop input and reference at random positions of two unrelated photographs, both reduced as in testing."""
    crops = []
    for image, side in ((photograph, size), (other, ref_size)):
        resized = resize_to(image, _far_enough(min(SMALL, max(image.size)), image, side))
        crops.append(crop_around(resized, rng.uniform(0, 1, 2) * resized.size, side)[0])
    return crops[0], crops[1]


def _warp_corners(size: int, rotation: float, perspective: float, rng: np.random.Generator) -> np.ndarray:
    """Corners (4, 2) of a turned square of `size` around 0, each moved by up to `perspective` sides."""
    corners = np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)]) * size / 2
    angle = math.radians(rotation)
    turn = np.array([(math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))])
    return corners @ turn + rng.uniform(-perspective, perspective, (4, 2)) * size


def _homography(corners: np.ndarray, size: int) -> list[float]:
    """The eight coefficients that take a square of `size` pixels to four corners, as Pillow wants them."""
    square = np.array([(0, 0), (0, size), (size, size), (size, 0)], dtype=np.float64)
    rows, values = [], []
    for (x, y), (u, v) in zip(square, corners, strict=True):
        rows += [(x, y, 1, 0, 0, 0, -u * x, -u * y), (0, 0, 0, x, y, 1, -v * x, -v * y)]
        values += [u, v]
    return np.linalg.solve(np.array(rows), np.array(values)).tolist()


def light(image: Image.Image, photometry: float, rng: np.random.Generator) -> Image.Image:
    """Change the light: one gain per channel and a gamma, within 1 - `photometry` and 1 + `photometry`."""
    gain, gamma = 1 + rng.uniform(-photometry, photometry, 2)
    tint = 1 + rng.uniform(-photometry, photometry, 3) / 4
    return recolour(image, tuple((gain * tint).tolist()), gamma)


def crop_warped(photograph: Image.Image, size: int, ref_size: int, data: TrainData, rng: np.random.Generator) -> Pair:
    """Crop input and reference from one photograph; the reference is scaled, rotated, warped and recoloured.

    Args:
        photograph: 8-bit RGB.
        size: side of the input, pixels.
        ref_size: side of the reference, pixels.
        data: `scale`, `rotation`, `photometry` and `mixture.perspective` limit the change.
        rng: source of the random numbers.
    """
    assert data.mixture is not None  # `params` makes sure of it
    own = max(photograph.size)
    side, other_side = _sides(own, own, data.scale, rng)
    near = resize_to(photograph, _far_enough(side, photograph, size))
    far = extend(resize_to(photograph, _far_enough(other_side, photograph, ref_size)), ref_size)
    hr, corner = crop_around(near, rng.uniform(0, 1, 2) * near.size, size)
    slack = max(ref_size - size, 0) / 2
    middle = (corner + size / 2) / near.size * far.size + rng.uniform(-1, 1, 2) * slack
    corners = _warp_corners(ref_size, rng.uniform(-data.rotation, data.rotation), data.mixture.perspective, rng)
    half = np.abs(corners).max(0)
    if (2 * half > far.size).any():  # no room to turn
        ref, _ = crop_around(far, middle, ref_size)
        return hr, light(ref, data.photometry, rng)
    middle = np.clip(middle, half, np.array(far.size) - half)
    matrix = _homography(corners + middle, ref_size)
    ref = far.transform((ref_size, ref_size), Image.Transform.PERSPECTIVE, matrix, Image.Resampling.BICUBIC)
    return hr, light(ref, data.photometry, rng)


KINDS: tuple[str, ...] = ("warped", "same_scene", "unrelated")


def crop(
    kind: str,
    photographs: tuple[Image.Image, Image.Image],
    points: np.ndarray | None,
    sizes: tuple[int, int],
    data: TrainData,
    rng: np.random.Generator,
) -> Pair:
    """Crop a pair of one kind; an input without texture, such as sky, is drawn again a few times.

    Args:
        kind: one of `KINDS`.
        photographs: of input and reference, the same one twice for `warped`.
        points: for `same_scene`, as in `Match.points`.
        sizes: of input and reference, pixels.
        data: limits of the changes.
        rng: source of the random numbers.
    """
    first, second = photographs
    for _ in range(TRIES):
        if kind == "warped":
            pair = crop_warped(first, *sizes, data, rng)
        elif kind == "unrelated":
            pair = crop_unrelated(first, second, *sizes, rng)
        else:
            assert points is not None  # found by `matching`
            pair = crop_same_scene(first, second, points, *sizes, data, rng)
        if np.asarray(pair[0].convert("L")).std() >= TEXTURE:
            break
    return pair
