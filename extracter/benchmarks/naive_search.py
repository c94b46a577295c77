"""Search and transfer as texture transformers usually implement them: the baseline of `extracter bench`.

Every quantity of the equations is materialised: all patches, both correlations, and for each rank and level all patches
of the reference and their overlapping copies. Only the benchmark uses this module.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from extracter.search.search import Matches
from extracter.search.stm import SearchTransfer
from extracter.search.transfer import transfer_patches


class UnfoldSearchTransfer(SearchTransfer):
    """`SearchTransfer` written as the equations are, for a batch of one. It finds what `repeats=True` finds.

    The order of equal scores is that of `topk`, which is unspecified.
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
        """Find the best u keys among all (Eq. 4), or by a second correlation among each query's best key (Eq. 5)."""
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
