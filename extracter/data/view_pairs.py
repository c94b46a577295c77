"""Training pairs of three kinds: a photograph with its warped copy, two photographs of a scene, two unrelated ones.

The reference is larger than the input (`data.train.ref_size`). This resembles actual use, where a whole photograph is
searched, most of which the input does not show.
"""

import math

import numpy as np
from PIL import Image

from extracter.data.pairs import extend, recolour
from extracter.presets import TrainData

# Photographs are reduced at least by this factor, which removes JPEG artefacts, unless that makes them too small.
REDUCTION = 4 / 3
SMALL = 512
# Inputs whose grey values have a smaller standard deviation (of 255) are drawn again, up to this many times.
TEXTURE = 8.0
TRIES = 4

Pair = tuple[Image.Image, Image.Image]


def reduced_side(long_side: int, largest: int) -> int:
    """The long side to which a photograph is reduced.

    Args:
        long_side: long side of the original in pixels.
        largest: `data.train.mixture.long_side`.
    """
    return min(long_side, largest, max(SMALL, int(long_side / REDUCTION)))


def reduce_photograph(photograph: Image.Image, largest: int) -> Image.Image:
    """Reduce a photograph to `reduced_side` by Lanczos; small ones stay as they are."""
    return resize_to(photograph, reduced_side(max(photograph.size), largest))


def resize_to(photograph: Image.Image, side: float) -> Image.Image:
    """Resize a photograph to a long side of `side` pixels by Lanczos."""
    factor = side / max(photograph.size)
    size = (max(round(photograph.width * factor), 1), max(round(photograph.height * factor), 1))
    return photograph if size == photograph.size else photograph.resize(size, Image.Resampling.LANCZOS)


def crop_around(photograph: Image.Image, center: np.ndarray, size: int) -> tuple[Image.Image, np.ndarray]:
    """A square crop, centred on a point as far as the edges of the photograph allow.

    Args:
        photograph: 8-bit RGB; if it is smaller than the crop, it is extended by mirroring.
        center: x and y in pixels.
        size: side of the crop in pixels.

    Returns:
        The crop, and the position (x, y) of its upper left corner.
    """
    photograph = extend(photograph, size)
    limits = np.array(photograph.size) - size
    corner = np.clip(np.rint(np.array(center) - size / 2), 0, limits).astype(int)
    left, top = corner.tolist()
    return photograph.crop((left, top, left + size, top + size)), corner


def _sides(first: int, second: int, scale: float, rng: np.random.Generator) -> tuple[float, float]:
    """Long sides of input and reference. Half of the time both are 512 pixels, as in testing.

    Otherwise, the side of the input is drawn between 512 (or less, for a smaller photograph) and that of the
    photograph; the side of the reference is up to 1 + `scale` times larger or smaller.
    """
    plain = min(SMALL, first), min(SMALL, second)
    own, factor = rng.random(), math.exp(rng.uniform(-1, 1) * math.log(1 + scale))
    if rng.random() < 0.5:
        return plain
    side = plain[0] + own * (first - plain[0])
    other = side * factor
    if other > second:  # the reference cannot be larger than its photograph, so the input becomes smaller instead
        return max(side * second / other, plain[0] / 2), second
    return side, max(other, plain[1] / 2)


def _far_enough(side: float, photograph: Image.Image, size: int) -> float:
    """Increase a long side so that the short side holds a crop of `size`, if the photograph is large enough."""
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
    """Crop an input from one photograph, and from another one the part that the input shows.

    The input surrounds a matched point. The reference contains the same point and, if it is large enough, everything
    that the input shows, at a random position.

    Args:
        photograph: photograph of the input, 8-bit RGB.
        other: another photograph of the scene.
        points: matched points, as in `Match.points`.
        size: side of the input in pixels.
        ref_size: side of the reference in pixels.
        data: `scale` limits the difference between the sizes of the photographs.
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
    """Crop input and reference at random positions in two unrelated photographs, both reduced as in testing."""
    crops = []
    for image, side in ((photograph, size), (other, ref_size)):
        resized = resize_to(image, _far_enough(min(SMALL, max(image.size)), image, side))
        crops.append(crop_around(resized, rng.uniform(0, 1, 2) * resized.size, side)[0])
    return crops[0], crops[1]


def _warp_corners(size: int, rotation: float, perspective: float, rng: np.random.Generator) -> np.ndarray:
    """Corners (4, 2) of a rotated square of `size` around 0, each shifted by up to `perspective` sides."""
    corners = np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)]) * size / 2
    angle = math.radians(rotation)
    turn = np.array([(math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))])
    return corners @ turn + rng.uniform(-perspective, perspective, (4, 2)) * size


def _homography(corners: np.ndarray, size: int) -> list[float]:
    """The eight coefficients, in Pillow's order, that map a square of `size` pixels to four corners."""
    square = np.array([(0, 0), (0, size), (size, size), (size, 0)], dtype=np.float64)
    rows, values = [], []
    for (x, y), (u, v) in zip(square, corners, strict=True):
        rows += [(x, y, 1, 0, 0, 0, -u * x, -u * y), (0, 0, 0, x, y, 1, -v * x, -v * y)]
        values += [u, v]
    return np.linalg.solve(np.array(rows), np.array(values)).tolist()


def light(image: Image.Image, photometry: float, rng: np.random.Generator) -> Image.Image:
    """Change the lighting by a gain per channel and a gamma, within 1 - `photometry` and 1 + `photometry`."""
    gain, gamma = 1 + rng.uniform(-photometry, photometry, 2)
    tint = 1 + rng.uniform(-photometry, photometry, 3) / 4
    return recolour(image, tuple((gain * tint).tolist()), gamma)


def crop_warped(photograph: Image.Image, size: int, ref_size: int, data: TrainData, rng: np.random.Generator) -> Pair:
    """Crop input and reference from one photograph; the reference is scaled, rotated, warped and recoloured.

    Args:
        photograph: 8-bit RGB.
        size: side of the input in pixels.
        ref_size: side of the reference in pixels.
        data: `scale`, `rotation`, `photometry` and `mixture.perspective` limit the changes.
        rng: source of the random numbers.
    """
    assert data.mixture is not None  # `params` ensures it
    own = max(photograph.size)
    side, other_side = _sides(own, own, data.scale, rng)
    near = resize_to(photograph, _far_enough(side, photograph, size))
    far = extend(resize_to(photograph, _far_enough(other_side, photograph, ref_size)), ref_size)
    hr, corner = crop_around(near, rng.uniform(0, 1, 2) * near.size, size)
    slack = max(ref_size - size, 0) / 2
    middle = (corner + size / 2) / near.size * far.size + rng.uniform(-1, 1, 2) * slack
    corners = _warp_corners(ref_size, rng.uniform(-data.rotation, data.rotation), data.mixture.perspective, rng)
    half = np.abs(corners).max(0)
    if (2 * half > far.size).any():  # no room to rotate
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
    """Crop a pair of one kind; inputs without texture, such as sky, are drawn again a few times.

    Args:
        kind: one of `KINDS`.
        photographs: those of input and reference; the same one twice for `warped`.
        points: matched points for `same_scene`, as in `Match.points`.
        sizes: sides of input and reference in pixels.
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
