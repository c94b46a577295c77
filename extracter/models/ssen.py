"""SSEN (Shim, Park and Kweon, CVPR 2020), built from its description; no code or weights of it are public."""

from collections.abc import Sequence

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as F

from extracter.models.blocks import ResidualStage, conv1x1, conv3x3, residual_blocks
from extracter.models.c2_matching import merge
from extracter.models.csfi import PixelShuffleUp
from extracter.models.deformable import DeformableConv
from extracter.models.refsr import RefSR


class SSEN(RefSR, PyTorchModelHubMixin, license="mit"):
    """Alignment by deformable convolutions one after the other, without search; the defaults have 3,178,905 weights.

    Args:
        features: channels throughout.
        blocks: residual blocks of the extractor of both images, and of the body.

    Example:
        >>> SSEN(features=8, blocks=(1, 1)).padded(13)
        16
    """

    def __init__(self, features: int = 64, blocks: Sequence[int] = (5, 16)):
        super().__init__(bicubic_skip=True)
        self.head = conv3x3(3, features)
        self.ref_heads = nn.ModuleList([conv3x3(3, features, 2), conv3x3(features, features, 2)])
        self.extractor = residual_blocks(features, blocks[0])
        self.estimators = nn.ModuleList(OffsetEstimator(features) for _ in range(3))
        self.alignments = nn.ModuleList(DeformableConv(features, features) for _ in range(3))
        self.fuse = conv1x1(2 * features, features)
        self.body = ResidualStage(features, blocks[1])
        self.ups = nn.Sequential(PixelShuffleUp(features), PixelShuffleUp(features))
        self.tail = conv3x3(features, 3)
        self.zero_init_(self.tail)

    def padded(self, side: int) -> int:
        """The least multiple of 8: the offsets are estimated on maps that are halved three times."""
        return -(-side // 8) * 8

    def super_resolve(self, lr: Tensor, lr_up: Tensor, refs: list[Tensor], refs_du: list[Tensor]) -> Tensor:
        """The difference from LR_up."""
        feature = self.extractor(F.relu(self.head(lr), inplace=True))
        aligned = [self._align(feature, fit(ref, (lr_up.shape[-2], lr_up.shape[-1]))) for ref in refs]
        # Weighted at each pixel by a softmax of the cosine with the LR feature, as in AMSA.
        merged = merge([(x, F.cosine_similarity(feature, x, dim=1).unsqueeze(1)) for x in aligned])
        fused = self.fuse(torch.cat((feature, merged), 1))
        return self.tail(self.ups(feature + self.body(fused)))

    def _align(self, feature: Tensor, ref: Tensor) -> Tensor:
        for head in self.ref_heads:
            ref = F.relu(head(ref), inplace=True)
        ref = self.extractor(ref)
        for estimate, align in zip(self.estimators, self.alignments, strict=True):
            ref = F.leaky_relu(align(ref, estimate(torch.cat((feature, ref), 1))), 0.1)
        return ref


class OffsetEstimator(nn.Module):
    """Offsets of a 3 x 3 deformable convolution from two maps side by side, by an hourglass with non-local blocks."""

    def __init__(self, features: int):
        super().__init__()
        self.downs = nn.ModuleList(conv3x3(2 * features if n == 0 else features, features, 2) for n in range(3))
        self.attentions = nn.ModuleList(NonLocal(features) for _ in range(3))
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(features, features, 3, 2, padding=1, output_padding=1) for _ in range(3)
        )
        self.widen = conv3x3(features, 2 * features)
        self.offsets = conv3x3(2 * features, 18)
        # Training begins with an ordinary convolution.
        nn.init.zeros_(self.offsets.weight)
        nn.init.zeros_(self.offsets.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map N, 2 C, h, w, h and w multiples of 8, to offsets N, 18, h, w."""
        levels = []
        for down, attend in zip(self.downs, self.attentions, strict=True):
            x = attend(F.leaky_relu(down(x), 0.1))
            levels.append(x)
        levels.pop()
        for up in self.ups:
            x = F.leaky_relu(up(x), 0.1)
            if levels:
                x = x + levels.pop()
        return self.offsets(F.leaky_relu(self.widen(x), 0.1))


class NonLocal(nn.Module):
    """Non-local block, embedded Gaussian (Wang et al., CVPR 2018), with half the channels inside."""

    def __init__(self, features: int):
        super().__init__()
        self.theta, self.phi, self.g = (conv1x1(features, features // 2) for _ in range(3))
        self.out = conv1x1(features // 2, features)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map N, C, h, w to the same shape."""
        # One head, and contiguous: else PyTorch holds the positions' scores with one another, quadratic in pixels.
        maps = (conv(x).flatten(2).mT.unsqueeze(1).contiguous() for conv in (self.theta, self.phi, self.g))
        gathered = F.scaled_dot_product_attention(*maps, scale=1.0).squeeze(1)
        return x + self.out(gathered.mT.unflatten(2, x.shape[-2:]))


def fit(image: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle of a larger image, or a smaller one amid zeros: resizing would change the scale of its texture."""
    sides = []
    for have, want in zip(image.shape[-2:], size, strict=True):
        first = max(0, have - want) // 2
        sides.append((first, min(have, want), max(0, want - have) // 2))
    (top, height, above), (left, width, before) = sides
    image = image[..., top : top + height, left : left + width]
    return F.pad(image, (before, size[1] - width - before, above, size[0] - height - above))
