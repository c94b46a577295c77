"""PSNR and SSIM on the luma of BT.601, as the RefSR literature measures them (section 4 of the paper).

Nothing is cropped from the border. SSIM is that of Wang et al. 2004: an 11 x 11 Gaussian window of sigma 1.5, the mean
over all positions where the window lies inside the image, K1 0.01, K2 0.03, population covariance.
"""

import numpy as np
from skimage.metrics import structural_similarity

from extracter.errors import UserError

WINDOW = 11
DATA_RANGE = 255.0


def luma(rgb: np.ndarray) -> np.ndarray:
    """Y of YCbCr by ITU-R BT.601.

    Args:
        rgb: uint8, (H, W, 3).

    Returns:
        float64, (H, W), 16 (black) to 235 (white), not rounded.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"an (H, W, 3) array of uint8 is wanted, not {rgb.shape} of {rgb.dtype}")
    return rgb.astype(np.float64) @ np.array([65.738, 129.057, 25.064]) / 256 + 16


def _check(hr: np.ndarray, sr: np.ndarray) -> None:
    if hr.shape != sr.shape:
        raise UserError(
            f"images of {hr.shape[1]} x {hr.shape[0]} and {sr.shape[1]} x {sr.shape[0]} pixels cannot be compared; "
            "crop the photograph to a multiple of 4, as `extracter prepare` does"
        )


def psnr_y(hr: np.ndarray, sr: np.ndarray) -> float:
    """Peak signal-to-noise ratio of `sr` against `hr`, in dB; infinite where they are equal.

    Args:
        hr, sr: uint8, (H, W, 3), of one size.

    Raises:
        UserError: the sizes differ.
    """
    _check(hr, sr)
    error = np.mean((luma(hr) - luma(sr)) ** 2)
    return float(10 * np.log10(DATA_RANGE**2 / error)) if error > 0 else float("inf")


def ssim_y(hr: np.ndarray, sr: np.ndarray) -> float:
    """Structural similarity of `sr` to `hr`, at most 1.

    Args:
        hr, sr: uint8, (H, W, 3), of one size, at least 11 x 11.

    Raises:
        UserError: the sizes differ, or the window does not fit into the images.
    """
    _check(hr, sr)
    if min(hr.shape[:2]) < WINDOW:
        raise UserError(
            f"an image of {hr.shape[1]} x {hr.shape[0]} pixels is smaller than the {WINDOW} x {WINDOW} window of SSIM; "
            "leave it out of the test set"
        )
    # scikit-image cuts the Gaussian off at 3.5 sigma, which is the 11 x 11 window, and leaves its half-width of 5
    # pixels out of the mean: the valid region.
    return float(
        structural_similarity(
            luma(hr), luma(sr), gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=DATA_RANGE
        )
    )
