"""MASA-SR (Lu et al., CVPR 2021)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as F

from extracter.models.blocks import ResidualBlock, conv3x3, upsample
from extracter.models.refsr import RefSR

_BLOCK = 8  # side of a block of LR pixels, for each of which a region of the reference is chosen
_REGION = 1.5  # half a region's side, in the reference's share of a block
_DILATIONS = (1, 2, 3)


class MASA(RefSR, PyTorchModelHubMixin, license="mit"):
    """Coarse-to-fine matching by blocks, spatial adaptation and dual residual aggregation; 4,028,291 weights.

    Its spatial adaptation takes mean and deviation over the whole image, so a part of an image gives another result.

    Args:
        features: channels throughout.
        blocks: residual blocks of the encoder's levels, of the decoder's on the way up, and behind the textures at 1x,
            2x and 4x.

    Example:
        >>> MASA(features=8, blocks=(1, 1, 1, 1, 1)).padded(13)
        16
    """

    def __init__(self, features: int = 64, blocks: Sequence[int] = (4, 2, 12, 8, 4)):
        super().__init__(bicubic_skip=False)
        self.encoder = Encoder(features, blocks[0])
        self.joins = nn.ModuleList(conv3x3(features if n == 0 else 2 * features, features) for n in range(3))
        self.rises = nn.ModuleList(_blocks(features, blocks[1]) for _ in range(3))
        self.adapt = SpatialAdaptation(features)  # one for the three scales
        self.merge = conv3x3(2 * features, features)
        self.aggregations = nn.ModuleList(DualAggregation(features) for _ in range(2))
        self.bodies = nn.ModuleList(_blocks(features, n) for n in blocks[2:])
        self.tail = conv3x3(features, 3)
        self.apply(_initialise)
        nn.init.zeros_(self.tail.weight)  # training begins at bicubic

    def padded(self, side: int) -> int:
        """The least multiple of 8: LR is cut into blocks, and halved twice."""
        return -(-side // _BLOCK) * _BLOCK

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
        return 2 * (self._decode(content, _choose(found)) + upsample(lr, 4)) - 1

    def _decode(self, content: list[Tensor], textures: list[Tensor]) -> Tensor:
        """RGB in [0, 1] less the bicubic enlargement; both lists finest first."""
        x = self.rises[0](F.relu(self.joins[0](content[2])))
        for join, rise, level in zip(self.joins[1:], self.rises[1:], (content[1], content[0]), strict=True):
            x = rise(F.relu(join(torch.cat((double(x), level), 1))))
        x = self.bodies[0](F.relu(self.merge(torch.cat((self.adapt(x, textures[2]), x), 1))))
        for number, (aggregate, body) in enumerate(zip(self.aggregations, self.bodies[1:], strict=True)):
            x = body(aggregate(x, self.adapt(double(x), textures[1 - number])))
        return self.tail(x)


class Encoder(nn.Module):
    """Features of an image at full, half and quarter size."""

    def __init__(self, features: int, blocks: int):
        super().__init__()
        self.convs = nn.ModuleList(conv3x3(features if n else 3, features, 2 if n else 1) for n in range(3))
        self.blocks = nn.ModuleList(_blocks(features, blocks) for _ in range(3))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map N, 3, H, W to three maps, finest first."""
        levels = []
        for conv, blocks in zip(self.convs, self.blocks, strict=True):
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
    """SAM: gives the reference's features the mean and deviation of the LR's, and what it learns beside them."""

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
            statistics = Statistics(*torch.std_mean(lr, (2, 3), keepdim=True), *_variance_and_mean(ref))
        deviation, mean, variance, middle = statistics
        normalised = (ref - middle) * (variance + 1e-5).rsqrt()
        return normalised * (self.gamma(style) + deviation) + self.beta(style) + mean


def _variance_and_mean(x: Tensor) -> tuple[Tensor, Tensor]:
    return torch.var_mean(x, (2, 3), correction=0, keepdim=True)


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


class Warped(NamedTuple):
    """What one reference gives.

    Attributes:
        score: of the coarse match of each block, N, blocks down, blocks across.
        textures: N, C, s h, s w for s = 4, 2, 1, weighted with the scores of the fine matches.
    """

    score: Tensor
    textures: list[Tensor]


