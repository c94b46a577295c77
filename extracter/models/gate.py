"""The gate: how far each match is trusted, from the evidence that alignment found. Not in the paper (`model.gate`)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from extracter.models.blocks import conv3x3
from extracter.search.align import EVIDENCE
from extracter.search.search import Matches, SearchConfig

# Channels besides each match's evidence: LR itself and its local contrast.
_IMAGE = 4
# Queries on each side of a query over which trust is averaged.
SURROUND = 6


class Gate(nn.Module):
    """Replaces the scores S_i of Eq. 7 by learned weights in [0, 1], so that a useless reference can add nothing.

    A score alone cannot tell a right match from the best of many wrong ones. The gate sees, for each query and rank,
    the score and the evidence of `extracter.search.align` in a neighbourhood of 7 x 7 queries, and what LR shows there.

    With `trust` a trained network works without a reference, too: textures are 0 and fusion has the weights `idle`.
    The same happens where a reference is useless. The largest weight of each query is averaged over 13 x 13 queries;
    below the first bound the reference counts as useless, from the second bound on the weights are the gate's own, and
    in between the two are mixed.

    Args:
        textures: u, ranks of matches.
        features: channels inside.
        trust: the two bounds; None: the gate's own weights everywhere, as always while the gate is trained.
        idle: a weight for each rank.

    Raises:
        ValueError: the bounds do not rise, or there is not one weight for each rank.
    """

    def __init__(
        self,
        textures: int,
        features: int = 32,
        trust: Sequence[float] | None = None,
        idle: Sequence[float] | None = None,
    ):
        super().__init__()
        if trust is not None and (len(trust) != 2 or trust[0] >= trust[1] or idle is None or len(idle) != textures):
            raise ValueError("`trust` takes two rising bounds, and `idle` one weight for each of the `textures`")
        self.trust = trust
        # A buffer, so that it is on the network's device: to bring it there at each use would make the host wait.
        weights = None if idle is None else torch.tensor(idle).view(1, -1, 1, 1)
        self.register_buffer("idle", weights, persistent=False)
        self.layers = nn.Sequential(
            conv3x3(textures * (1 + EVIDENCE) + _IMAGE, features),
            nn.ReLU(inplace=True),
            conv3x3(features, features),
            nn.ReLU(inplace=True),
            conv3x3(features, textures),
        )

    def forward(self, lr: Tensor, matches: Matches, config: SearchConfig) -> Tensor:
        """Weights of the matches, N, u, Q in [0, 1]; with `trust` N, 2u, Q, see `weigh`.

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
        return self.weigh(torch.cat((maps, image_evidence(lr, config.stride)), 1)).flatten(2)

    def weigh(self, maps: Tensor) -> Tensor:
        """Weights, from maps of the evidence, N, u (1 + EVIDENCE) + 4, rows, columns.

        Returns:
            N, u, rows, columns; with `trust` N, 2u, rows, columns: the weights that multiply the textures, then those
            that multiply the convolutions' results (see `Fusion`).
        """
        weights = self.layers(maps).sigmoid()
        is_trained = self.training and any(weight.requires_grad for weight in self.parameters())
        if self.trust is None or is_trained:
            return weights
        low, high = self.trust
        side = 2 * SURROUND + 1
        largest = F.avg_pool2d(weights.amax(1, keepdim=True), side, 1, SURROUND, count_include_pad=False)
        share = ((largest - low) / (high - low)).clamp(0, 1)
        return torch.cat((share * weights, self.idle + share * (weights - self.idle)), 1)


def image_evidence(lr: Tensor, stride: int) -> Tensor:
    """What LR shows at each query: its mean colour and local contrast, N, 4, rows, columns."""
    colour = F.avg_pool2d(lr, stride)
    grey = F.pad(lr.mean(1, keepdim=True), (stride,) * 4, mode="replicate")
    mean, square = (F.avg_pool2d(x, 3 * stride, stride) for x in (grey, grey.square()))
    # The square of the last grey level of 8 bits keeps the root's slope finite where LR is flat.
    contrast = ((square - mean.square()).clamp(min=0) + 127.5**-2).sqrt()
    return torch.cat((colour, contrast), 1)
