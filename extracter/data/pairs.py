"""Training pairs from one photograph: two overlapping crops, the second shifted, scaled, rotated and recoloured.

They stand in for the pairs of CUFED, in which the reference is another photograph of the same scene (section 4 of the
paper), and serve to train on photographs without a partner.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from extracter.presets import TrainData


@dataclass(frozen=True)
class Region:
    """Part of a photograph from which crops are taken, in pixels; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top


def half_extent(size: tuple[int, int], scale: float, rotation: float) -> tuple[float, float]:
    """Half the width and height of the upright box around a rotated rectangle; `rotation` is in degrees."""
    cosine, sine = abs(math.cos(math.radians(rotation))), abs(math.sin(math.radians(rotation)))
    width, height = size
    return scale * (width * cosine + height * sine) / 2, scale * (width * sine + height * cosine) / 2


def warp(
    photo: Image.Image, center: tuple[float, float], size: tuple[int, int], *, scale: float = 1.0, rotation: float = 0.0
) -> Image.Image:
    """A rotated and scaled crop, sampled bicubically; without rotation and scaling, the exact pixels.

    Args:
        photo: 8-bit RGB.
        center: centre of the crop, x and y in pixels from the upper left corner of the photograph.
        size: width and height of the result.
        scale: ratio of a side in the photograph to that of the result.
        rotation: of the cropped area, in degrees clockwise.

    Raises:
        ValueError: the area extends beyond the photograph.
    """
    width, height = size
    x, y = center
    half_x, half_y = half_extent(size, scale, rotation)
    slack = 1e-6
    if (
        x - half_x < -slack
        or y - half_y < -slack
        or x + half_x > photo.width + slack
        or y + half_y > photo.height + slack
    ):
        raise ValueError(f"a crop of {width}x{height} at {x:.1f}, {y:.1f} leaves {photo.width}x{photo.height} pixels")
    if scale == 1 and rotation == 0:
        left, top = round(x - width / 2), round(y - height / 2)
        return photo.crop((left, top, left + width, top + height))
    cosine, sine = scale * math.cos(math.radians(rotation)), scale * math.sin(math.radians(rotation))
    origin_x = x - cosine * width / 2 + sine * height / 2
    origin_y = y - sine * width / 2 - cosine * height / 2
    matrix = (cosine, -sine, origin_x, sine, cosine, origin_y)
    return photo.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)


def recolour(image: Image.Image, gain: tuple[float, float, float], gamma: float) -> Image.Image:
    """Map each channel c in [0, 1] to gain * c ** gamma, clipped and rounded to 8 bits."""
    levels = np.linspace(0.0, 1.0, 256) ** gamma
    tables = np.clip(np.rint(255 * np.outer(gain, levels)), 0, 255).astype(int)
    return image.point(tables.ravel().tolist())


def extend(photo: Image.Image, size: int) -> Image.Image:
    """Extend a photograph to at least `size` pixels a side by mirroring it at the right and lower edges."""
    missing = [(0, max(size - side, 0)) for side in (photo.height, photo.width)]
    if not any(after for _, after in missing):
        return photo
    return Image.fromarray(np.pad(np.asarray(photo), (*missing, (0, 0)), mode="symmetric"))


def crop_pair(
    photo: Image.Image, region: Region, data: TrainData, rng: np.random.Generator
) -> tuple[Image.Image, Image.Image]:
    """Input and reference of `data.size` pixels, from one region of one photograph.

    The input is an exact crop at a random position. The centre of the reference is up to `data.shift` sides away; its
    side is 1 - `data.scale` to 1 + `data.scale` times that of the input; it is rotated by up to `data.rotation` degrees
    and recoloured by a gain and a gamma of 1 - `data.photometry` to 1 + `data.photometry`. If the region is too small
    for the rotation, the reference is upright and at most as large as the region.

    Args:
        photo: 8-bit RGB.
        region: at least `data.size` pixels wide and high.
        data: size of the crops, and limits of the changes to the reference.
        rng: source of the random numbers.
    """
    side = data.size
    left = int(rng.integers(region.left, region.right - side + 1))
    top = int(rng.integers(region.top, region.bottom - side + 1))
    shift_x, shift_y = rng.uniform(-data.shift, data.shift, 2) * side
    scale = 1 + rng.uniform(-data.scale, data.scale)
    rotation = rng.uniform(-data.rotation, data.rotation)
    gain, gamma = 1 + rng.uniform(-data.photometry, data.photometry, 2)

    half, _ = half_extent((side, side), scale, rotation)
    if 2 * half > min(region.width, region.height):
        rotation, scale = 0.0, min(scale, min(region.width, region.height) / side)
        half = scale * side / 2
    x = min(max(left + side / 2 + shift_x, region.left + half), region.right - half)
    y = min(max(top + side / 2 + shift_y, region.top + half), region.bottom - half)
    if scale == 1 and rotation == 0:
        x, y = round(x - half) + half, round(y - half) + half
    reference = warp(photo, (x, y), (side, side), scale=scale, rotation=rotation)
    if data.photometry:
        reference = recolour(reference, (gain, gain, gain), gamma)
    return photo.crop((left, top, left + side, top + side)), reference
