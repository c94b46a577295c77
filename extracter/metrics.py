"""PSNR and SSIM on the luma of ITU-R BT.601, as in the RefSR literature (section 4 of the paper).

No border is cropped. SSIM is that of Wang et al. (2004): a Gaussian window of 11 x 11 pixels with sigma 1.5, averaged
over all positions where the window is inside the image, with K1 = 0.01, K2 = 0.03 and the population covariance.
"""

import numpy as np
from skimage.metrics import structural_similarity
from torch import Tensor

from extracter.errors import UserError
from extracter.image_tensors import round_to_pixels

WINDOW = 11
DATA_RANGE = 255.0
# PSNR of equal images is infinite, which no mean survives and JSON cannot hold. It is capped at this customary value.
CAP = 100.0
_LUMA = (65.738, 129.057, 25.064)


def luma(rgb: np.ndarray) -> np.ndarray:
    """Compute Y of YCbCr by ITU-R BT.601.

    Args:
        rgb: uint8, (H, W, 3).

    Returns:
        float64, (H, W), from 16 (black) to 235 (white), not rounded.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"expected a uint8 array of shape (H, W, 3), not {rgb.dtype} {rgb.shape}")
    return rgb.astype(np.float64) @ np.array(_LUMA) / 256 + 16


def _check(hr: np.ndarray, sr: np.ndarray) -> None:
    if hr.shape != sr.shape:
        raise UserError(
            f"images of {hr.shape[1]} x {hr.shape[0]} and {sr.shape[1]} x {sr.shape[0]} pixels cannot be compared; "
            "crop the photograph to a multiple of 4, as `extracter prepare` does"
        )


def psnr_y(hr: np.ndarray, sr: np.ndarray) -> float:
    """Compute the peak signal-to-noise ratio of `sr` and `hr` in dB; 100 if they are equal.

    Args:
        hr, sr: uint8, (H, W, 3), of the same size.

    Raises:
        UserError: the sizes differ.
    """
    _check(hr, sr)
    return psnr_of(float(np.mean((luma(hr) - luma(sr)) ** 2)))


def psnr_of(error: float) -> float:
    """PSNR of a mean squared error of luma, in dB, at most 100; NaN where the error is.

    Example:
        >>> psnr_of(0.0)
        100.0
    """
    return CAP if error == 0 else min(float(10 * np.log10(DATA_RANGE**2 / error)), CAP)


def squared_error_y(hr: Tensor, sr: Tensor) -> Tensor:
    """Sum of the squared differences of luma, where the tensors lie; the host does not wait for it.

    Args:
        hr: uint8, N, 3, H, W.
        sr: float, N, 3, H, W in [-1, 1]; rounded as a PNG would be.

    Returns:
        A float64 scalar.
    """
    if sr.device.type == "mps":  # which has no float64
        hr, sr = hr.cpu(), sr.cpu()
    difference = hr.double() - round_to_pixels(sr).double()
    red, green, blue = difference.unbind(1)
    return (red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2]).div(256).square().sum()


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
