"""Bicubic degradation against Pillow's resize and against its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from extracter.data.degradation import crop_to_scale, downscale, upscale
from extracter.errors import UserError


def bicubic_row(values: np.ndarray, scale: float) -> np.ndarray:
    """Antialiased bicubic with a = -0.5 (Keys 1981), worked out for one row of float values."""
    count = round(len(values) * scale)
    stretch = max(1 / scale, 1)
    result = np.empty(count)
    for i in range(count):
        center = (i + 0.5) / scale
        positions = np.arange(
            int(max(center - 2 * stretch + 0.5, 0)), int(min(center + 2 * stretch + 0.5, len(values)))
        )
        x = np.abs((positions + 0.5 - center) / stretch)
        weights = np.where(x < 1, (1.5 * x - 2.5) * x * x + 1, np.where(x < 2, ((-0.5 * x + 2.5) * x - 4) * x + 2, 0))
        result[i] = (values[positions] * weights).sum() / weights.sum()
    return np.clip(result, 0, 255)


@pytest.mark.parametrize(("function", "scale"), [(downscale, 0.25), (upscale, 4.0)])
def test_a_row_follows_the_definition(function, scale):
    values = np.random.default_rng(3).integers(0, 256, 64).astype(np.uint8)
    image = Image.fromarray(np.repeat(np.repeat(values[None, :, None], 8, 0), 3, 2))
    found = np.asarray(function(image)).astype(float)[0, :, 0]
    assert np.abs(found - bicubic_row(values.astype(float), scale)).max() <= 0.75  # half a level, and fixed point


@given(st.integers(4, 70), st.integers(4, 70))
@settings(max_examples=25, deadline=None)
def test_sizes_fit_after_cropping(width, height):
    image = crop_to_scale(Image.new("RGB", (width, height), (10, 200, 30)))
    assert image.size == (width // 4 * 4, height // 4 * 4)
    lr = downscale(image)
    assert lr.size == (width // 4, height // 4)
    up = upscale(lr)
    assert up.size == image.size
    assert (np.asarray(up) == (10, 200, 30)).all()


def test_cropping_keeps_the_left_upper_corner():
    pixels = np.random.default_rng(0).integers(0, 256, (11, 14, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(crop_to_scale(Image.fromarray(pixels))), pixels[:8, :12])


def test_other_modes_and_tiny_images_are_refused():
    with pytest.raises(ValueError, match="RGB"):
        downscale(Image.new("L", (8, 8)))
    with pytest.raises(ValueError, match="RGB"):
        upscale(Image.new("RGBA", (8, 8)))
    with pytest.raises(UserError, match="3x9"):
        crop_to_scale(Image.new("RGB", (3, 9)))
