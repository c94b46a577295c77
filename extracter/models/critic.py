"""The critic of the adversarial loss (section 3.5). It is TTSR's discriminator, which the authors use, too."""

import torch
from torch import Tensor, nn

from extracter.models.blocks import conv3x3

_WIDTHS = (32, 64, 128, 256, 512)
_CONVOLUTIONAL = 4 * len(_WIDTHS)  # layers before the flattening


class Critic(nn.Module):
    """Five pairs of convolutions, of which the second halves the size, and two linear layers; no normalisation.

    Args:
        size: side of the images in pixels, a multiple of 32.
    """

    def __init__(self, size: int):
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in _WIDTHS:
            layers += [conv3x3(channels, width), nn.LeakyReLU(0.2), conv3x3(width, width, 2), nn.LeakyReLU(0.2)]
            channels = width
        layers += [nn.Flatten(), nn.Linear((size // 32) ** 2 * channels, 1024), nn.LeakyReLU(0.2), nn.Linear(1024, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """Map images N, 3, size, size in [-1, 1] to scores N, 1. Higher scores mean more realistic images.

        In mixed precision the convolutions are rounded and the linear layers are not: scores of similar images differ
        by less than bfloat16 tells apart.
        """
        features = self.layers[:_CONVOLUTIONAL](image)
        with torch.autocast(image.device.type, enabled=False):
            return self.layers[_CONVOLUTIONAL:](features.to(image.dtype))
