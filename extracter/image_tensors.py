"""Conversion between uint8 pixels and the tensors of the networks."""

import numpy as np
import torch
from torch import Tensor


def to_tensor(pixels: np.ndarray) -> Tensor:
    """Convert uint8 (N, H, W, 3) to float32 (N, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float() / 127.5 - 1


def to_uint8(image: Tensor) -> np.ndarray:
    """Convert floating-point (1, 3, H, W) in [-1, 1] to uint8 (H, W, 3), rounded to the nearest."""
    pixels = ((image.detach().float() + 1) * 127.5).round().clamp(0, 255)
    return pixels.to(torch.uint8).squeeze(0).movedim(0, -1).cpu().numpy()
