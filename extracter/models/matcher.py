"""The contrastive matching network of C2-Matching (Jiang et al., CVPR 2021), and where it says that textures lie."""

from collections.abc import Sequence

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as F

from extracter.models.vgg import VGG19
from extracter.search.search import SearchConfig, search


class Matcher(nn.Module, PyTorchModelHubMixin, license="mit"):
    """Two VGG16 up to conv3_1: one sees the enlarged LR image, one the reference in full resolution.

    Args:
        width: channels of the first stage; 64 in VGG16.

    Example:
        >>> query, key = Matcher(width=4)(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 64, 32))
        >>> query.shape, key.shape
        (torch.Size([1, 16, 8, 8]), torch.Size([1, 16, 16, 8]))
    """

    def __init__(self, width: int = 64):
        super().__init__()
        # Up to this layer VGG16 and VGG19 are built alike.
        self.query, self.key = VGG19(depth=3, width=width), VGG19(depth=3, width=width)
        for network in (self.query, self.key):
            del network.features[-1]  # the ReLU after conv3_1

    def forward(self, lr_up: Tensor, ref: Tensor) -> tuple[Tensor, Tensor]:
        """Features with the direction of each pixel's vector alone, its length being 1.

        Args:
            lr_up: N, 3, H, W in [-1, 1].
            ref: N, 3, H_ref, W_ref.

        Returns:
            N, 4 width, H // 4, W // 4 of each.
        """
        return self.describe(self.query, lr_up), self.describe(self.key, ref)

    @staticmethod
    def describe(network: VGG19, image: Tensor) -> Tensor:
        """The features of one of the two networks."""
        x = ((image + 1) / 2 - network.mean) / network.std
        return F.normalize(network.features(x), dim=1)


def correspondences(query: Tensor, key: Tensor, config: SearchConfig) -> tuple[Tensor, Tensor]:
    """Where the patch around each feature pixel of the query lies in the reference.

    Args:
        query: N, C, h, w; 3 or more each way.
        key: N, C, h_ref, w_ref.
        config: of the search; 3 x 3 patches at every pixel, without padding.

    Returns:
        The displacement (y, x) from each patch's first pixel to that of its match, N, 2, h - 2, w - 2; and the cosine
        of the two, N, 1, h - 2, w - 2.
    """
    matches = search(query, [key], 1, config)
    rows, columns = query.shape[-2] - 2, query.shape[-1] - 2
    found = matches.indices.view(-1, rows, columns)
    across = key.shape[-1] - 2
    y = found // across - torch.arange(rows, device=found.device).view(-1, 1)
    x = found % across - torch.arange(columns, device=found.device)
    return torch.stack((y, x), 1).to(query.dtype), matches.scores.view(-1, 1, rows, columns)


def pre_offsets(flow: Tensor, scales: Sequence[int] = (1, 2, 4)) -> list[Tensor]:
    """Displacements for the taps of deformable convolutions: tap (i, j) takes the vote of the patch that began there.

    Nine patches cover a pixel. The one whose first pixel is i rows above and j columns to the left of it has it at
    (i, j), where tap (i, j) lies; outside the image a vote is 0.

    Args:
        flow: N, 2, h - 2, w - 2, as `correspondences` gives it.
        scales: of the levels.

    Returns:
        For each scale s: N, 18, s h, s w, ordered tap, (y, x).
    """
    flow = F.pad(flow, (2, 2, 2, 2))
    height, width = flow.shape[-2] - 2, flow.shape[-1] - 2
    votes = [flow[..., 2 - i : 2 - i + height, 2 - j : 2 - j + width] for i in range(3) for j in range(3)]
    taps = torch.cat(votes, 1)
    return [enlarge_nearest(taps, scale) * scale for scale in scales]


def enlarge_nearest(x: Tensor, factor: int) -> Tensor:
    """Repeat each pixel of N, C, h, w: its gradient, unlike `interpolate`'s, is deterministic on CUDA."""
    return x.repeat_interleave(factor, 2).repeat_interleave(factor, 3) if factor > 1 else x
