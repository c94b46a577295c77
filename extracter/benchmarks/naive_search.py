"""Search and transfer as texture transformers usually write them: what `extracter bench` compares with.

Everything the equations name is laid out in memory: all patches, both correlations, and for each rank and level all
patches of the reference and their overlapping copies. No option leads here but the benchmark's.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from extracter.search.search import Matches
from extracter.search.stm import SearchTransfer
from extracter.search.transfer import transfer_patches


class UsualSearchTransfer(SearchTransfer):
    """`SearchTransfer` by the equations, for a batch of one: what is found equals `repeats=True`.

    Only `topk` leaves open which of equal scores comes first.
    """

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
        """The best u keys of all (Eq. 4), or of K', the best key of each query (Eq. 5), by a second correlation."""
        window = {"kernel_size": self.config.kernel, "padding": self.config.padding, "stride": self.config.stride}
        queries = F.normalize(F.unfold(query, **window), dim=1)  # 1, C k k, Q
        patches = F.normalize(torch.cat([F.unfold(key, **window) for key in keys], 2), dim=1).mT  # 1, K, C k k
        count = patches.shape[1]
        chosen = torch.arange(count, device=query.device)
        correlation = torch.bmm(patches, queries)  # 1, K, Q
        if self.config.strategy == "two_stage":
            chosen = correlation.argmax(1)[0]
            correlation = torch.bmm(patches[:, chosen], queries)  # 1, Q, Q
        scores, indices = correlation.topk(self.u, dim=1)
        return Matches(chosen[indices], scores, count)
