"""The gate: how far each match is trusted, from the evidence that alignment found. Not in the paper (`model.gate`)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from extracter.models.blocks import conv3x3
from extracter.search.align import EVIDENCE
from extracter.search.search import Matches, SearchConfig

# Channels besides each match's evidence: LR itself and its local contrast.
_IMAGE = 4


class Gate(nn.Module):
    """Replaces the scores S_i of Eq. 7 by learned weights in [0, 1], so that a useless reference can add nothing.

    A score alone cannot tell a right match from the best of many wrong ones. The gate sees, for each query and rank,
    the score and the evidence of `extracter.search.align` in a neighbourhood of 7 x 7 queries, and what LR shows there.

    Args:
        textures: u, ranks of matches.
        features: channels inside.
    """

    def __init__(self, textures: int, features: int = 32):
        super().__init__()
        self.layers = nn.Sequential(
            conv3x3(textures * (1 + EVIDENCE) + _IMAGE, features),
            nn.ReLU(inplace=True),
            conv3x3(features, features),
            nn.ReLU(inplace=True),
            conv3x3(features, textures),
        )

    def forward(self, lr: Tensor, matches: Matches, config: SearchConfig) -> Tensor:
        """Weights of the matches, N, u, Q in [0, 1].

        Args:
            lr: N, 3, h, w in [-1, 1].
            matches: of the search, aligned.
            config: patches of the search.

        Example:
            >>> gate = Gate(textures=3)
            >>> weights = gate(lr, matches, SearchConfig(3, 1, 1))  # doctest: +SKIP
        """
        rows, columns = config.count(lr.shape[-2]), config.count(lr.shape[-1])
        evidence = torch.cat((matches.scores.unsqueeze(2), matches.evidence), 2)
        maps = evidence.flatten(1, 2).unflatten(2, (rows, columns))
        return self.layers(torch.cat((maps, image_evidence(lr, config.stride)), 1)).sigmoid().flatten(2)


def image_evidence(lr: Tensor, stride: int) -> Tensor:
    """What LR shows at each query: its mean colour and local contrast, N, 4, rows, columns."""
    colour = F.avg_pool2d(lr, stride)
    grey = F.pad(lr.mean(1, keepdim=True), (stride,) * 4, mode="replicate")
    mean, square = (F.avg_pool2d(x, 3 * stride, stride) for x in (grey, grey.square()))
    # The square of the last grey level of 8 bits keeps the root's slope finite where LR is flat.
    contrast = ((square - mean.square()).clamp(min=0) + 127.5**-2).sqrt()
    return torch.cat((colour, contrast), 1)
