"""The way that the search takes on CUDA, run here on the device of the tests: the same answer, in few operations."""

import dataclasses

import pytest
import torch
from dispatched import count_dispatched

from extracter.search import batched, correlation
from extracter.search import search as search_module
from extracter.search.batched import images_in_one_tile, stable_topk
from extracter.search.block_search import block_scores, search_blocks
from extracter.search.matched_scores import attach_gradient
from extracter.search.search import SearchConfig, search
from extracter.search.transfer import transfer


def features(seed: int, *shape: int, device="cpu") -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).to(device)


@pytest.fixture
def on_accelerator(monkeypatch):
    """Have the search take the way of an accelerator on the CPU, too."""
    monkeypatch.setattr(correlation, "merge_row", None)
    monkeypatch.setattr(search_module, "_on_cpu", lambda x: False)


@pytest.mark.parametrize("levels", [2, 1000])
@pytest.mark.parametrize(("count", "u"), [(1, 3), (64, 3), (513, 8), (700, 1), (4096, 5), (600, 10)])
def test_topk_is_a_stable_sort(count, u, levels, device):
    scores = (features(count, 3, 5, count) * levels).floor().to(device)
    scores[0, 0] = -torch.inf
    values, indices = stable_topk(scores, u)
    wanted = scores.sort(dim=-1, descending=True, stable=True)
    assert torch.equal(values, wanted.values[..., :u])
    assert torch.equal(indices, wanted.indices[..., :u])


@pytest.mark.parametrize("strategy", ["two_stage", "direct"])
@pytest.mark.parametrize("memory", [1e-3, 0.05, 64.0])
@pytest.mark.parametrize("stride", [1, 2])
def test_equals_dense_whatever_the_tiles(strategy, memory, stride, on_accelerator, device):
    config = SearchConfig(3 * stride, stride, stride, strategy, memory=memory)
    query = features(1, 2, 4, 12 * stride, 10 * stride, device=device)
    keys = [
        features(2, 2, 4, 20 * stride, 16 * stride, device=device),
        features(3, 2, 4, 3 * stride, 9 * stride, device=device),
    ]
    wanted = search(query, keys, 4, dataclasses.replace(config, method="dense"))
    found = search(query, keys, 4, config)
    assert torch.equal(found.indices, wanted.indices)
    torch.testing.assert_close(found.scores, wanted.scores, atol=1e-5, rtol=0)


def test_flat_images_match_the_first_keys(on_accelerator, device):
    flat = torch.ones(1, 4, 80, 80, device=device)
    for memory in (0.05, 64.0):
        config = SearchConfig(3, 1, 1, "direct", memory=memory)
        found = search(flat, [flat], 3, config)
        inner = found.indices.view(3, 80, 80)[:, 1:-1, 1:-1]
        # An inner patch equals every other inner patch, of which the first three are at the left of the second row.
        assert all((inner[rank] == 81 + rank).all() for rank in range(3))


@pytest.mark.parametrize("stride", [1, 2])
def test_gradient_equals_that_of_the_products(stride, device):
    query = features(4, 2, 3, 5 * stride, 4 * stride).double().to(device).requires_grad_()
    keys = [
        features(5, 2, 3, 4 * stride, 6 * stride).double().to(device).requires_grad_(),
        features(6, 2, 3, 2 * stride, 3 * stride).double().to(device).requires_grad_(),
    ]
    with torch.no_grad():
        found, indices = search_blocks(query, keys, 3, stride, 1e9, True)
    weights = features(7, *found.shape).double().to(device)
    products = block_scores(query, keys, indices, stride)
    attached = attach_gradient(found, query, keys, indices, stride)
    torch.testing.assert_close(attached, products)
    wanted = torch.autograd.grad((products * weights).sum(), [query, *keys])
    for a, b in zip(torch.autograd.grad((attached * weights).sum(), [query, *keys]), wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_only_what_needs_a_gradient_gets_one(on_accelerator):
    query, key = features(1, 1, 4, 12, 12), features(2, 1, 4, 12, 12).requires_grad_()
    scores = search(query, [key], 3, SearchConfig()).scores
    scores.square().sum().backward()
    assert query.grad is None
    assert key.grad.abs().sum() > 0


@pytest.mark.parametrize("kernel", [3, 6])
def test_a_training_batch_takes_few_operations_and_waits_for_none(kernel, on_accelerator):
    """The paper's batch: nine pairs of 160 x 160 pixels; fewer channels change no count."""
    third = kernel // 3
    config = SearchConfig(kernel, third, third)
    query, key = (features(seed, 9, 2, 40, 40).requires_grad_() for seed in (1, 2))
    found = []
    forward = count_dispatched(lambda: found.append(search(query, [key], 3, config)))
    values = [features(3, 9, 2, 40 * scale, 40 * scale) for scale in (1, 2, 4)]

    def copy() -> None:
        for scale, value in zip((1, 2, 4), values, strict=True):
            transfer([value], found[0].indices, (40, 40), scale, config)

    copying = count_dispatched(copy)
    loss = found[0].scores.square().sum()
    backward = count_dispatched(loss.backward)
    assert forward.launches <= 60
    assert copying.launches <= 130
    assert backward.launches <= 120
    assert forward.waits == copying.waits == backward.waits == 0


def test_a_batch_in_parts_gives_the_same_and_waits_for_nothing(on_accelerator):
    """As on CUDA with large references: a tile holds the scores of some images of a batch, but not of all."""
    query, key = features(1, 5, 3, 20, 18), features(2, 5, 3, 36, 30)
    one = 22 * 20 * 38 * 32 * 4
    found = {}
    for images in (2, 5):
        config = SearchConfig(3, 1, 1, memory=4 * images * one / 2**20)  # a tile has a quarter of it
        assert images_in_one_tile(query, [key], 1, images * one) == images
        counts = count_dispatched(lambda i=images, c=config: found.update({i: search(query, [key], 3, c)}))
        assert counts.waits == 0
    assert torch.equal(found[2].indices, found[5].indices)
    torch.testing.assert_close(found[2].scores, found[5].scores, atol=1e-6, rtol=0)


def test_waits_are_counted():
    x = torch.ones(4)
    assert count_dispatched(lambda: x.sum().item()) == (2, 1)
    assert count_dispatched(lambda: x[x > 0]).waits == 1
    assert count_dispatched(lambda: (x > 0).nonzero()).waits == 1
    assert count_dispatched(lambda: x.view(2, 2).T + 1) == (1, 0)


def test_one_tile_is_what_fits():
    query = torch.zeros(2, 4, 6, 6)
    exactly = 2 * 8 * 8 * 8 * 8 * 4
    assert images_in_one_tile(query, [query], 1, exactly) == images_in_one_tile(query, [query], 1, 9 * exactly) == 2
    assert images_in_one_tile(query, [query], 1, exactly - 1) == images_in_one_tile(query, [query], 1, exactly / 2) == 1
    assert images_in_one_tile(query, [query], 1, exactly / 2 - 1) == 0
    assert batched._tile_shape(torch.zeros(1, 8, 8, 1), torch.zeros(1, 8, 8, 1), 4 * 64)[0] == 1
