"""SRNTT (Zhang et al., CVPR 2019)."""

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as F

from extracter.models.blocks import add_reusing_, conv1x1, conv3x3
from extracter.models.csfi import PixelShuffleUp
from extracter.models.texture_transformer import TextureTransformer, texture_channels
from extracter.search.search import Matches, SearchConfig


class SRNTT(TextureTransformer, PyTorchModelHubMixin, license="mit"):
    """Swaps textures of a frozen VGG19 into an SRGAN generator; the defaults have 4,087,875 weights besides VGG19's.

    Args:
        features: channels throughout.
        dfe_width: channels of VGG19's first level.
        blocks: residual blocks of the content extractor and at the small scale; half of it at the medium scale, a
            quarter at the large one.
        bicubic_skip: add LR_up to the result (not in its paper).
        memory: MiB for correlation scores; None sizes it from the device.
        caffe: VGG19 takes values of 0 to 255, as the weights of Caffe want them, which the released networks use.

    Example:
        >>> SRNTT(features=8, dfe_width=4, blocks=4).search.padding
        0
    """

    borrowed = frozen = ("dfe.",)

    def __init__(
        self,
        features: int = 64,
        dfe_width: int = 64,
        blocks: int = 16,
        bicubic_skip: bool = False,
        memory: float | None = None,
        caffe: bool = False,
    ):
        search = SearchConfig(3, 1, 0, "direct", memory=memory)
        super().__init__(dfe_width, 1, bicubic_skip, search)
        self.dfe.requires_grad_(False)
        if caffe:
            self.dfe.take_bytes_()
        self.content = ContentExtractor(features, blocks)
        counts = (blocks, max(1, blocks // 2), max(1, blocks // 4))
        channels = texture_channels(dfe_width)
        self.scales = nn.ModuleList(SwapScale(features, c, n) for c, n in zip(channels, counts, strict=True))
        self.ups = nn.ModuleList(PixelShuffleUp(features) for _ in range(2))
        self.tail = nn.Sequential(conv3x3(features, features // 2), conv1x1(features // 2, 3))
        for module in self.modules():
            _initialise(module)
        self.zero_init_(self.tail[-1])

    def reconstruct(self, lr: Tensor, matches: Matches, textures: list[list[Tensor]]) -> Tensor:
        """N, 3, 4h, 4w from the content and the swapped textures."""
        x = self.content(lr)
        for number, (scale, (texture,)) in enumerate(zip(self.scales, textures, strict=True)):
            x = scale(x, texture)
            if number < len(self.ups):
                x = self.ups[number](x)
        return self.tail(x).tanh()


class NormalisedBlock(nn.Module):
    """conv, BN, ReLU, conv, BN, skip."""

    def __init__(self, features: int):
        super().__init__()
        self.conv1, self.bn1 = _plain(features), nn.BatchNorm2d(features)
        self.conv2, self.bn2 = _plain(features), nn.BatchNorm2d(features)

    def forward(self, x: Tensor) -> Tensor:
        """Map N, C, H, W to the same shape."""
        return add_reusing_(x, self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class NormalisedStage(nn.Sequential):
    """Blocks, a closing convolution and BN, without the outer skip."""

    def __init__(self, features: int, blocks: int):
        super().__init__(
            *(NormalisedBlock(features) for _ in range(blocks)), _plain(features), nn.BatchNorm2d(features)
        )


class ContentExtractor(nn.Module):
    """The SRGAN generator without its upscaling."""

    def __init__(self, features: int, blocks: int):
        super().__init__()
        self.head = conv3x3(3, features)
        self.stage = NormalisedStage(features, blocks)

    def forward(self, lr: Tensor) -> Tensor:
        """Map N, 3, h, w to N, features, h, w."""
        x = F.relu(self.head(lr))
        return x + self.stage(x)


class SwapScale(nn.Module):
    """Merge the swapped texture of a scale into x; the skip goes around all of it."""

    def __init__(self, features: int, channels: int, blocks: int):
        super().__init__()
        self.head = conv3x3(features + channels, features)
        self.stage = NormalisedStage(features, blocks)

    def forward(self, x: Tensor, texture: Tensor) -> Tensor:
        """Map N, features, H, W and N, channels, H, W to N, features, H, W."""
        return x + self.stage(F.relu(self.head(torch.cat((x, texture.to(x.dtype)), 1))))


def _plain(features: int) -> nn.Conv2d:
    return nn.Conv2d(features, features, 3, padding=1, bias=False)


def _initialise(module: nn.Module) -> None:
    """First weights as published: convolutions normal(0, 0.02), scales of BN normal(1, 0.02)."""
    if isinstance(module, nn.Conv2d) and module.weight.requires_grad:
        nn.init.normal_(module.weight, 0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1, 0.02)
