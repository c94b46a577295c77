"""Conversion between uint8 pixels and the tensors of the networks."""

import numpy as np
import torch
from torch import Tensor


def to_planes(pixels: np.ndarray) -> Tensor:
    """Convert uint8 (N, H, W, 3) to uint8 (N, 3, H, W), a quarter of the bytes of what `to_signed` makes of it."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))


def to_signed(planes: Tensor) -> Tensor:
    """Convert uint8 of any shape to float32 in [-1, 1], on the device where it is."""
    return planes.float() / 127.5 - 1


def to_tensor(pixels: np.ndarray) -> Tensor:
    """Convert uint8 (N, H, W, 3) to float32 (N, 3, H, W) in [-1, 1]."""
    return to_signed(to_planes(pixels))


def round_to_pixels(image: Tensor) -> Tensor:
    """Round floating-point pixels in [-1, 1] to what a PNG holds: whole numbers from 0 to 255, as float32."""
    return ((image.detach().float() + 1) * 127.5).round().clamp(0, 255)


def to_uint8(image: Tensor) -> np.ndarray:
    """Convert floating-point (1, 3, H, W) in [-1, 1] to uint8 (H, W, 3), rounded to the nearest."""
    return round_to_pixels(image).to(torch.uint8).squeeze(0).movedim(0, -1).cpu().numpy()
