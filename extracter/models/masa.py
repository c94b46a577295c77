"""MASA-SR (Lu et al., CVPR 2021)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as F

from extracter.models.blocks import ResidualBlock, conv3x3, residual_blocks, upsample
from extracter.models.masa_match import BLOCK, choose, double, warp
from extracter.models.refsr import RefSR


class MASA(RefSR, PyTorchModelHubMixin, license="mit"):
    """Coarse-to-fine matching by blocks, spatial adaptation and dual residual aggregation; 4,028,291 weights.

    Its spatial adaptation takes mean and deviation over the whole image, so a part of an image gives another result.

    Args:
        features: channels throughout.
        blocks: residual blocks of the encoder's levels, of the decoder's on the way up, and after the textures at 1x,
            2x and 4x.

    Example:
        >>> MASA(features=8, blocks=(1, 1, 1, 1, 1)).padded(13)
        16
    """

    def __init__(self, features: int = 64, blocks: Sequence[int] = (4, 2, 12, 8, 4)):
        super().__init__(bicubic_skip=False)
        self.encoder = Encoder(features, blocks[0])
        self.joins = nn.ModuleList(conv3x3(features if n == 0 else 2 * features, features) for n in range(3))
        self.rises = nn.ModuleList(residual_blocks(features, blocks[1]) for _ in range(3))
        self.adapt = SpatialAdaptation(features)  # one for the three scales
        self.merge = conv3x3(2 * features, features)
        self.aggregations = nn.ModuleList(DualAggregation(features) for _ in range(2))
        self.bodies = nn.ModuleList(residual_blocks(features, n) for n in blocks[2:])
        self.tail = conv3x3(features, 3)
        self.apply(_initialise)
        nn.init.zeros_(self.tail.weight)  # training begins at bicubic

    def padded(self, side: int) -> int:
        """The least multiple of 8: LR is cut into blocks, and halved twice."""
        return -(-side // BLOCK) * BLOCK

    def super_resolve(self, lr: Tensor, lr_up: Tensor, refs: list[Tensor], refs_du: list[Tensor]) -> Tensor:
        """N, 3, 4h, 4w; of several references each block takes the one that fits it best."""
        lr = (lr + 1) / 2
        found = []
        # In float32 whatever the precision is, so that matches do not depend on it.
        with torch.autocast(lr.device.type, enabled=False):
            content = self.encoder(lr)
            for ref in refs:
                ref = (ref + 1) / 2
                small = F.interpolate(ref, scale_factor=0.25, mode="bicubic", antialias=True).clamp(0, 1)
                found.append(warp(content[0], self.encoder(small)[0], self.encoder(ref)))
        return 2 * (self._decode(content, choose(found)) + upsample(lr, 4)) - 1

    def _decode(self, content: list[Tensor], textures: list[Tensor]) -> Tensor:
        """RGB in [0, 1] less the bicubic enlargement; both lists finest first."""
        x = self.integrate(content)
        x = self.refine(x, self.adapt(x, textures[2]))
        for number in range(2):
            x = self.enlarge(number, x, self.adapt(double(x), textures[1 - number]))
        return self.tail(x)

    def integrate(self, content: list[Tensor]) -> Tensor:
        """Features of LR, N, C, h, w, from those of its three levels."""
        x = self.rises[0](F.relu(self.joins[0](content[2])))
        for join, rise, level in zip(self.joins[1:], self.rises[1:], (content[1], content[0]), strict=True):
            x = rise(F.relu(join(torch.cat((double(x), level), 1))))
        return x

    def refine(self, x: Tensor, adapted: Tensor) -> Tensor:
        """Merge the adapted texture at LR's size into x, N, C, h, w."""
        return self.bodies[0](F.relu(self.merge(torch.cat((adapted, x), 1))))

    def enlarge(self, number: int, x: Tensor, adapted: Tensor) -> Tensor:
        """From N, C, H, W and the adapted texture N, C, 2H, 2W features of twice the size; number 0 is the first."""
        return self.bodies[number + 1](self.aggregations[number](x, adapted))