def warp(query: Tensor, key: Tensor, values: Sequence[Tensor]) -> Warped:
    """Match each block of LR coarsely to a region of the reference, each pixel within it finely, and copy textures.

    Args:
        query: features of LR, N, C, h, w; h and w multiples of 8.
        key: of the reference at a quarter of its size, N, C, h_ref, w_ref.
        values: of the reference, N, C, s h_ref, s w_ref for s = 4, 2, 1.
    """
    down, across = query.shape[-2] // _BLOCK, query.shape[-1] // _BLOCK
    blocks = _cut_blocks(query)  # N, B, C, 10, 10
    with torch.no_grad():
        score, centre = _coarse(blocks, key)
    height, width = (
        min(2 * int(side // (2 * count) * _REGION) + 3, side)
        for side, count in zip(key.shape[-2:], (down, across), strict=True)
    )
    top = (centre // key.shape[-1] - height // 2).clamp(0, key.shape[-2] - height)
    left = (centre % key.shape[-1] - width // 2).clamp(0, key.shape[-1] - width)

    def regions(x: Tensor, scale: int) -> Tensor:
        return _cut_regions(x, scale * top, scale * left, scale * height, scale * width)

    fine, chosen = _fine(blocks.flatten(0, 1), regions(key, 1))
    textures = []
    for value, scale in zip(values, (4, 2, 1), strict=True):
        copied = _copy(regions(value, scale), chosen, fine, scale)  # N B, C, 8 s, 8 s
        copied = copied.unflatten(0, (len(query), down, across)).permute(0, 3, 1, 4, 2, 5)
        textures.append(copied.flatten(4, 5).flatten(2, 3))
    return Warped(score.unflatten(1, (down, across)), textures)


def compared_pairs(height: int, width: int) -> list[tuple[int, int]]:
    """Queries and keys of the coarse and of the fine matches, for LR and a reference of four times its size."""
    blocks = (height // _BLOCK) * (width // _BLOCK)
    sides = [2 * int(side // (2 * (side // _BLOCK)) * _REGION) + 1 for side in (height, width)]
    return [(blocks, height * width), (height * width, sides[0] * sides[1])]


def _cut_blocks(x: Tensor) -> Tensor:
    """Blocks with a margin of one pixel, N, B, C, 10, 10; beyond the image its edge is repeated."""
    # By slices, since `pad`'s gradient is not deterministic on CUDA.
    x = torch.cat((x[:, :, :1], x, x[:, :, -1:]), 2)
    x = torch.cat((x[..., :1], x, x[..., -1:]), 3)
    return x.unfold(2, _BLOCK + 2, _BLOCK).unfold(3, _BLOCK + 2, _BLOCK).permute(0, 2, 3, 1, 4, 5).flatten(1, 2)


def _coarse(blocks: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Best pixel of the key for the middle of each block, by three sizes of neighbourhood: scores and indices, N, B."""
    middle = (_BLOCK + 2) // 2
    total: Tensor | float = 0.0
    for dilation in _DILATIONS:
        around = slice(middle - dilation, middle + dilation + 1, dilation)
        queries = F.normalize(blocks[..., around, around].flatten(2), dim=2)
        keys = F.normalize(F.unfold(key, 3, dilation=dilation, padding=dilation), dim=1)
        total = total + queries @ keys
    best = total.max(2)
    return best.values, best.indices


def _cut_regions(x: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """Regions of one size, N B, C, height, width, of N, C, H, W; top and left are N, B."""
    rows = top.unsqueeze(2) + torch.arange(height, device=x.device)  # N, B, height
    columns = left.unsqueeze(2) + torch.arange(width, device=x.device)
    batch, count = top.shape
    pixels = (rows.unsqueeze(3) * x.shape[3] + columns.unsqueeze(2)).flatten(1)  # N, B height width
    cut = x.flatten(2).gather(2, pixels.unsqueeze(1).expand(-1, x.shape[1], -1))
    return cut.view(batch, -1, count, height, width).transpose(1, 2).flatten(0, 1)


def _fine(blocks: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
    """Best 3 x 3 patch of a block's region for each of its pixels: scores (differentiable) and indices, N B, 64."""
    queries = F.normalize(F.unfold(blocks, 3), dim=1)
    keys = F.normalize(F.unfold(_at_least(regions), 3), dim=1)
    with torch.no_grad():
        chosen = (queries.mT @ keys).max(2).indices
    matched = keys.gather(2, chosen.unsqueeze(1).expand(-1, keys.shape[1], -1))
    return (queries * matched).sum(1), chosen


def _copy(regions: Tensor, chosen: Tensor, scores: Tensor, scale: int) -> Tensor:
    """The matched patches, averaged where they overlap, times the scores: N B, C, 8 s, 8 s."""
    window = 3 * scale
    patches = F.unfold(_at_least(regions, scale), window, stride=scale)
    patches = patches.gather(2, chosen.unsqueeze(1).expand(-1, patches.shape[1], -1))
    size, fold = (_BLOCK * scale,) * 2, {"kernel_size": window, "padding": scale, "stride": scale}
    copied = F.fold(patches, size, **fold)
    cover = F.fold(torch.ones_like(patches[:1, : window**2]), size, **fold)
    soft = scores.view(-1, 1, _BLOCK, _BLOCK)
    for _ in range(scale.bit_length() - 1):
        soft = double(soft)
    return copied / cover * soft


def _at_least(regions: Tensor, scale: int = 1) -> Tensor:
    """Zeros below and right of regions that would not hold one patch."""
    down, right = (max(0, 3 * scale - side) for side in regions.shape[-2:])
    return F.pad(regions, (0, right, 0, down)) if down or right else regions


def _choose(found: list[Warped]) -> list[Tensor]:
    """The textures of the reference with the best score, block by block; of equal ones the first's."""
    best, textures = found[0]
    for score, others in found[1:]:
        better = score > best
        best = torch.where(better, score, best)
        sizes = [_BLOCK * scale for scale in (4, 2, 1)]
        masks = [better.unsqueeze(1).repeat_interleave(n, 2).repeat_interleave(n, 3) for n in sizes]
        textures = [torch.where(*three) for three in zip(masks, others, textures, strict=True)]
    return textures


def double(x: Tensor) -> Tensor:
    """Bilinear enlargement by 2, as `interpolate` without aligned corners, with a deterministic gradient on CUDA."""
    for dim in (2, 3):
        side = x.shape[dim]
        before = torch.cat((x.narrow(dim, 0, 1), x.narrow(dim, 0, side - 1)), dim)
        behind = torch.cat((x.narrow(dim, 1, side - 1), x.narrow(dim, side - 1, 1)), dim)
        both = (0.25 * before + 0.75 * x, 0.75 * x + 0.25 * behind)
        x = torch.stack(both, dim + 1).flatten(dim, dim + 1)
    return x


def _blocks(features: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(features) for _ in range(count)))


def _initialise(module: nn.Module) -> None:
    """First weights as published: a quarter of Kaiming's variance, a tenth of that in residual blocks, zeros in SAM."""
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
