"""Search and transfer as texture transformers usually write them: what `extracter bench` compares with.

Everything the equations name is laid out in memory: all patches, both correlations, and for each rank and level all
patches of the reference and their overlapping copies. No option leads here but the benchmark's.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from extracter.models.search import Matches
from extracter.models.stm import SearchTransfer
from extracter.models.transfer import transfer_patches


class UsualSearchTransfer(SearchTransfer):
    """`SearchTransfer` by the equations, for a batch of one; `topk` leaves open which of equal scores comes first."""

    def forward(
        self, query: Tensor, keys: Sequence[Tensor], values: Sequence[Sequence[Tensor]]
    ) -> tuple[Matches, list[list[Tensor]]]:
        """Unfold, normalise, bmm and topk (Eq. 4 to 6); unfold, gather and fold with coverage (Eq. 7)."""
        matches = self.match(query, keys)
        size = (query.shape[-2], query.shape[-1])
        textures = [
            [
                transfer_patches([value[level] for value in values], chosen, size, scale, self.config)
                for chosen in matches.indices.unbind(1)
            ]
            for level, scale in ((2, 1), (1, 2), (0, 4))
        ]
        return matches, textures

    def match(self, query: Tensor, keys: Sequence[Tensor]) -> Matches:
        """The best u keys: of all, or of those K' that are some query's best, by a second correlation."""
        window = {"kernel_size": self.config.kernel, "padding": self.config.padding, "stride": self.config.stride}
        queries = F.normalize(F.unfold(query, **window), dim=1)  # 1, C k k, Q
        patches = F.normalize(torch.cat([F.unfold(key, **window) for key in keys], 2), dim=1).mT  # 1, K, C k k
        chosen = torch.arange(patches.shape[1], device=query.device)
        correlation = torch.bmm(patches, queries)  # 1, K, Q
        if self.config.strategy == "two_stage":
            chosen = correlation.argmax(1).unique()
            correlation = torch.bmm(patches[:, chosen], queries)
        scores, indices = correlation.topk(min(self.u, len(chosen)), dim=1)
        missing = self.u - indices.shape[1]
        indices = torch.cat((indices, indices[:, :1].expand(-1, missing, -1)), 1)
        return Matches(chosen[indices], F.pad(scores, (0, 0, 0, missing)), patches.shape[1])
