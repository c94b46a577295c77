"""Search (section 3.2, Eq. 4 to 6): for each patch of the query, the best patches among all keys."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from extracter.errors import UserError
from extracter.search.approximate import search_approximate
from extracter.search.block_grid import grid_of, to_inner
from extracter.search.block_search import block_scores, search_blocks
from extracter.search.matched_scores import attach_gradient

# Bytes of a tile of scores on the CPU: beyond this nothing is gained.
_CPU_TILE = 2**20
# The paper has 3, 6 and 12. Aligning what larger patches transfer takes minutes for the smallest images.
MOST_KERNEL = 48


@dataclass(frozen=True)
class SearchConfig:
    """Patches are `kernel` x `kernel` windows every `stride` pixels of the deepest features, zero-padded.

    Attributes:
        kernel: k, side of a patch in feature pixels.
        stride: s.
        padding: p.
        strategy: `two_stage` keeps each query's best key and takes the top u among those keys (Eq. 5); `direct`
            takes the top u among all keys (Eq. 4).
        method: `dense` holds the whole correlation at once and transfers by unfold and fold, as the method is usually
            written; `chunked` holds as many rows of the correlation as `memory` allows; `blocks` takes the block
            search, which gives the same answer faster and never lays out patches, wherever k = 3s and p = s, and for
            one stage where k = 3s and p = 0; `approximate` misses the best key now and then, at a cost that grows with
            the pixels and not with their square (k = 3s and p = s).
        memory: MiB for correlation scores; None is 1024.
    """

    kernel: int = 6
    stride: int = 2
    padding: int = 2
    strategy: Literal["two_stage", "direct"] = "two_stage"
    method: Literal["blocks", "chunked", "dense", "approximate"] = "blocks"
    memory: float | None = None

    @classmethod
    def of_kernel(cls, kernel: int, **settings: Any) -> "SearchConfig":
        """Return the configuration for a kernel whose stride and padding are a third of it; see `with_kernel`."""
        return cls(**settings).with_kernel(kernel)

    def with_kernel(self, kernel: int) -> "SearchConfig":
        """Return this configuration with another kernel, and a stride and a padding of a third of the kernel.

        Raises:
            UserError: `kernel` is not among 3, 6, 9, ..., 48.
        """
        if kernel % 3 or not 3 <= kernel <= MOST_KERNEL:
            raise UserError(
                f"--kernel {kernel}: stride and padding are a third of it; allowed are 3, 6, 9, ..., {MOST_KERNEL}"
            )
        return replace(self, kernel=kernel, stride=kernel // 3, padding=kernel // 3)

    @property
    def has_blocks(self) -> bool:
        """Whether a patch is a 3 x 3 neighbourhood of s x s blocks."""
        return self.kernel == 3 * self.stride and self.padding == self.stride

    @property
    def has_inner_blocks(self) -> bool:
        """Whether a patch is such a neighbourhood and lies inside the features as a whole."""
        return self.kernel == 3 * self.stride and self.padding == 0

    def padded(self, size: int) -> int:
        """The least side of at least `size` feature pixels that patches cover without remainder."""
        size = max(size, self.kernel - 2 * self.padding, 1)
        return size + -(size + 2 * self.padding - self.kernel) % self.stride

    def count(self, size: int) -> int:
        """Patches along a side of `size` feature pixels."""
        return (size + 2 * self.padding - self.kernel) // self.stride + 1

    def patches(self, x: Tensor) -> int:
        """Patches of N, C, h, w."""
        return self.count(x.shape[-2]) * self.count(x.shape[-1])


class Matches(NamedTuple):
    """What a search finds.

    Attributes:
        indices: int64, N, u, Q: keys in falling order of score; several references count on from one another.
        scores: N, u, Q: cosine similarities in [-1, 1]. Where there are fewer keys than u, the missing ranks repeat
            the best key with score 0.
        keys: number of keys searched.
        offsets: int64, N, u, Q, 2: pixels of the image, down and right, by which each match is moved before it is
            copied; None where matches are not aligned. See `extracter.search.align`.
        evidence: float32, N, u, 4, Q: how well query and match agree there; None likewise.
    """

    indices: Tensor
    scores: Tensor
    keys: int
    offsets: Tensor | None = None
    evidence: Tensor | None = None


def search(query: Tensor, keys: Sequence[Tensor], u: int, config: SearchConfig) -> Matches:
    """Find the best `u` keys of every query patch (Eq. 4 to 6); ties go to the lower index.

    Indices carry no gradient, scores do. Where a gradient is wanted, the chosen scores are computed again from their
    patches, so nothing of the correlation is kept for backward; `dense` keeps all of it, as the plain definition does.

    Args:
        query: N, C, h, w features of LR_up; sides as `config.padded` gives them.
        keys: features of each Ref_du, N, C, any sides of that kind.
        u: matches for each query.
        config: patches and strategy.
    """
    if query.dtype in (torch.bfloat16, torch.float16):
        query, keys = query.float(), [key.float() for key in keys]  # products of the same numbers, faster and finer
    differentiable = torch.is_grad_enabled() and any(x.requires_grad for x in (query, *keys))
    one_stage = config.strategy == "direct" or u == 1
    if config.method in ("blocks", "approximate") and (config.has_blocks or (config.has_inner_blocks and one_stage)):
        found, indices = _search_blocks(query, keys, u, config, differentiable)
    else:
        found, indices = _search_patches(query, keys, u, config, differentiable)
    missing = found.isneginf()
    indices = torch.where(missing, indices[:, :1], indices)
    return Matches(indices, found.masked_fill(missing, 0), sum(config.patches(key) for key in keys))


def _search_blocks(
    query: Tensor, keys: Sequence[Tensor], u: int, config: SearchConfig, differentiable: bool
) -> tuple[Tensor, Tensor]:
    """Scores, -inf where there are fewer keys than u, and indices, N, u, Q, where patches are 3 x 3 blocks."""
    memory, two_stage, on_cpu = _memory(config.memory), config.strategy == "two_stage", _on_cpu(query)
    with torch.no_grad():
        if config.method == "approximate" and config.has_blocks:
            found, indices = search_approximate(query, keys, u, config.stride, memory, two_stage)
        else:
            tile_bytes = min(memory / 16, _CPU_TILE) if on_cpu else memory / 4
            found, indices = search_blocks(
                query, keys, u, config.stride, tile_bytes, two_stage, inner=config.has_inner_blocks
            )
    if differentiable and on_cpu:
        found = torch.where(found.isfinite(), block_scores(query, keys, indices, config.stride), found)
    elif differentiable:
        found = attach_gradient(found, query, keys, indices, config.stride)
    if config.has_inner_blocks:
        rows, columns = grid_of(query, config.stride)
        found, indices = (x.unflatten(2, (rows, columns))[..., 1:-1, 1:-1].flatten(2) for x in (found, indices))
        indices = to_inner(indices, [grid_of(key, config.stride) for key in keys])
    return found, indices


def _search_patches(
    query: Tensor, keys: Sequence[Tensor], u: int, config: SearchConfig, differentiable: bool
) -> tuple[Tensor, Tensor]:
    """As `_search_blocks`, with patches laid out: any kernel, stride and padding."""
    queries = _patches(query, config)  # N, C k k, Q
    candidates = torch.cat([_patches(key, config) for key in keys], dim=2)  # N, C k k, K
    if config.method == "dense":
        scores = queries.mT @ candidates  # N, Q, K
        allowed = _chosen(scores.argmax(2), scores.shape[2]) if config.strategy == "two_stage" else None
        return _top(scores, u, allowed)
    with torch.no_grad():
        found, indices = _search_chunked(queries, candidates, u, config)
    if differentiable:
        found = torch.where(found.isfinite(), _scores_at(queries, candidates, indices), found)
    return found, indices


def _on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu"


def _patches(x: Tensor, config: SearchConfig) -> Tensor:
    """Normalised patches, N, C k k, L; an all-zero patch stays zero and scores 0 with everything."""
    return F.normalize(F.unfold(x, config.kernel, padding=config.padding, stride=config.stride), dim=1)


def _chosen(best: Tensor, count: int) -> Tensor:
    """Mark the keys that are some query's best: bool, N, 1, K."""
    marks = torch.zeros(best.shape[0], count, dtype=torch.bool, device=best.device)
    return marks.scatter_(1, best, True).unsqueeze(1)


