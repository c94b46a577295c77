"""The approximate search in PyTorch's operations, for CUDA: the same steps as `approximate`, for many queries at once.

No step waits for the device: shapes depend on sizes alone. So each step of propagation tries all candidates, new or
not, after a choice of the most promising by their projections; and stage two is completed for all queries, of which few
need it. Results differ a little from the compiled loops', which choose their candidates in another order.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from extracter.search.block_grid import grid_of, inverse_norms, to_blocks
from extracter.search.block_search import SPARE
from extracter.search.projection_loops import DIM

_STEPS = 6
_TOP, _LOCAL = 3, 2
_PROBES, _LIMIT = 2, 128
_LEAF = 64
_TRIED = 8  # candidates of a step, or of stage two, that are scored exactly
_AROUND = ((-1, 0), (0, -1), (0, 1), (1, 0))


def search_torch(
    query: Tensor, keys: Sequence[Tensor], u: int, stride: int, memory: float, two_stage: bool
) -> tuple[Tensor, Tensor]:
    """As `approximate.search_approximate`, on any device."""
    found = [
        _Search([key[n : n + 1].float() for key in keys], stride, u, memory).run(x.unsqueeze(0).float(), two_stage)
        for n, x in enumerate(query.detach())
    ]
    scores, indices = (torch.stack(x).mT for x in zip(*found, strict=True))
    return scores.to(torch.promote_types(query.dtype, torch.float32)), indices


class _Grid(NamedTuple):
    """Blocks of images within borders of zeros, one after another.

    Attributes:
        blocks: cells, D.
        weights: cells: 1 / norm of each patch; 0 at borders.
        inside: n: the cells that are patches, in rising order.
        pitch: cells: how many cells lie in a row of a cell's image.
        points: cells, DIM; 0 at borders. None before they are projected.
    """

    blocks: Tensor
    weights: Tensor
    inside: Tensor
    pitch: Tensor
    points: Tensor | None = None

    @classmethod
    def of(cls, images: Sequence[Tensor], stride: int) -> "_Grid":
        """Lay out 1, C, h, w."""
        blocks, weights, inside, pitch, start = [], [], [], [], 0
        for image in images:
            rows, columns = grid_of(image, stride)
            device = image.device
            blocks.append(F.pad(to_blocks(image, stride)[0], (0, 0, 1, 1, 1, 1)).flatten(0, 1))
            weights.append(F.pad(inverse_norms(image, stride)[0], (1, 1, 1, 1)).flatten())
            row = torch.arange(1, rows + 1, device=device).unsqueeze(1) * (columns + 2)
            inside.append(start + (row + torch.arange(1, columns + 1, device=device)).flatten())
            pitch.append(torch.full(((rows + 2) * (columns + 2),), columns + 2, device=device))
            start += (rows + 2) * (columns + 2)
        return cls(*map(torch.cat, (blocks, weights, inside, pitch)))

    def around(self, cells: Tensor) -> Tensor:
        """Cells of the nine blocks of patches: ..., 9."""
        near = torch.arange(9, device=cells.device)
        down, right = near.div(3, rounding_mode="floor") - 1, near % 3 - 1
        return cells.unsqueeze(-1) + down * self.pitch[cells].unsqueeze(-1) + right

    def project(self, basis: Tensor, patch_basis: Tensor, mean: Tensor) -> "_Grid":
        """The same with its points."""
        projected = self.blocks @ basis
        points = torch.zeros_like(projected)
        for part in self.inside.split(2**16):
            patches = projected[self.around(part)].flatten(1)
            points[part] = (patches @ patch_basis) * self.weights[part].unsqueeze(1) - mean
        return self._replace(points=points)


def _leading_subspace(moment: Tensor, size: int) -> Tensor:
    """About the leading eigenvectors of m, m: m, size; `eigh` and `qr` would wait for the device."""
    m = len(moment)
    angles = torch.arange(1, m + 1, device=moment.device, dtype=moment.dtype).unsqueeze(1)
    basis = torch.cos(0.7 + 1.3 * angles * torch.arange(1, size + 1, device=moment.device, dtype=moment.dtype))
    eye = torch.eye(size, device=moment.device, dtype=moment.dtype)
    for _ in range(20):
        basis = moment @ basis
        basis = basis / torch.linalg.vector_norm(basis, dim=0).clamp(min=1e-100)
        gram = basis.mT @ basis + 1e-9 * eye
        factor, _ = torch.linalg.cholesky_ex(gram)
        basis = torch.linalg.solve_triangular(factor, basis.mT, upper=False).mT
    return basis


def _spread(count: int, total: int, device: torch.device) -> Tensor:
    """`count` numbers below `total`, evenly spread but not in step with the rows of an image."""
    return (torch.arange(count, device=device, dtype=torch.float64) * 0.6180339887498949 % 1.0 * total).long()


def _k_means(samples: Tensor, count: int, steps: int) -> Tensor:
    """Centres of B, n, DIM: B, count, DIM. Means by products with 0 and 1, whose sums have one order."""
    first = torch.arange(count, device=samples.device) * samples.shape[1] // count
    centres = samples[:, first]
    for _ in range(steps):
        nearest = _scores(samples, centres).argmax(2, keepdim=True)
        members = (nearest == torch.arange(count, device=samples.device)).to(samples.dtype)
        sizes = members.sum(1).unsqueeze(2)
        centres = torch.where(sizes > 0, members.mT @ samples / sizes.clamp(min=1), centres)
    return centres


def _scores(points: Tensor, centres: Tensor) -> Tensor:
    """x . c - |c|^2 / 2: the larger, the nearer."""
    return points @ centres.mT - 0.5 * centres.square().sum(-1).unsqueeze(-2)


class _Tree(NamedTuple):
    """Two levels of k-means; see `approximate`.

    Attributes:
        centres: n1, DIM.
        leaf_centres: n1, n2, DIM.
        starts: n1 n2 + 1: where each leaf's keys begin in `cells`.
        cells: keys, leaf by leaf.
    """

    centres: Tensor
    leaf_centres: Tensor
    starts: Tensor
    cells: Tensor

    @classmethod
    def grow(cls, keys: _Grid, chunk: int) -> "_Tree":
        """Cluster samples of the keys and sort all keys into the leaves."""
        device, count = keys.inside.device, len(keys.inside)
        branches = max(1, round(math.sqrt(count / _LEAF)))
        points = keys.points[keys.inside]
        centres = _k_means(points[_spread(64 * branches, count, device)].unsqueeze(0), branches, 4)[0]
        samples = points[_spread(8 * branches**2, count, device)]
        owners, order = _scores(samples, centres).argmax(1).sort(stable=True)
        edges = torch.searchsorted(owners, torch.arange(branches + 1, device=device))
        sizes = edges.diff().unsqueeze(1)
        # As many samples for each branch, some of them more than once, for the number that there is is not known here.
        positions = torch.arange(8 * branches, device=device) * sizes.clamp(min=1) // (8 * branches) + edges[:-1, None]
        leaf_centres = _k_means(samples[order[positions.clamp(max=len(order) - 1)]], branches, 2)
        leaves = []
        for part in points.split(max(1, chunk // branches)):
            branch = _scores(part, centres).argmax(1)
            leaf = _scores(part.unsqueeze(1), leaf_centres[branch]).squeeze(1).argmax(1)
            leaves.append(branch * branches + leaf)
        leaves, order = torch.cat(leaves).sort(stable=True)
        starts = torch.searchsorted(leaves, torch.arange(branches**2 + 1, device=device))
        return cls(centres, leaf_centres, starts, keys.inside[order])


class _Search:
    """A search of one image's patches among those of references.

    Args:
        keys: 1, C, h, w of each reference.
        stride: s.
        u: matches for each query.
        memory: bytes besides the laid-out features and the lists.
    """

    def __init__(self, keys: Sequence[Tensor], stride: int, u: int, memory: float):
        self.stride, self.u = stride, u
        keys = _Grid.of(keys, stride)
        depth = keys.blocks.shape[1]
        self.rows = max(1, int(memory / (4 * 9 * depth * (_TRIED + 1))))  # queries at once, by their keys' patches
        device, count = keys.inside.device, len(keys.inside)
        cells = keys.inside[_spread(8192, count, device)]
        sample = keys.blocks[cells].double()
        size = min(DIM, depth)
        self.basis = F.pad(_leading_subspace(sample.mT @ sample, size), (0, DIM - size)).float()
        cells = keys.inside[_spread(2048, count, device)]
        sample = ((keys.blocks[keys.around(cells)] @ self.basis).flatten(1) * keys.weights[cells, None]).double()
        mean = sample.mean(0)
        self.patch_basis = _leading_subspace((sample - mean).mT @ (sample - mean), DIM)
        self.mean = (mean @ self.patch_basis).float()
        self.patch_basis = self.patch_basis.float()
        self.keys = keys.project(self.basis, self.patch_basis, self.mean)
        self.tree = _Tree.grow(self.keys, max(1, int(memory / (8 * DIM))))
        self.leaf_rows = max(1, int(memory / (4 * _PROBES * _LIMIT * (DIM + 4))))
        # The index of each cell among the keys.
        self.index = torch.zeros(len(keys.weights), dtype=torch.long, device=device)
        self.index[keys.inside] = torch.arange(count, device=device)

    def run(self, query: Tensor, two_stage: bool) -> tuple[Tensor, Tensor]:
        """Scores and indices, Q, u, of 1, C, h, w."""
        shape = grid_of(query, self.stride)
        queries = _Grid.of([query], self.stride).project(self.basis, self.patch_basis, self.mean)
        length = self.u + SPARE
        scores, cells = self._merge(queries, None, self._seeds(queries), length)
        for _ in range(_STEPS):
            scores, cells = self._merge(queries, (scores, cells), self._candidates(cells, scores, shape), length)
        if two_stage and self.u > 1:
            scores, cells = self._second_stage(queries, scores, cells, shape)
        norms = queries.weights[queries.inside].unsqueeze(1)
        return scores[:, : self.u] * norms, self.index[cells[:, : self.u]]

    def _seeds(self, queries: _Grid) -> Tensor:
        """Cells of the keys to begin with, Q, n; 0, which is no key, for none."""
        tree, found = self.tree, []
        branches = len(tree.centres)
        sizes = tree.starts.diff()
        empty = (sizes == 0).view(branches, branches)
        for part in queries.inside.split(self.leaf_rows):
            points = queries.points[part]
            scores = _scores(points, tree.centres).masked_fill(empty.all(1), -torch.inf)
            branch = scores.topk(min(_PROBES, branches), 1).indices  # q, probes
            scores = _scores(points[:, None, None], tree.leaf_centres[branch]).squeeze(2)
            leaf = branch * branches + scores.masked_fill(empty[branch], -torch.inf).argmax(2)
            size = sizes[leaf]
            # Of a large leaf each query looks at another part.
            shift = part.unsqueeze(1) * 40503 % (size - _LIMIT + 1).clamp(min=1)
            line = torch.arange(_LIMIT, device=part.device)
            position = tree.starts[leaf].unsqueeze(2) + shift.unsqueeze(2) + line
            cells = tree.cells[position.clamp(max=len(tree.cells) - 1)]
            cells = cells.masked_fill(line >= size.unsqueeze(2), 0).flatten(1)
            found.append(self._promising(points, cells, _TRIED))
        return torch.cat(found)

    def _promising(self, points: Tensor, cells: Tensor, count: int) -> Tensor:
        """Of q, n cells the `count` keys whose projections are nearest to those of queries."""
        near = self.keys.points[cells]
        scores = (near @ points.unsqueeze(2)).squeeze(2) - 0.5 * near.square().sum(2)
        scores = scores.masked_fill(self.keys.weights[cells] == 0, -torch.inf)
        best = scores.topk(min(count, scores.shape[1]), 1)
        return cells.gather(1, best.indices).masked_fill(best.values.isneginf(), 0)

    def _candidates(self, cells: Tensor, scores: Tensor, shape: tuple[int, int]) -> Tensor:
        """What propagation tries: matches of the neighbours, shifted, and neighbours of a query's own matches; Q, n."""
        cells = cells.masked_fill(scores.isneginf(), 0).view(*shape, -1)
        tried = []
        padded = F.pad(cells[..., :_TOP], (0, 0, 1, 1, 1, 1))
        for down, right in _AROUND:
            near = padded[1 + down : 1 + down + shape[0], 1 + right : 1 + right + shape[1]]
            tried.append(torch.where(near > 0, near - down * self.keys.pitch[near] - right, 0))
            own = cells[..., :_LOCAL]
            tried.append(torch.where(own > 0, own + down * self.keys.pitch[own] + right, 0))
        return torch.cat(tried, 2).flatten(0, 1)

    def _merge(
        self, queries: _Grid, lists: tuple[Tensor, Tensor] | None, tried: Tensor, length: int
    ) -> tuple[Tensor, Tensor]:
        """Score the promising ones of Q, n candidates exactly and merge them into the lists, Q, length."""
        found = []
        for first in range(0, len(tried), self.rows):
            part = slice(first, first + self.rows)
            inside, cells = queries.inside[part], tried[part]
            old = None if lists is None else (lists[0][part], lists[1][part])
            if old is not None:
                known = (cells.unsqueeze(2) == old[1].unsqueeze(1)).any(2)
                cells = cells.masked_fill(known, 0)
            cells = cells.sort(1).values  # the same key twice is then side by side
            cells[:, 1:] = cells[:, 1:].masked_fill(cells[:, 1:] == cells[:, :-1], 0)
            cells = self._promising(queries.points[inside], cells, _TRIED)
            scores = self._exact(queries, inside, cells)
            if old is not None:
                scores, cells = torch.cat((old[0], scores), 1), torch.cat((old[1], cells), 1)
            found.append(_best(scores, cells, length))
        return torch.cat([scores for scores, _ in found]), torch.cat([cells for _, cells in found])

    def _exact(self, queries: _Grid, inside: Tensor, cells: Tensor) -> Tensor:
        """Scores of queries with keys, q, n, without the query's norm; -inf for cells that are no keys."""
        patches = self.keys.blocks[self.keys.around(cells)].flatten(2)  # q, n, 9 D
        own = queries.blocks[queries.around(inside)].flatten(1)
        weights = self.keys.weights[cells]
        return ((patches @ own.unsqueeze(2)).squeeze(2) * weights).masked_fill(weights == 0, -torch.inf)

    def _second_stage(
        self, queries: _Grid, scores: Tensor, cells: Tensor, shape: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """The first u of each list that are some query's best; then of what is allowed around, where they are fewer."""
        allowed = torch.zeros(len(self.keys.weights), dtype=torch.bool, device=cells.device)
        best = cells[:, 0].masked_fill(scores[:, 0].isneginf(), 0)
        allowed[best] = True
        allowed[0] = False
        # The allowed keys in rising order, and how many: positions of a fixed number of slots.
        rank = allowed.cumsum(0)
        slots = torch.zeros(len(allowed) + 1, dtype=torch.long, device=cells.device)
        slots.scatter_(0, torch.where(allowed, rank, 0), torch.arange(len(allowed), device=cells.device) * allowed)
        own = torch.where(allowed[cells], scores, -torch.inf)
        own, cells = _best(own, cells, self.u)
        padded = F.pad(best.view(1, *shape, 1), (0, 0, 2, 2, 2, 2))[0, ..., 0]
        tried = []
        for down in range(-2, 3):
            for right in range(-2, 3):
                near = padded[2 + down : 2 + down + shape[0], 2 + right : 2 + right + shape[1]].flatten()
                shifted = near - down * self.keys.pitch[near] - right
                shifted = shifted.clamp(0, len(allowed) - 1)
                tried += [near, torch.where(allowed[shifted], shifted, 0)]
        position = rank[best]
        for step in range(1, self.u + 1):
            for other in (position - step, position + step):
                tried.append(torch.where((other >= 1) & (other <= rank[-1]), slots[other.clamp(0, len(allowed))], 0))
        known = own, cells.masked_fill(own.isneginf(), 0)
        more, more_cells = self._merge(queries, known, torch.stack(tried, 1), self.u)
        complete = (~own[:, -1:].isneginf()) | best.eq(0).unsqueeze(1)
        return torch.where(complete, own, more), torch.where(complete, cells, more_cells)


def _best(scores: Tensor, cells: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The best of q, n in falling order, ties to the lower cell; -inf where there are fewer than `count`."""
    missing = count - scores.shape[1]
    if missing > 0:
        scores, cells = F.pad(scores, (0, missing), value=-torch.inf), F.pad(cells, (0, missing))
    cells, order = cells.sort(dim=1, stable=True)
    scores, order = scores.gather(1, order).sort(dim=1, descending=True, stable=True)
    return scores[:, :count], cells.gather(1, order)[:, :count]
