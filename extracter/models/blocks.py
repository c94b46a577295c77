"""Layers that all networks share: convolutions, residual stages, bicubic resizing."""

from functools import cache, lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """Return a 3 x 3 convolution. It keeps the size at stride 1 and halves it at stride 2."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1)


def conv1x1(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Return a 1 x 1 convolution."""
    return nn.Conv2d(in_channels, out_channels, 1)


def add_reusing_(x: Tensor, residual: Tensor) -> Tensor:
    """Return x + residual, in residual's memory if the dtypes match. Do not use residual afterwards."""
    return residual.add_(x) if residual.dtype == x.dtype else x + residual


class ResidualBlock(nn.Module):
    """Convolution, ReLU, convolution, skip connection; no normalisation (as in EDSR)."""

    def __init__(self, features: int):
        super().__init__()
        self.conv1 = conv3x3(features, features)
        self.conv2 = conv3x3(features, features)

    def forward(self, x: Tensor) -> Tensor:
        """Map N, C, H, W to the same shape."""
        return add_reusing_(x, self.conv2(F.relu(self.conv1(x), inplace=True)))


def residual_blocks(features: int, count: int) -> nn.Sequential:
    """Return residual blocks one after the other."""
    return nn.Sequential(*(ResidualBlock(features) for _ in range(count)))


class ResidualStage(nn.Sequential):
    """Residual blocks and a closing convolution, without an outer skip connection."""

    def __init__(self, features: int, blocks: int):
        super().__init__(*residual_blocks(features, blocks), conv3x3(features, features))


class ShallowExtractor(nn.Module):
    """IFE (of LR) and GFE (of its gradient density): convolution, ReLU, residual stage, skip (section 3.6)."""

    def __init__(self, features: int, blocks: int):
        super().__init__()
        self.head = conv3x3(3, features)
        self.stage = ResidualStage(features, blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Map N, 3, H, W to N, features, H, W."""
        x = F.relu(self.head(x), inplace=True)
        return x + self.stage(x)


class _Bicubic(torch.autograd.Function):
    """`interpolate` with a deterministic backward pass: matrix products, since CUDA's own kernel adds atomically."""

    @staticmethod
    def forward(ctx, x: Tensor, size: tuple[int, int]) -> Tensor:
        ctx.shape = x.shape[-2:]
        return F.interpolate(x, size, mode="bicubic")

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        sides = zip(ctx.shape, gradient.shape[-2:], strict=True)
        rows, columns = (_bicubic_matrix(n, m, gradient.dtype, gradient.device) for n, m in sides)
        return rows.mT @ gradient @ columns, None


@lru_cache(maxsize=64)
def _bicubic_matrix(n: int, m: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the m x n matrix that resizes a column of n pixels to m, by resizing the n unit columns."""
    with torch.inference_mode(False):  # so that training may use what inference made
        units = torch.eye(n, dtype=torch.float64).view(1, n, n, 1)
        return F.interpolate(units, (m, 1), mode="bicubic").view(n, m).mT.to(device, dtype)


# Bicubic interpolation mixes this many pixels on each side.
_REACH = 2


@cache
def _bicubic_response(factor: int) -> list[float]:
    """Return the 4 * factor weights with which a pixel far from the border enters an enlarged column."""
    matrix = _bicubic_matrix(4 * _REACH, 4 * _REACH * factor, torch.float32, torch.device("cpu"))
    start = _REACH * factor + factor // 2
    return matrix[start : start + 2 * _REACH * factor, 2 * _REACH].tolist()


def _enlarge(x: Tensor, factor: int) -> Tensor:
    """Enlarge bicubically by a depthwise transposed convolution, in float32 or float64.

    The result equals that of `interpolate` up to rounding. On the CPU, where PyTorch interpolates pixel by pixel, this
    is about eight times faster for factor 2.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    response = torch.tensor(_bicubic_response(factor), dtype=dtype, device=x.device)
    weight = torch.outer(response, response).expand(x.shape[1], 1, -1, -1)
    padded = F.pad(x.to(dtype), (_REACH,) * 4, mode="replicate")
    cut = (2 * _REACH - 1) * factor + factor // 2
    with torch.autocast(x.device.type, enabled=False):
        return F.conv_transpose2d(padded, weight, stride=factor, padding=cut, groups=x.shape[1]).to(x.dtype)


# Side in pixels up to which CUDA's matrix products are faster than its interpolation, whose cost is in the reads.
_SMALL = 256


def _resize_by_products(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize bicubically by one matrix product for each direction, in float32 or float64; equal up to rounding."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    sides = zip(x.shape[-2:], size, strict=True)
    rows, columns = (_bicubic_matrix(n, m, dtype, x.device) for n, m in sides)
    with torch.autocast(x.device.type, enabled=False):
        return (rows @ x.to(dtype) @ columns.mT).to(x.dtype)


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize N, C, h, w bicubically to N, C, *size, without `align_corners`; deterministic, as is its gradient."""
    height, width = x.shape[-2:]
    if (height, width) == tuple(size):
        return x
    factor = size[0] // height
    if x.device.type == "cuda" and max(height, width, *size) <= _SMALL:
        return _resize_by_products(x, size)
    # Not on CUDA, where cuDNN may compute a convolution in TensorFloat-32.
    if x.device.type == "cpu" and factor % 2 == 0 and tuple(size) == (height * factor, width * factor):
        return _enlarge(x, factor)
    if torch.is_grad_enabled() and x.requires_grad:
        return _Bicubic.apply(x, tuple(size))
    return F.interpolate(x, size, mode="bicubic")


def upsample(x: Tensor, factor: int) -> Tensor:
    """Enlarge N, C, h, w bicubically by an integer factor."""
    return resize(x, (x.shape[-2] * factor, x.shape[-1] * factor))