class Encoder(nn.Module):
    """Features of an image at full, half and quarter size."""

    def __init__(self, features: int, blocks: int):
        super().__init__()
        self.convs = nn.ModuleList(conv3x3(features if n else 3, features, 2 if n else 1) for n in range(3))
        self.blocks = nn.ModuleList(residual_blocks(features, blocks) for _ in range(3))

    def forward(self, x: Tensor, count: int = 3) -> list[Tensor]:
        """Map N, 3, H, W to `count` maps, finest first."""
        levels: list[Tensor] = []
        for conv, blocks in zip(self.convs[:count], self.blocks[:count], strict=True):
            x = blocks(F.relu(conv(x)))
            levels.append(x)
        return levels


class Statistics(NamedTuple):
    """What spatial adaptation needs of whole images, each N, C, 1, 1.

    Attributes:
        deviation, mean: of LR's features; the deviation is that of a sample.
        variance, middle: variance over all pixels and mean of the reference's.
    """

    deviation: Tensor
    mean: Tensor
    variance: Tensor
    middle: Tensor


class SpatialAdaptation(nn.Module):
    """SAM: gives the reference's features the mean and deviation of the LR's, and what it learns besides."""

    def __init__(self, features: int):
        super().__init__()
        self.shared = conv3x3(2 * features, features)
        self.gamma, self.beta = conv3x3(features, features), conv3x3(features, features)

    def forward(self, lr: Tensor, ref: Tensor, statistics: Statistics | None = None) -> Tensor:
        """Map two N, C, H, W to the reference's, adapted.

        Args:
            lr: features of LR.
            ref: of the reference.
            statistics: of the whole of both, where they are parts of an image; None: their own.
        """
        style = F.relu(self.shared(torch.cat((lr, ref), 1)))
        if statistics is None:
            of_ref = torch.var_mean(ref, (2, 3), correction=0, keepdim=True)
            statistics = Statistics(*torch.std_mean(lr, (2, 3), keepdim=True), *of_ref)
        deviation, mean, variance, middle = statistics
        normalised = (ref - middle) * (variance + 1e-5).rsqrt()
        return normalised * (self.gamma(style) + deviation) + self.beta(style) + mean


class DualAggregation(nn.Module):
    """DRAM: LR features at 1x and the reference's at 2x, each filled with what the other has and it has not."""

    def __init__(self, features: int):
        super().__init__()
        self.downs = nn.ModuleList(conv3x3(features, features, 2) for _ in range(2))
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(features, features, 3, 2, padding=1, output_padding=1) for _ in range(2)
        )
        self.merge = conv3x3(2 * features, features)

    def forward(self, lr: Tensor, ref: Tensor) -> Tensor:
        """Map N, C, H, W and N, C, 2H, 2W to N, C, 2H, 2W."""
        from_ref, from_lr = (F.relu(down(ref)) for down in self.downs)
        detailed = F.relu(self.ups[0](from_ref - lr)) + ref
        refined = F.relu(self.ups[1](lr - from_lr + lr))
        return F.relu(self.merge(torch.cat((detailed, refined), 1)))


def _initialise(module: nn.Module) -> None:
    """First weights as published: half of Kaiming's standard deviation, a twentieth in residual blocks, 0 in SAM."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0, 0.5 * (2 / (9 * module.out_channels)) ** 0.5)
        nn.init.zeros_(module.bias)
    elif isinstance(module, ResidualBlock):
        with torch.no_grad():
            module.conv1.weight.mul_(0.1)
            module.conv2.weight.mul_(0.1)
    elif isinstance(module, SpatialAdaptation):
        nn.init.zeros_(module.gamma.weight)
        nn.init.zeros_(module.beta.weight)
