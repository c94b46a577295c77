"""Properties of the approximate search, which has no other definition than the exact one that it comes near to."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F

from extracter.search import approximate
from extracter.search.approximate import search_rows
from extracter.search.block_search import block_scores
from extracter.search.key_table import StoredBlocks
from extracter.search.search import SearchConfig, search

INNER = pytest.mark.parametrize("inner", ["compiled", "torch"])
CONFIG = SearchConfig.of_kernel(3, method="approximate")


def choose_inner(patch: pytest.MonkeyPatch, inner: str) -> None:
    """The compiled loops, or PyTorch's operations as on CUDA."""
    if inner == "torch":
        patch.setattr(approximate, "propagate_row", None)
    else:
        assert approximate.propagate_row is not None


def smooth(seed: int, height: int, width: int, channels: int = 8, batch: int = 1) -> Tensor:
    """Features in which neighbours resemble one another, as in photographs."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(batch, channels, -(-height // 3), -(-width // 3), generator=generator)
    fine = torch.randn(batch, channels, height, width, generator=generator)
    return (F.interpolate(coarse, scale_factor=3, mode="bicubic")[..., :height, :width] + 0.3 * fine).relu()


def check_promises(query: Tensor, keys: list[Tensor], u: int, config: SearchConfig) -> None:
    """What holds for any input: exact cosines in falling order, ties to the lower index, keys of stage two only."""
    found = search(query, keys, u, config)
    missing = found.scores == 0
    wanted = block_scores(query, keys, found.indices, config.stride)
    torch.testing.assert_close(found.scores[~missing], wanted[~missing], atol=1e-6, rtol=0)
    assert ((found.indices >= 0) & (found.indices < found.keys)).all()
    above, below = found.scores[:, :-1], found.scores[:, 1:]
    assert ((above >= below) | missing[:, 1:] | missing[:, :-1]).all()
    equal = (above == below) & ~missing[:, 1:]
    assert (found.indices[:, :-1] < found.indices[:, 1:])[equal].all()
    if config.strategy == "two_stage":
        first_stage = search(query, keys, u, replace(config, strategy="direct"))
        assert torch.isin(found.indices, first_stage.indices[:, 0]).all()
        assert (found.scores[:, 0] >= first_stage.scores[:, 0]).all()


sides = st.integers(1, 20)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([1, 2]),
    st.tuples(sides, sides),
    st.lists(st.tuples(sides, sides), min_size=1, max_size=3),
    st.integers(1, 5),
    st.sampled_from(["two_stage", "direct"]),
    st.sampled_from(["smooth", "noise", "levels", "flat", "zeros"]),
    st.integers(0, 99),
    st.sampled_from(["compiled", "torch"]),
)
def test_promises_hold_for_any_sizes_and_contents(stride, size, references, u, strategy, kind, seed, inner):
    def features(n: int, height: int, width: int) -> Tensor:
        shape = (stride * height, stride * width)
        if kind == "smooth":
            return smooth(n, *shape)
        generator = torch.Generator().manual_seed(n)
        x = torch.randn(1, 3, *shape, generator=generator)
        return {"noise": x, "levels": (x > 0).float(), "flat": torch.ones_like(x), "zeros": torch.zeros_like(x)}[kind]

    config = SearchConfig.of_kernel(3 * stride, strategy=strategy, method="approximate")
    query, keys = features(seed, *size), [features(seed + 1 + n, *s) for n, s in enumerate(references)]
    with pytest.MonkeyPatch.context() as patch:
        choose_inner(patch, inner)
        check_promises(query, keys, u, config)


@INNER
@pytest.mark.parametrize("kernel", [3, 6])
def test_an_image_finds_itself(kernel, inner, monkeypatch):
    choose_inner(monkeypatch, inner)
    config = SearchConfig.of_kernel(kernel, method="approximate")
    x = smooth(1, 120, 96)
    found = search(x, [smooth(2, 60, 60), x], 1, config)
    own = torch.arange(found.indices.shape[2]) + (60 * 3 // kernel) ** 2
    assert (found.indices[0, 0] == own).float().mean() > 0.99
    assert found.scores[0, 0].mean() > 0.999


@INNER
def test_a_shifted_reference_is_found_at_its_shift(inner, monkeypatch):
    choose_inner(monkeypatch, inner)
    x = smooth(3, 100, 90)
    query, key = x[..., 10:70, 20:80], x[..., 3:73, 9:85]
    found = search(query, [key], 3, CONFIG).indices[0, 0].view(60, 60)
    row, column = torch.meshgrid(torch.arange(60), torch.arange(60), indexing="ij")
    assert (found == (row + 7) * 76 + column + 11)[1:-1, 1:-1].float().mean() > 0.99


@INNER
def test_scores_come_near_to_those_of_exact_search(inner, monkeypatch):
    choose_inner(monkeypatch, inner)
    query, keys = smooth(4, 90, 80), [smooth(5, 100, 90), smooth(6, 30, 50)]
    wanted = search(query, keys, 3, replace(CONFIG, method="blocks"))
    found = search(query, keys, 3, CONFIG)
    assert (found.scores <= wanted.scores[:, :1] + 1e-6).all()
    # Independent noise has no neighbourhoods to propagate along; photographs lose a tenth of this.
    assert (wanted.scores[:, 0] - found.scores[:, 0]).mean() < 0.02


def test_bands_are_the_whole_to_the_bit(monkeypatch):
    query, keys = StoredBlocks(smooth(1, 50, 40)[0], 1), [StoredBlocks(smooth(2, 60, 50)[0], 1)]
    whole = search_rows(query, keys, 3, True, 2**30)
    real = approximate.plan
    for height in (1, 5, 8, 17):
        monkeypatch.setattr(approximate, "plan", lambda *args, height=height: (real(*args)[0], height))
        for found, wanted in zip(search_rows(query, keys, 3, True, 2**30), whole, strict=True):
            assert np.array_equal(found, wanted)


def test_a_smaller_halo_would_show(monkeypatch):
    """The test above can fail: with fewer rows around each band its result differs."""
    query, key = (StoredBlocks(smooth(seed, 50, 40)[0], 1) for seed in (1, 2))
    whole = search_rows(query, [key], 3, True, 2**30)
    real, band = approximate.plan, approximate.Band.of
    monkeypatch.setattr(approximate, "plan", lambda *args: (real(*args)[0], 5))
    monkeypatch.setattr(approximate.Band, "of", lambda query, top, bottom, halo: band(query, top, bottom, min(halo, 1)))
    assert not np.array_equal(search_rows(query, [key], 3, True, 2**30)[1], whole[1])


def test_threads_change_nothing(monkeypatch):
    query, key = smooth(1, 70, 64, batch=2), smooth(2, 64, 80, batch=2)
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append(search(query, [key], 3, CONFIG))
    for other in found[1:]:
        assert torch.equal(other.indices, found[0].indices)
        assert torch.equal(other.scores, found[0].scores)


def test_too_little_memory_searches_strips_of_the_keys():
    query, keys = smooth(4, 60, 50), [smooth(5, 90, 90), smooth(6, 40, 50)]
    blocks = StoredBlocks(query[0], 1), [StoredBlocks(key[0], 1) for key in keys]
    memory = approximate.least_bytes(*blocks, 3)
    parts, _ = approximate.plan(*blocks, 3 + approximate.SPARE, memory)
    assert len(parts) > 3
    found, wanted = search_rows(*blocks, 3, True, memory), search_rows(*blocks, 3, True, 2**30)
    # Each strip is searched, so the best keys are at least nearly as good.
    assert found[0][:, 0].mean() > wanted[0][:, 0].mean() - 0.01
    check_promises(query, keys, 3, replace(CONFIG, memory=memory / 2**20))


def test_flat_areas_take_no_longer_than_others():
    """Keys that all are the same make one leaf of thousands and one kept key."""
    query = torch.ones(1, 4, 150, 150)
    query[..., :20, :20] = smooth(1, 20, 20, 4)
    check_promises(query, [query], 3, CONFIG)


def test_gradient_of_scores_is_that_of_the_chosen_pairs():
    query, key = (smooth(seed, 14, 12).requires_grad_() for seed in (1, 2))
    found = search(query, [key], 2, CONFIG)
    wanted = block_scores(query, [key], found.indices, 1)
    found_grad, wanted_grad = (torch.autograd.grad(x.square().sum(), query)[0] for x in (found.scores, wanted))
    assert torch.equal(found_grad, wanted_grad)


def test_on_cuda_nothing_waits_for_the_device():
    """Fake tensors of a GPU: a result that the host would have to know, or a tensor elsewhere, is an error."""
    with FakeTensorMode(), torch.no_grad():
        with torch.device("cuda:0"):
            query, keys = torch.rand(2, 8, 40, 36), [torch.rand(2, 8, 60, 50), torch.rand(2, 8, 9, 3)]
        for strategy in ("two_stage", "direct"):
            found = search(query, keys, 3, replace(CONFIG, strategy=strategy, memory=16))
            assert found.indices.shape == found.scores.shape == (2, 3, 40 * 36)
            assert {x.device for x in (found.indices, found.scores)} == {torch.device("cuda:0")}


def test_parts_of_the_queries_change_nothing_in_pytorch(monkeypatch):
    choose_inner(monkeypatch, "torch")
    query, key = smooth(1, 40, 40), smooth(2, 50, 40)
    whole, parts = (search(query, [key], 3, replace(CONFIG, memory=memory)) for memory in (None, 0.05))
    assert (whole.indices == parts.indices).float().mean() > 0.999