def _top(scores: Tensor, u: int, allowed: Tensor | None) -> tuple[Tensor, Tensor]:
    """Scores and indices of the best u, N, u, Q, from N, Q, K, which is used up; -inf where none is left.

    Repeated `max` takes the first of equal scores on every device, which `topk` does not promise.
    """
    if allowed is not None:
        scores = scores.masked_fill_(~allowed, -torch.inf)
    values, indices = [], []
    for rank in range(u):
        best = scores.max(2)
        values.append(best.values)
        indices.append(best.indices)
        if rank + 1 < u:
            scores = scores.scatter_(2, best.indices.unsqueeze(2), -torch.inf)
    return torch.stack(values, 1), torch.stack(indices, 1)


def _search_chunked(queries: Tensor, keys: Tensor, u: int, config: SearchConfig) -> tuple[Tensor, Tensor]:
    row = queries.shape[0] * keys.shape[2] * queries.element_size()
    rows = max(1, int(_memory(config.memory) / row))
    chunks = queries.split(rows, dim=2)
    allowed = None
    if config.strategy == "two_stage":
        # c(i, k'_j) is a column of the first correlation: the second pass is the first one on the chosen keys.
        best = torch.cat([(chunk.mT @ keys).argmax(2) for chunk in chunks], dim=1)
        allowed = _chosen(best, keys.shape[2])
    found = [_top(chunk.mT @ keys, u, allowed) for chunk in chunks]
    return torch.cat([values for values, _ in found], 2), torch.cat([indices for _, indices in found], 2)


def _memory(memory: float | None) -> float:
    """Bytes for scores: what is asked for in MiB, else 1 GiB.

    Not a share of what is free: the size of a product changes its last bits, which must not depend on other programs.
    """
    return 2**30 if memory is None else memory * 2**20


def _scores_at(queries: Tensor, keys: Tensor, indices: Tensor) -> Tensor:
    """Inner products of each query with its chosen keys, N, u, Q, differentiable."""
    products = []
    for chosen in indices.unbind(1):  # N, Q
        gathered = keys.gather(2, chosen.unsqueeze(1).expand(-1, keys.shape[1], -1))
        products.append((queries * gathered).sum(1))
    return torch.stack(products, 1)
