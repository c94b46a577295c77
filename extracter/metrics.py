"""PSNR and SSIM on the luma of ITU-R BT.601, as in the RefSR literature (section 4 of the paper).

No border is cropped. SSIM is that of Wang et al. (2004): a Gaussian window of 11 x 11 pixels with sigma 1.5, averaged
over all positions where the window is inside the image, with K1 = 0.01, K2 = 0.03 and the population covariance.
"""

import numpy as np
from skimage.metrics import structural_similarity

from extracter.errors import UserError

WINDOW = 11
DATA_RANGE = 255.0


def luma(rgb: np.ndarray) -> np.ndarray:
    """Compute Y of YCbCr by ITU-R BT.601.

    Args:
        rgb: uint8, (H, W, 3).

    Returns:
        float64, (H, W), from 16 (black) to 235 (white), not rounded.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"expected a uint8 array of shape (H, W, 3), not {rgb.dtype} {rgb.shape}")
    return rgb.astype(np.float64) @ np.array([65.738, 129.057, 25.064]) / 256 + 16


def _check(hr: np.ndarray, sr: np.ndarray) -> None:
    if hr.shape != sr.shape:
        raise UserError(
            f"images of {hr.shape[1]} x {hr.shape[0]} and {sr.shape[1]} x {sr.shape[0]} pixels cannot be compared; "
            "crop the photograph to a multiple of 4, as `extracter prepare` does"
        )


def psnr_y(hr: np.ndarray, sr: np.ndarray) -> float:
    """Compute the peak signal-to-noise ratio of `sr` and `hr` in dB. It is infinite if they are equal.

    Args:
        hr, sr: uint8, (H, W, 3), of the same size.

    Raises:
        UserError: the sizes differ.
    """
    _check(hr, sr)
    error = np.mean((luma(hr) - luma(sr)) ** 2)
    return float(10 * np.log10(DATA_RANGE**2 / error)) if error > 0 else float("inf")


def ssim_y(hr: np.ndarray, sr: np.ndarray) -> float:
    """Compute the structural similarity of `sr` and `hr`, which is at most 1.

    Args:
        hr, sr: uint8, (H, W, 3), of the same size, at least 11 x 11.

    Raises:
        UserError: the sizes differ, or the images are smaller than the window.
    """
    _check(hr, sr)
    if min(hr.shape[:2]) < WINDOW:
        raise UserError(
            f"an image of {hr.shape[1]} x {hr.shape[0]} pixels is smaller than the {WINDOW} x {WINDOW} window of SSIM; "
            "leave it out of the test set"
        )
    # scikit-image truncates the Gaussian at 3.5 sigma, which gives the 11 x 11 window, and leaves a border of 5 pixels
    # out of the mean, where the window is not inside the image.
    return float(
        structural_similarity(
            luma(hr), luma(sr), gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=DATA_RANGE
        )
    )
