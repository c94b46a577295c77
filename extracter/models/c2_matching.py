"""C2-Matching (Jiang et al., CVPR 2021) and AMSA (Xia et al., AAAI 2022), which adds to it."""

from collections.abc import Callable, Sequence
from math import gcd
from types import MappingProxyType

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as F

from extracter.models.blocks import conv3x3, residual_blocks, resize
from extracter.models.deformable import DeformableConv
from extracter.models.matcher import Matcher, correspondences, enlarge_nearest, pre_offsets
from extracter.models.refsr import RefSR
from extracter.models.texture_transformer import texture_channels
from extracter.models.vgg import VGG19
from extracter.search.search import SearchConfig

# A deformable convolution with its offsets and mask, applied to a reference's features.
Sample = Callable[[DeformableConv, Tensor, Tensor], Tensor]
# Weight of the matching score where several references are merged; AMSA's rule.
_SHARPNESS = 10.0


class C2Matching(RefSR, PyTorchModelHubMixin, license="mit"):
    """Contrastive matching and dynamic aggregation; the defaults have 8,865,547 weights besides the frozen networks.

    Args:
        features: channels of the content and of the three levels' bodies.
        dfe_width: channels of the first level of VGG19 and of the matcher; 64 as published.
        blocks: residual blocks of the content extractor and of each body.
        memory: MiB for correlation scores; None sizes it from the device.

    Example:
        >>> C2Matching(features=8, dfe_width=16, blocks=1).groups
        2
    """

    borrowed = frozen = ("dfe.", "matcher.")
    uncompiled = frozenset({"matcher"})
    # Learning rates of the offsets, in shares of the others', by level: large offsets come from the small level.
    rates = MappingProxyType({"levels.0.offsets.": 0.01, "levels.1.offsets.": 0.1})
    aligned = False

    def __init__(self, features: int = 64, dfe_width: int = 64, blocks: int = 16, memory: float | None = None):
        super().__init__(bicubic_skip=False)
        self.search = SearchConfig(3, 1, 0, "direct", memory=memory)
        # Eight as published; with narrower features fewer, so that a group keeps its number of channels.
        self.groups = gcd(8, max(1, dfe_width // 8))
        self.matcher = Matcher(dfe_width)
        self.dfe = VGG19(depth=3, width=dfe_width)
        for part in (self.matcher, self.dfe):
            part.requires_grad_(False)
        self.content = nn.Sequential(conv3x3(3, features), nn.LeakyReLU(0.1), *residual_blocks(features, blocks))
        self.levels = nn.ModuleList(
            AggregationLevel(features, channels, blocks, self.groups, self.aligned)
            for channels in texture_channels(dfe_width)
        )
        self.ups = nn.ModuleList(conv3x3(features, 4 * features) for _ in range(2))
        self.tail = nn.Sequential(conv3x3(features, features // 2), nn.LeakyReLU(0.1), conv3x3(features // 2, 3))
        for part in (self.content, self.levels, self.ups, self.tail):
            part.apply(initialise_offsets)

    def padded(self, side: int) -> int:
        """At least one patch of the search."""
        return max(side, 3)

    def references(self, refs: list[Tensor]) -> list[Tensor]:
        """The images that textures are taken from."""
        return refs

    def super_resolve(self, lr: Tensor, lr_up: Tensor, refs: list[Tensor], refs_du: list[Tensor]) -> Tensor:
        """N, 3, 4h, 4w; several references are merged by their matching scores."""
        content = self.content((lr + 1) / 2)
        merged = merge([self._restore(content, lr_up, ref) for ref in self.references(refs)])
        base = F.interpolate((lr + 1) / 2, scale_factor=4, mode="bilinear")
        return 2 * (self.tail(merged) + base) - 1

    def _restore(self, x: Tensor, lr_up: Tensor, ref: Tensor) -> tuple[Tensor, Tensor]:
        """Features at full size with one reference, and its score there, N, 1, 4h, 4w."""
        # In float32 whatever the precision is, so that matches do not depend on it.
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            query, key = self.matcher(lr_up.float(), ref.float())
            flow, scores = correspondences(query, key, self.search)
            offsets = pre_offsets(flow)
            scores = enlarge_nearest(surround(scores), 4)
            values = self.dfe(ref)
        for number, (level, offset) in enumerate(zip(self.levels, offsets, strict=True)):
            x = level(x, values[2 - number], offset)
            if number < len(self.ups):
                x = F.leaky_relu(F.pixel_shuffle(self.ups[number](x), 2), 0.1)
        return x, scores


class AMSA(C2Matching, license="mit"):
    """C2-Matching whose offsets are estimated on the aligned reference, taken at several sizes; 9,749,084 weights.

    The patches are matched exhaustively where AMSA's own code takes PatchMatch over a pyramid.

    Args:
        features: channels of the content and of the three levels' bodies.
        dfe_width: channels of the first level of VGG19 and of the matcher; 64 as published.
        blocks: residual blocks of the content extractor and of each body.
        memory: MiB for correlation scores; None sizes it from the device.
        sizes: of the reference, in shares of its own.

    Example:
        >>> AMSA(features=8, dfe_width=4, blocks=1, sizes=(1.0, 0.5)).sizes
        (1.0, 0.5)
    """

    aligned = True
    rates = MappingProxyType(C2Matching.rates | {"levels.0.align_offsets.": 0.01, "levels.1.align_offsets.": 0.1})

    def __init__(
        self,
        features: int = 64,
        dfe_width: int = 64,
        blocks: int = 16,
        memory: float | None = None,
        sizes: Sequence[float] = (1.0,),
    ):
        super().__init__(features, dfe_width, blocks, memory)
        self.sizes = tuple(sizes)

    def references(self, refs: list[Tensor]) -> list[Tensor]:
        """Every reference at every size; at least three feature pixels each way."""
        return [
            resize(ref, tuple(max(12, round(size * side / 4) * 4) for side in ref.shape[-2:]))
            for ref in refs
            for size in self.sizes
        ]


class AggregationLevel(nn.Module):
    """Dynamic aggregation of the reference's features at one level, and a body of residual blocks.

    Args:
        features: channels of x.
        channels: of the reference's features.
        blocks: residual blocks.
        groups: of channels with offsets of their own.
        aligned: estimate the offsets on features that are already at their matches (AMSA).
    """

    def __init__(self, features: int, channels: int, blocks: int, groups: int, aligned: bool):
        super().__init__()
        self.offsets = offset_layers(features + channels, channels, groups)
        self.aggregate = DeformableConv(channels, channels)
        self.head = conv3x3(features + channels, features)
        self.body = residual_blocks(features, blocks)
        self.align_offsets = conv3x3(channels, 27) if aligned else None
        self.align = DeformableConv(channels, channels) if aligned else None

    def forward(self, x: Tensor, values: Tensor, offset: Tensor) -> Tensor:
        """Map x, N, features, H, W, to the same shape.

        Args:
            x: the result so far at this level's size.
            values: features of the reference, N, channels, H_ref, W_ref.
            offset: of the matches, N, 18, H, W; see `pre_offsets`.
        """
        beside = crop_or_pad(values, (x.shape[-2], x.shape[-1]))
        return self.aggregate_from(x, beside, lambda conv, offsets, mask: conv(values, offsets, mask), offset)

    def aggregate_from(self, x: Tensor, beside: Tensor, sample: Sample, offset: Tensor) -> Tensor:
        """As `forward`, of a reference that is not at hand as a whole.

        Args:
            x: N, features, H, W.
            beside: features of the reference at the places of x, N, channels, H, W; zeros outside.
            sample: a deformable convolution of the reference's features.
            offset: of the matches, N, 18, H, W.
        """
        if self.align is not None:
            learned, mask = _split(self.align_offsets(beside))
            beside = sample(self.align, learned + offset, mask)
        learned, mask = _split(self.offsets(torch.cat((x, beside.to(x.dtype)), 1)))
        groups = learned.shape[1] // 18
        taken = F.leaky_relu(sample(self.aggregate, learned + offset.repeat(1, groups, 1, 1), mask), 0.1)
        merged = F.leaky_relu(self.head(torch.cat((x, taken.to(x.dtype)), 1)), 0.1)
        return x + self.body(merged)


def offset_layers(inputs: int, channels: int, groups: int) -> nn.Sequential:
    """Three convolutions from `inputs` channels to the offsets and masks of deformable convolutions, 27 a group."""
    return nn.Sequential(
        conv3x3(inputs, channels),
        nn.LeakyReLU(0.1),
        conv3x3(channels, channels),
        nn.LeakyReLU(0.1),
        conv3x3(channels, 27 * groups),
    )


def merge(found: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Features with each reference, N, features, H, W, weighted by the softmax of their scores, N, 1, H, W."""
    maps, scores = zip(*found, strict=True)
    if len(maps) == 1:
        return maps[0]
    weights = (_SHARPNESS * torch.stack(scores)).softmax(0)
    return (weights * torch.stack(maps)).sum(0)


def crop_or_pad(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut below and right, or zeros there, up to a size."""
    x = x[..., : size[0], : size[1]]
    return F.pad(x, (0, size[1] - x.shape[-1], 0, size[0] - x.shape[-2]))


def _split(x: Tensor) -> tuple[Tensor, Tensor]:
    """Offsets, two thirds of the channels, in float32, since they may be large; and the mask, in [0, 1]."""
    offsets, mask = x.split((x.shape[1] // 3 * 2, x.shape[1] // 3), 1)
    return offsets.float() if x.dtype != torch.float64 else offsets, mask.sigmoid()


def surround(scores: Tensor) -> Tensor:
    """Scores of the patches of a map, N, 1, h - 2, w - 2, on the map: the outer ring repeats what is beside it."""
    return F.pad(scores, (1, 1, 1, 1), mode="replicate")


def initialise_offsets(module: nn.Module) -> None:
    """First weights as published: normal(0, 0.02), and zeros for the last convolution of a level's offsets."""
    if isinstance(module, (nn.Conv2d, DeformableConv)) and module.weight.requires_grad:
        nn.init.normal_(module.weight, 0, 0.02)
        nn.init.zeros_(module.bias)
    if hasattr(module, "aggregate"):
        for last in (module.offsets[-1], getattr(module, "align_offsets", None)):
            if last is not None:
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)
