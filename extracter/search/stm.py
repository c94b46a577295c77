"""Search and Transfer Module (section 3.2, Fig. 2)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from extracter.search.align import align
from extracter.search.copies import Place, prefer_copies
from extracter.search.search import Matches, SearchConfig, search
from extracter.search.transfer import coverage, transfer


class SearchTransfer(nn.Module):
    """Search on the deepest level, transfer on all of them.

    Args:
        u: matches kept for each query.
        config: patches, strategy and memory of the search; may be replaced at any time, weights do not depend on it.
        constant_coverage: overlaps are averaged as if nine patches met everywhere, which at the image's edges they do
            not; the networks that do so were trained with it.
        repeats: stage two keeps a key as often as stage one found it; see `with_repeats`.
        align: move each match by whole pixels before its patch is copied; see `extracter.search.align`.
    """

    def __init__(
        self,
        u: int,
        config: SearchConfig,
        constant_coverage: bool = False,
        repeats: bool = False,
        align: bool = False,
    ):
        super().__init__()
        self.align = align
        self.constant_coverage = constant_coverage
        self.repeats = repeats
        self.u = u
        self.config = config

    def forward(
        self,
        query: Tensor,
        keys: Sequence[Tensor],
        values: Sequence[Sequence[Tensor]],
        images: tuple[Tensor, Sequence[Tensor]] | None = None,
        places: Sequence[Place] = (),
    ) -> tuple[Matches, list[list[Tensor]]]:
        """Match and copy.

        Args:
            query: N, C, h, w: DFE3(LR_up).
            keys: DFE3(Ref_du) of each reference.
            values: for each reference its levels DFE1..3(Ref), finest first.
            images: LR_up and each Ref_du, which alignment compares.
            places: of registered copies among the references, see `extracter.search.copies`; empty for none.

        Returns:
            The matches, and textures by level (coarsest first) and rank: N, C_level, scale h, scale w.
        """
        matches = search(query, keys, self.u, self.config)
        if self.repeats:
            matches = with_repeats(matches)
        if any(places):
            matches = prefer_copies(matches, query, keys, places, self.config.stride)
        if self.align:
            if images is None:
                raise ValueError("alignment compares LR_up with each Ref_du: pass them as `images`")
            matches = align(*images, matches, self.config)
        size = (query.shape[-2], query.shape[-1])
        textures = [
            transfer([value[level] for value in values], matches.indices, size, scale, self.config, matches.offsets)
            for level, scale in ((2, 1), (1, 2), (0, 4))
        ]
        if self.constant_coverage:
            share = coverage(*(self.config.count(side) for side in size), query.device) / 9
            if not self.config.has_blocks:
                raise ValueError("nine patches meet only where k = 3s and p = s")
            textures = [
                [x * F.interpolate(share.to(x)[None, None], x.shape[-2:]) for x in of_level] for of_level in textures
            ]
        return matches, textures

    def soft_attention(self, matches: Matches, size: tuple[int, int]) -> list[Tensor]:
        """Scores S_i as maps over the query patches, one for each rank: N, 1, rows, columns."""
        rows, columns = (self.config.count(side) for side in size)
        return [scores.view(-1, 1, rows, columns) for scores in matches.scores.unbind(1)]


def with_repeats(matches: Matches) -> Matches:
    """Emulate a second stage that searches the first one's results without removing duplicates.

    A key that was the best of m queries then fills m ranks of each query that takes it. Rank 0 is the same in both
    stages, so it says how often each key was found.
    """
    indices, scores = matches.indices, matches.scores
    times = torch.zeros(indices.shape[0], matches.keys, dtype=torch.long, device=indices.device)
    times.scatter_add_(1, indices[:, 0], torch.ones_like(indices[:, 0]))
    last = times.gather(1, indices.flatten(1)).view(indices.shape).cumsum(1)  # ranks that are taken up so far
    ranks = torch.arange(indices.shape[1], device=indices.device).view(1, 1, -1, 1)
    source = (last.unsqueeze(2) <= ranks).sum(1).clamp(max=indices.shape[1] - 1)  # N, u, Q
    return Matches(indices.gather(1, source), scores.gather(1, source), matches.keys)
