"""Gradient density enhancing (section 3.4)."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from extracter.models.blocks import ResidualStage, ShallowExtractor, conv3x3, upsample

Gradient = Literal["unit", "bytes", "normalised"]


def gradient_density(image: Tensor, gradient: Gradient = "unit") -> Tensor:
    """Compute GD(I) = sqrt((K_x * I)^2 + (K_y * I)^2 + 1e-6) of each channel, with 3 x 3 Sobel kernels.

    Args:
        image: N, 3, H, W in [-1, 1]. It is scaled to [0, 1] and padded with zeros first.
        gradient: `unit` as described; `bytes` and `normalised` scale the image to [0, 255], as the authors' code does.

    Returns:
        N, 3, H, W, at least 1e-3. The 1e-6 keeps the root differentiable where the image is constant.
    """
    image = (image + 1) / 2 if gradient == "unit" else (image + 1) * 127.5
    channels = image.shape[1]
    # Made where they are used: a copy from the host would hold up a GPU.
    slope = torch.arange(-1, 2, dtype=image.dtype, device=image.device)
    horizontal = torch.outer(2 - slope.abs(), slope)  # -1 0 1, -2 0 2, -1 0 1
    kernels = torch.stack((horizontal, horizontal.mT)).unsqueeze(1).repeat(channels, 1, 1, 1)  # 2 channels, 1, 3, 3
    slopes = F.conv2d(image, kernels, padding=1, groups=channels)
    return slopes.unflatten(1, (channels, 2)).square().sum(2).add(1e-6).sqrt()


def gradient_bounds(density: Tensor) -> tuple[Tensor, Tensor]:
    """Return the minimum and maximum gradient density of each image and channel, N, 3, 1, 1."""
    return density.amin((2, 3), keepdim=True), density.amax((2, 3), keepdim=True)


def normalise(density: Tensor, bounds: tuple[Tensor, Tensor]) -> Tensor:
    """Scale each channel from its bounds to [0, 1], for `gradient="normalised"`."""
    low, high = bounds
    return (density - low) / (high - low).clamp(min=1e-12)


class GDELevel(nn.Module):
    """Concatenation with the texture of the scale, convolution, ReLU, residual stage, skip connection."""

    def __init__(self, features: int, blocks: int, closing: bool = True):
        super().__init__()
        self.head = conv3x3(2 * features, features)
        stage = ResidualStage(features, blocks)
        self.stage = stage if closing else nn.Sequential(*list(stage)[:-1])

    def forward(self, x: Tensor, texture: Tensor) -> Tensor:
        """Map two N, features, H, W to one."""
        x = F.relu(self.head(torch.cat((x, texture), 1)), inplace=True)
        return x + self.stage(x)


class GDE(nn.Module):
    """Gradient features of LR, refined by the synthesised textures from the lowest scale to the highest.

    Args:
        features: channels of all layers.
        extractor_blocks: residual blocks of GFE; 4 in the paper.
        blocks: residual blocks of the three levels; 9, 9, 9 in the paper.
        closing: end each level with a convolution; not in the authors' code.
        gradient: range of the gradient density; see `gradient_density`. `normalised` scales each channel to [0, 1].
    """

    def __init__(
        self,
        features: int,
        extractor_blocks: int,
        blocks: Sequence[int],
        closing: bool = True,
        gradient: Gradient = "unit",
    ):
        super().__init__()
        self.extractor = ShallowExtractor(features, extractor_blocks)
        self.levels = nn.ModuleList(GDELevel(features, n, closing) for n in blocks)
        self.gradient = gradient

    def forward(self, lr: Tensor, textures: Sequence[Tensor]) -> Tensor:
        """Compute x_3g of section 3.4.

        Args:
            lr: N, 3, h, w in [-1, 1].
            textures: T_3, T_2, T_1: N, features at h, 2h, 4h.

        Returns:
            N, features, 4h, 4w.
        """
        density = gradient_density(lr, self.gradient)
        if self.gradient == "normalised":
            density = normalise(density, gradient_bounds(density))
        x = self.extractor(density)
        for level, (module, texture) in enumerate(zip(self.levels, textures, strict=True)):
            x = module(upsample(x, 2) if level else x, texture)
        return x
