"""DPFSR (Lin and Xiao, Sensors 22(11) 4119, 2022), read from its abstract and its 6.91 M weights, without its code."""

from collections.abc import Sequence

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as F

from extracter.models.blocks import add_reusing_, conv1x1, conv3x3, resize
from extracter.models.csfi import CSFI
from extracter.models.texture_transformer import TextureTransformer, texture_channels
from extracter.models.ttsr import TTSR
from extracter.search.search import SearchConfig


class DPFSR(TextureTransformer, PyTorchModelHubMixin, license="mit"):
    """TTSR with another extractor of LR features and another fusion; the defaults have 6,907,459 weights.

    Args:
        features: channels throughout.
        dfe_width: channels of the first level of its texture extractor; 64 is VGG19's.
        blocks: channel attention blocks of the LR extractor, and residual blocks of the three stages.
        bicubic_skip: predict the difference from bicubic (not in its paper).
        kernel: side of a search patch in pixels of the deepest features.
        stride: of the patches.
        padding: of the patches.
        memory: MiB for correlation scores; None sizes it from the device.

    Example:
        >>> DPFSR(features=8, dfe_width=4, blocks=(2, 1, 1, 1)).search.kernel
        3
    """

    def __init__(
        self,
        features: int = 64,
        dfe_width: int = 64,
        blocks: Sequence[int] = (16, 16, 8, 4),
        bicubic_skip: bool = False,
        kernel: int = 3,
        stride: int = 1,
        padding: int = 1,
        memory: float | None = None,
    ):
        search = SearchConfig(kernel, stride, padding, "direct", memory=memory)
        super().__init__(dfe_width, 1, bicubic_skip, search)
        self.gde = None
        channels = texture_channels(dfe_width)
        self.ife = ChannelAttentionExtractor(features, blocks[0])
        self.csfi = CSFI(features, blocks[1:], channels, 1)
        self.csfi.fusions = nn.ModuleList(DualProjection(features, c) for c in channels)
        self.tail = nn.Sequential(conv3x3(features, features // 2), conv1x1(features // 2, 3))
        self.zero_init_(self.tail[-1])

    reconstruct = TTSR.reconstruct


class ChannelAttentionBlock(nn.Module):
    """conv, ReLU, conv, weights for the channels from their means, skip."""

    def __init__(self, features: int):
        super().__init__()
        self.conv1 = conv3x3(features, features)
        self.conv2 = conv3x3(features, features)
        hidden = max(4, features // 16)
        self.attention = nn.Sequential(conv1x1(features, hidden), nn.ReLU(), conv1x1(hidden, features), nn.Sigmoid())

    def forward(self, x: Tensor, means: Tensor | None = None) -> Tensor:
        """Map N, C, H, W to the same shape; `means`, N, C, 1, 1, are of the whole residual where x is a part."""
        residual = self.residual(x)
        means = residual.mean((2, 3), keepdim=True) if means is None else means
        return add_reusing_(x, residual * self.attention(means))

    def residual(self, x: Tensor) -> Tensor:
        """What the block adds, before it is weighted."""
        return self.conv2(F.relu(self.conv1(x), inplace=True))


class ChannelAttentionExtractor(nn.Module):
    """DCACN: channel attention blocks, of which every second one's output goes straight to the end.

    The channels' means are over the whole image, so a part of an image gives other features than the whole.
    """

    def __init__(self, features: int, blocks: int):
        super().__init__()
        self.head = conv3x3(3, features)
        self.blocks = nn.ModuleList(ChannelAttentionBlock(features) for _ in range(blocks))
        self.merge = conv1x1(max(1, (blocks + 1) // 2) * features, features)
        self.closing = conv3x3(features, features)

    def forward(self, x: Tensor, means: Sequence[Tensor] | None = None) -> Tensor:
        """Map N, 3, H, W to N, features, H, W; `means` of the blocks are of the whole image where x is a part."""
        of_blocks = [None] * len(self.blocks) if means is None else means
        head = x = F.relu(self.head(x), inplace=True)
        outputs = [x] if not self.blocks else []
        lefts = reversed(range(len(self.blocks)))
        for left, block, of_block in zip(lefts, self.blocks, of_blocks, strict=True):
            x = block(x, of_block)
            if left % 2 == 0:  # counted from the end, so that the last one is among them
                outputs.append(x)
        return head + self.closing(self.merge(torch.cat(outputs, 1)))


class DualProjection(nn.Module):
    """DPF: each of LR feature F and texture T is filled with what the other has and it has not.

    T' = conv(T); F' = F + conv(T' - F); T'' = T' + conv(F - T'); result F + conv(cat(F', T'')) S.
    """

    def __init__(self, features: int, channels: int):
        super().__init__()
        self.narrow = conv3x3(channels, features)
        self.to_feature = conv3x3(features, features)
        self.to_texture = conv3x3(features, features)
        self.merge = conv1x1(2 * features, features)

    def forward(self, x: Tensor, textures: Sequence[Tensor], soft: Sequence[Tensor]) -> Tensor:
        """Add one texture to x, N, features, H, W; arguments as of `csfi.Fusion`."""
        (texture,), (scores,) = textures, soft
        texture = self.narrow(texture.to(x.dtype))
        filled = x + self.to_feature(texture - x)
        texture = texture + self.to_texture(x - texture)
        return x + self.merge(torch.cat((filled, texture), 1)) * resize(scores, (x.shape[-2], x.shape[-1]))
