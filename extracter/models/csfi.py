"""Fusion of textures (Eq. 7) inside Cross-Scale Feature Integration (section 3.3; TTSR, Yang et al. 2020)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from extracter.models.blocks import ResidualStage, add_reusing_, conv1x1, conv3x3, resize, upsample


class Fusion(nn.Module):
    """F_TT = F + sum_i Conv_i(Concat(F, T_i * S_i)) * S_i at one level (Eq. 7).

    Args:
        features: channels of F.
        channels: channels of the textures.
        textures: u, ranks of matches, each with its own convolution.
        weigh: multiply T_i by S_i inside the concatenation; off in TTSR.
    """

    def __init__(self, features: int, channels: int, textures: int, weigh: bool = True):
        super().__init__()
        self.convs = nn.ModuleList(conv3x3(features + channels, features) for _ in range(textures))
        self.weigh = weigh

    def forward(self, x: Tensor, textures: Sequence[Tensor], soft: Sequence[Tensor]) -> Tensor:
        """Add the textures to x, N, features, H, W.

        Args:
            x: F.
            textures: T_i, each N, channels, H, W.
            soft: S_i, each N, 1, rows, columns; resized to H, W. Either u of them, or 2u: those that multiply the
                textures, then those that multiply the convolutions' results.
        """
        fused, u = x, len(self.convs)
        for conv, texture, inner, outer in zip(self.convs, textures, soft[:u], soft[-u:], strict=True):
            weight = resize(outer, (x.shape[-2], x.shape[-1]))
            of_texture = weight if inner is outer else resize(inner, (x.shape[-2], x.shape[-1]))
            # In x's precision, which is the convolution's.
            taken = (texture * of_texture if self.weigh else texture).to(x.dtype)
            fused = fused + conv(torch.cat((x, taken), 1)) * weight
        return fused

    def alone(self, x: Tensor, weights: Tensor) -> Tensor:
        """What `forward` returns without a reference: textures are 0, and each S_i is one number.

        Convolutions are linear, so their weighted sum is a single convolution with the weighted sum of their kernels.
        It equals them up to rounding and takes a u-th of the time.

        Args:
            x: F, N, features, H, W.
            weights: S_i, u.
        """
        convs = list(zip(weights, self.convs, strict=True))
        kernel = torch.stack([w * conv.weight[:, : x.shape[1]] for w, conv in convs]).sum(0)
        bias = torch.stack([w * conv.bias for w, conv in convs]).sum(0)
        return x + F.conv2d(x, kernel, bias, padding=1)


class Exchange(nn.Module):
    """Each scale takes in all others: bicubic and 1 x 1 on the way up, strided 3 x 3 on the way down."""

    def __init__(self, features: int, scales: int):
        super().__init__()
        self.ups = nn.ModuleDict()
        self.downs = nn.ModuleDict()
        for source in range(scales):
            for target in range(scales):
                if source < target:
                    self.ups[f"{source}_{target}"] = conv1x1(features, features)
                elif source > target:
                    steps = (
                        m
                        for _ in range(source - target)
                        for m in (conv3x3(features, features, 2), nn.ReLU(inplace=True))
                    )
                    self.downs[f"{source}_{target}"] = nn.Sequential(*steps)
        self.merges = nn.ModuleList(conv3x3(scales * features, features) for _ in range(scales))

    def forward(self, scales: Sequence[Tensor]) -> list[Tensor]:
        """Map maps of doubling size, coarsest first, to maps of the same sizes."""
        merged = []
        for target, merge in enumerate(self.merges):
            taken = [scales[target]]
            for source, x in enumerate(scales):
                if source < target:
                    enlarged = upsample(x, 2 ** (target - source))
                    taken.append(F.relu(self.ups[f"{source}_{target}"](enlarged), inplace=True))
                elif source > target:
                    taken.append(self.downs[f"{source}_{target}"](x))
            merged.append(F.relu(merge(torch.cat(taken, 1)), inplace=True))
        return merged


class PixelShuffleUp(nn.Module):
    """conv to four times the channels, pixel shuffle, ReLU: N, C, H, W to N, C, 2H, 2W."""

    def __init__(self, features: int):
        super().__init__()
        self.conv = conv3x3(features, 4 * features)

    def forward(self, x: Tensor) -> Tensor:
        """Double the size of x."""
        return F.relu(F.pixel_shuffle(self.conv(x), 2), inplace=True)


class CSFI(nn.Module):
    """Residual stages on one, two and three scales with an exchange before each, and textures fused in at each scale.

    Args:
        features: channels throughout.
        blocks: residual blocks of each branch in the three stages: 16, 8, 4 in the paper.
        channels: channels of the textures, coarsest first: 256, 128, 64 with VGG19.
        textures: u.
        weigh: see `Fusion`.
    """

    def __init__(
        self, features: int, blocks: Sequence[int], channels: Sequence[int], textures: int, weigh: bool = True
    ):
        super().__init__()
        self.fusions = nn.ModuleList(Fusion(features, c, textures, weigh) for c in channels)
        self.ups = nn.ModuleList(PixelShuffleUp(features) for _ in range(2))
        self.exchanges = nn.ModuleList(Exchange(features, scales) for scales in (2, 3))
        self.stages = nn.ModuleList(
            nn.ModuleList(ResidualStage(features, n) for _ in range(scales)) for scales, n in enumerate(blocks, 1)
        )
        self.merge_ups = nn.ModuleList(conv1x1(features, features) for _ in range(2))
        self.merge = conv3x3(3 * features, features)

    def forward(
        self, x: Tensor, textures: Sequence[Sequence[Tensor]] | None, soft: Sequence[Tensor] | Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Integrate textures into x.

        Args:
            x: F = IFE(LR), N, features, h, w.
            textures: by level (coarsest first) and rank, as `SearchTransfer` gives them; None for textures of 0.
            soft: S_i, N, 1, rows, columns; see `Fusion`. Without textures one weight for each rank, u.

        Returns:
            x_TT, N, features, 4h, 4w; and the synthesised textures T_3, T_2, T_1 at h, 2h, 4h.
        """
        scales: list[Tensor] = []
        for stage, fusion in enumerate(self.fusions):
            incoming = self.ups[stage - 1](scales[-1]) if stage else x
            scales.append(fusion.alone(incoming, soft) if textures is None else fusion(incoming, textures[stage], soft))
            mixed = self.exchanges[stage - 1](scales) if stage else scales
            residuals = (branch(m) for branch, m in zip(self.stages[stage], mixed, strict=True))
            scales = [add_reusing_(x, residual) for x, residual in zip(scales, residuals, strict=True)]
        coarse, middle, fine = scales
        enlarged = [
            F.relu(conv(upsample(x, f)), inplace=True)
            for conv, x, f in zip(self.merge_ups, (coarse, middle), (4, 2), strict=True)
        ]
        return F.relu(self.merge(torch.cat((fine, *enlarged), 1)), inplace=True), scales
