"""Metrics against definitions worked out here, and against golden figures of real images."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.signal import convolve2d

from extracter.errors import UserError
from extracter.metrics import luma, psnr_of, psnr_y, ssim_y

MIRROR = (
    Path(__file__).parents[2].parent
    / "shared/mirror/jbhuang0604/SelfExSR/8f6dd8c1d20cb7e8792a7177b4f6fd677633f598/data"
)


def images(seed: int, height: int = 24, width: int = 31, noise: float = 30) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    hr = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    sr = np.clip(hr + rng.normal(0, noise, hr.shape), 0, 255).astype(np.uint8)
    return hr, sr


def ssim_by_definition(x: np.ndarray, y: np.ndarray) -> float:
    """Wang et al. 2004, equation 13 and section III.B, window by window in `valid` convolutions."""
    axis = np.arange(-5, 6)
    window = np.exp(-(axis[:, None] ** 2 + axis[None, :] ** 2) / (2 * 1.5**2))
    window /= window.sum()

    def mean(image):
        return convolve2d(image, window, mode="valid")

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return np.mean((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))


def test_luma_of_black_white_and_the_primaries():
    pixels = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    by_hand = [16, 16 + 255 * 219.859 / 256, 16 + 255 * 65.738 / 256, 16 + 255 * 129.057 / 256, 16 + 255 * 25.064 / 256]
    np.testing.assert_allclose(luma(pixels)[0], by_hand, rtol=1e-12)


def test_psnr_of_a_constant_offset():
    hr = np.full((20, 20, 3), 100, np.uint8)
    sr = hr + np.uint8(10)
    offset = 10 * (65.738 + 129.057 + 25.064) / 256
    assert psnr_y(hr, sr) == pytest.approx(20 * np.log10(255 / offset), abs=1e-9)


def test_psnr_of_no_number_is_none():
    assert np.isnan(psnr_of(float("nan")))


def test_psnr_counts_the_border():
    hr = np.zeros((16, 16, 3), np.uint8)
    sr = hr.copy()
    sr[0, 0] = 255
    assert psnr_y(hr, sr) == pytest.approx(10 * np.log10(255**2 / ((255 * 219.859 / 256) ** 2 / 256)), abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(11, 40), st.integers(11, 40), st.floats(0.5, 120))
def test_ssim_is_the_definition(seed, height, width, noise):
    hr, sr = images(seed, height, width, noise)
    assert ssim_y(hr, sr) == pytest.approx(ssim_by_definition(luma(hr), luma(sr)), abs=1e-10)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_equal_images_are_perfect_and_order_does_not_matter(seed):
    hr, sr = images(seed)
    assert psnr_y(hr, hr) == 100
    assert ssim_y(hr, hr) == pytest.approx(1, abs=1e-12)
    assert psnr_y(hr, sr) == psnr_y(sr, hr)
    assert ssim_y(hr, sr) == pytest.approx(ssim_y(sr, hr), abs=1e-12)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_more_noise_is_worse(seed):
    (hr, a), (_, b) = images(seed, noise=10), images(seed, noise=40)
    assert psnr_y(hr, a) > psnr_y(hr, b)
    assert ssim_y(hr, a) > ssim_y(hr, b)


@pytest.mark.parametrize("metric", [psnr_y, ssim_y])
def test_sizes_that_differ_are_refused(metric):
    with pytest.raises(UserError, match="31 x 24 and 30 x 24"):
        metric(images(0)[0], images(0, width=30)[0])


def test_an_image_smaller_than_the_window_is_refused():
    with pytest.raises(UserError, match="10 x 24 pixels is smaller"):
        ssim_y(*images(0, width=10))


def test_floats_are_refused():
    with pytest.raises(ValueError, match="uint8"):
        psnr_y(np.zeros((12, 12, 3)), np.zeros((12, 12, 3)))


@pytest.mark.parametrize(
    ("folder", "count", "psnr", "ssim"),
    [
        ("Set14/image_SRF_4", 14, 25.857, 0.7057),
        ("Urban100/image_SRF_4", 25, 22.693, 0.6550),
        ("Sun-Hays80/image_SRF_8", 20, 28.649, 0.7732),
    ],
)
def test_golden_figures_of_bicubic(folder, count, psnr, ssim):
    from extracter.data.degradation import downscale, upscale

    if not (MIRROR / folder).is_dir():
        pytest.skip(f"no mirror of the published images at {MIRROR / folder}")
    scores = []
    for path in sorted((MIRROR / folder).glob("*_HR.png")):
        image = Image.open(path).convert("RGB")
        hr = image.crop((0, 0, image.width - image.width % 4, image.height - image.height % 4))
        pair = np.asarray(hr), np.asarray(upscale(downscale(hr)))
        scores.append((psnr_y(*pair), ssim_y(*pair)))
    assert len(scores) == count
    assert np.mean(scores, axis=0)[0] == pytest.approx(psnr, abs=0.001)
    assert np.mean(scores, axis=0)[1] == pytest.approx(ssim, abs=0.0001)
