"""Search and Transfer Module (section 3.2, Fig. 2)."""

from collections.abc import Sequence

from torch import Tensor, nn

from extracter.models.search import Matches, SearchConfig, search
from extracter.models.transfer import transfer


class SearchTransfer(nn.Module):
    """Search on the deepest level, transfer on all of them.

    Args:
        u: matches kept for each query.
        config: patches, strategy and memory of the search; may be replaced at any time, weights do not depend on it.
    """

    def __init__(self, u: int, config: SearchConfig):
        super().__init__()
        self.u = u
        self.config = config

    def forward(
        self, query: Tensor, keys: Sequence[Tensor], values: Sequence[Sequence[Tensor]]
    ) -> tuple[Matches, list[list[Tensor]]]:
        """Match and copy.

        Args:
            query: N, C, h, w: DFE3(LR_up).
            keys: DFE3(Ref_du) of each reference.
            values: for each reference its levels DFE1..3(Ref), finest first.

        Returns:
            The matches, and textures by level (coarsest first) and rank: N, C_level, scale h, scale w.
        """
        matches = search(query, keys, self.u, self.config)
        size = (query.shape[-2], query.shape[-1])
        textures = [
            transfer([value[level] for value in values], matches.indices, size, scale, self.config)
            for level, scale in ((2, 1), (1, 2), (0, 4))
        ]
        return matches, textures

    def soft_attention(self, matches: Matches, size: tuple[int, int]) -> list[Tensor]:
        """Scores S_i as maps over the query patches, one for each rank: N, 1, rows, columns."""
        rows, columns = (self.config.count(side) for side in size)
        return [scores.view(-1, 1, rows, columns) for scores in matches.scores.unbind(1)]
