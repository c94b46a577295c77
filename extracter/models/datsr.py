"""DATSR (Cao et al., ECCV 2022): C2-Matching's matches in a U-net of Swin transformers."""

from math import gcd
from types import MappingProxyType

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.swin_transformer import ShiftedWindowAttention, SwinTransformerBlock

from extracter.models.blocks import conv3x3, residual_blocks
from extracter.models.c2_matching import crop_or_pad, initialise_offsets, merge, offset_layers, surround
from extracter.models.deformable import DeformableConv
from extracter.models.matcher import Matcher, correspondences, enlarge_nearest, pre_offsets
from extracter.models.refsr import RefSR
from extracter.models.vgg import VGG19
from extracter.search.search import SearchConfig

_WINDOW = 8  # side of a window of attention
_HEADS = 4
_GROUPS = 2  # of transformer blocks in a body
_REACH = 10.0  # pixels by which learned offsets move at most


class DATSR(RefSR, PyTorchModelHubMixin, license="mit"):
    """Deformable attention; the defaults have 18,026,971 weights besides the frozen networks.

    Its content extractor is in its released weights and in that number, but nothing is computed with it. Stochastic
    depth is left out, so that a training step follows from seed and number alone.

    Args:
        features: half the channels of the U-net.
        dfe_width: channels of the first level of VGG19 and of the matcher; 64 as published.
        blocks: of the content extractor twice, of each of the two groups of a body four times as many.
        memory: MiB for correlation scores; None sizes it from the device.

    Example:
        >>> DATSR(features=8, dfe_width=4, blocks=4).padded(13)
        16
    """

    borrowed = ("dfe.", "matcher.")
    frozen = (*borrowed, "content.")
    uncompiled = frozenset({"matcher"})
    # Learning rates of the offsets, as in C2-Matching.
    rates = MappingProxyType({"levels.2.offsets.": 0.01, "levels.1.offsets.": 0.1, "levels.3.offsets.": 0.1})

    def __init__(self, features: int = 64, dfe_width: int = 64, blocks: int = 16, memory: float | None = None):
        super().__init__(bicubic_skip=False)
        self.search = SearchConfig(3, 1, 0, "direct", memory=memory)
        width = 2 * features
        groups = gcd(8, max(1, dfe_width // 8))
        self.matcher = Matcher(dfe_width)
        self.dfe = VGG19(depth=3, width=dfe_width)
        self.content = nn.Sequential(conv3x3(3, width), nn.LeakyReLU(0.1), *residual_blocks(width, max(1, blocks // 2)))
        for part in (self.matcher, self.dfe, self.content):
            part.requires_grad_(False)
        self.head = conv3x3(3, width)
        self.levels = nn.ModuleList(
            AttentionLevel(width, multiple * dfe_width, max(1, blocks // 4), groups) for multiple in (1, 2, 4, 2, 1)
        )
        self.downs = nn.ModuleList(conv3x3(width, width, 2) for _ in range(2))
        self.ups = nn.ModuleList(conv3x3(width, 4 * width) for _ in range(2))
        self.tail = nn.Sequential(conv3x3(width, features), nn.LeakyReLU(0.1), conv3x3(features, 3))
        self.apply(initialise_offsets)

    def padded(self, side: int) -> int:
        """The least multiple of 8: windows of attention cover LR without remainder."""
        return -(-side // _WINDOW) * _WINDOW

    def super_resolve(self, lr: Tensor, lr_up: Tensor, refs: list[Tensor], refs_du: list[Tensor]) -> Tensor:
        """N, 3, 4h, 4w; several references are merged by their matching scores."""
        base = F.interpolate((lr + 1) / 2, scale_factor=4, mode="bilinear")
        head = self.head(base)
        merged = merge([self._restore(head, lr_up, ref) for ref in refs])
        return 2 * (self.tail(merged) + base) - 1

    def _restore(self, head: Tensor, lr_up: Tensor, ref: Tensor) -> tuple[Tensor, Tensor]:
        """Features at full size with one reference, and its score there, N, 1, 4h, 4w."""
        with torch.no_grad(), torch.autocast(head.device.type, enabled=False):
            found = Found.of(self.matcher, self.dfe, lr_up.float(), ref.float(), self.search)
        down_large, down_medium, up_small, up_medium, up_large = self.levels
        half = self.downs[0](down_large(head, head, found, 0))
        quarter = self.downs[1](down_medium(half, half, found, 1))
        x = self._enlarge(0, up_small(quarter, quarter, found, 2))
        x = self._enlarge(1, up_medium(x, x + half, found, 1))
        return up_large(x, x + head, found, 0), found.scores

    def _enlarge(self, number: int, x: Tensor) -> Tensor:
        return F.leaky_relu(F.pixel_shuffle(self.ups[number](x), 2), 0.1)


class Found:
    """What the match of an image with a reference gives to each level, finest 0.

    Attributes:
        values: features of the reference, N, C, H_ref, W_ref.
        beside: the same at the places of the image, N, C, H, W; zeros outside.
        warped: the same at the matches.
        offsets: of the taps, N, 18, H, W.
        similarities: of the matches, N, 1, H, W.
        scores: the finest similarities, with the outer ring filled.
    """

    def __init__(self, values: list[Tensor], flow: Tensor, scores: Tensor):
        self.values, self.scores = values, enlarge_nearest(surround(scores), 4)
        scales = (4, 2, 1)
        self.offsets = pre_offsets(flow, scales)
        whole = F.pad(flow, (0, 2, 0, 2))
        flows = [enlarge_nearest(whole, scale) * scale for scale in scales]
        self.similarities = [enlarge_nearest(F.pad(scores, (1, 1, 1, 1)), scale) for scale in scales]
        self.beside = [crop_or_pad(x, (f.shape[-2], f.shape[-1])) for x, f in zip(values, flows, strict=True)]
        self.warped = [displace(x, f) for x, f in zip(values, flows, strict=True)]

    @classmethod
    def of(cls, matcher: Matcher, dfe: VGG19, lr_up: Tensor, ref: Tensor, config: SearchConfig) -> "Found":
        """Match `lr_up` with `ref`."""
        query, key = matcher(lr_up, ref)
        return cls(dfe(ref), *correspondences(query, key, config))


class AttentionLevel(nn.Module):
    """Aggregation of the reference's features at one level, and transformer blocks.

    Args:
        width: channels of x.
        channels: of the reference's features.
        depth: blocks in each group of the body.
        groups: of channels with offsets of their own.
    """

    def __init__(self, width: int, channels: int, depth: int, groups: int):
        super().__init__()
        self.offsets = offset_layers(width + 2 * channels, channels, groups)
        self.aggregate = DeformableConv(channels, channels)
        self.head = conv3x3(width + channels, width)
        self.body = SwinBody(width, depth)

    def forward(self, x: Tensor, with_skip: Tensor, found: Found, level: int) -> Tensor:
        """Map x, N, width, H, W, to the same shape; `with_skip` is x with what was there on the way down."""
        beside, warped = (maps[level].to(x.dtype) for maps in (found.beside, found.warped))
        learned = self.offsets(torch.cat((x, warped, beside), 1))
        moves, mask = learned.split((learned.shape[1] // 3 * 2, learned.shape[1] // 3), 1)
        repeats = moves.shape[1] // 18
        moves = _REACH * moves.float().tanh() + found.offsets[level].repeat(1, repeats, 1, 1)
        mask = (mask * found.similarities[level]).sigmoid()
        taken = F.leaky_relu(self.aggregate(found.values[level], moves, mask), 0.1)
        merged = F.leaky_relu(self.head(torch.cat((with_skip, taken.to(x.dtype)), 1)), 0.1)
        return x + self.body(merged)


class WindowAttention(ShiftedWindowAttention):
    """Attention whose first weights are drawn without rejection, so that it can be built where there are no numbers."""

    def define_relative_position_bias_table(self) -> None:
        """A bias for each relative position and head."""
        count = (2 * self.window_size[0] - 1) * (2 * self.window_size[1] - 1)
        self.relative_position_bias_table = nn.Parameter(0.02 * torch.randn(count, self.num_heads))


class SwinBody(nn.Module):
    """Groups of transformer blocks with attention in windows of 8 x 8, each closed by a convolution and skipped."""

    def __init__(self, width: int, depth: int):
        super().__init__()
        self.norm_in, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.groups = nn.ModuleList(
            nn.Sequential(*(_block(width, shift=n % 2 * _WINDOW // 2) for n in range(depth))) for _ in range(_GROUPS)
        )
        self.closings = nn.ModuleList(conv3x3(width, width) for _ in range(_GROUPS))

    def forward(self, x: Tensor) -> Tensor:
        """Map N, C, H, W to the same shape; sides are multiples of 8."""
        x = self.norm_in(x.permute(0, 2, 3, 1))
        for blocks, closing in zip(self.groups, self.closings, strict=True):
            x = x + closing(blocks(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.norm_out(x).permute(0, 3, 1, 2)


def _block(width: int, shift: int) -> SwinTransformerBlock:
    window, by = [_WINDOW, _WINDOW], [shift, shift]
    return SwinTransformerBlock(width, _HEADS, window, by, mlp_ratio=2.0, attn_layer=WindowAttention)


def displace(x: Tensor, flow: Tensor) -> Tensor:
    """Pixels of N, C, H, W at their displacements: the result, N, C, h, w, has x(y + f_y, x + f_x), 0 outside.

    Args:
        x: of any size.
        flow: N, 2, h, w: whole pixels (y, x).
    """
    height, width = x.shape[-2:]
    rows = flow[:, 0].long() + torch.arange(flow.shape[-2], device=x.device).view(-1, 1)
    columns = flow[:, 1].long() + torch.arange(flow.shape[-1], device=x.device)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    places = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    taken = x.flatten(2).gather(2, places.flatten(1).unsqueeze(1).expand(-1, x.shape[1], -1))
    return taken.unflatten(2, flow.shape[-2:]) * inside.unsqueeze(1)
