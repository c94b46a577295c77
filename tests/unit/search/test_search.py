"""Search and transfer against their definitions, written out here in plain loops over patches."""

import dataclasses

import pytest
import torch
from devices import DEVICE
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from extracter.search import block_search, correlation
from extracter.search.search import SearchConfig, search
from extracter.search.transfer import transfer, transfer_patches

METHODS = ("dense", "chunked", "blocks")
KERNELS = [(3, 1, 1), (6, 2, 2), (12, 4, 4), (3, 1, 0), (6, 2, 0), (5, 2, 1), (4, 3, 0)]


def config_of(kernel: tuple[int, int, int], **more) -> SearchConfig:
    return SearchConfig(*kernel, **more)


def features(seed: int, channels: int, height: int, width: int, levels: int = 0, batch: int = 1) -> torch.Tensor:
    """Random features; with few levels many patches score exactly the same, and some are all zero."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, channels, height, width)
    if levels:
        return torch.randint(0, levels, shape, generator=generator).float().to(DEVICE)
    return torch.randn(shape, generator=generator).to(DEVICE)


def plain_correlation(query: torch.Tensor, keys: list[torch.Tensor], config: SearchConfig) -> torch.Tensor:
    """c(i, j) of Eq. 4 in float64: patch after patch, one inner product at a time."""

    def patches(x: torch.Tensor) -> list[torch.Tensor]:
        x = F.pad(x.double(), (config.padding,) * 4)
        rows, columns = ((side - config.kernel) // config.stride + 1 for side in x.shape[-2:])
        cut = [
            x[0, :, r * config.stride :, c * config.stride :][:, : config.kernel, : config.kernel].flatten()
            for r in range(rows)
            for c in range(columns)
        ]
        return [patch / patch.norm().clamp(min=1e-12) for patch in cut]

    queries, candidates = patches(query), [patch for key in keys for patch in patches(key)]
    return torch.stack([torch.stack([torch.dot(q, k) for k in candidates]) for q in queries])


sides = st.integers(1, 9)


@st.composite
def cases(draw):
    config = config_of(draw(st.sampled_from(KERNELS)), strategy=draw(st.sampled_from(["two_stage", "direct"])))
    # Rounding may break an exact tie either way, and with it which keys stage one keeps: ties are for `direct` here.
    levels = draw(st.sampled_from([0, 2])) if config.strategy == "direct" else 0
    seeds = draw(st.lists(st.integers(0, 99), min_size=2, max_size=3, unique=levels == 0))
    query, *keys = (features(seed, 2, config.padded(draw(sides)), config.padded(draw(sides)), levels) for seed in seeds)
    return config, query, keys, draw(st.integers(1, 8))


@settings(max_examples=60, deadline=None)
@given(cases(), st.sampled_from([1e-4, 0.01, 64.0]), st.sampled_from(["fused", "shared", "plain"]))
def test_every_method_equals_the_definition(case, memory, inner):
    config, query, keys, u = case
    with pytest.MonkeyPatch.context() as patch:
        choose_inner_loop(patch, inner)
        check_against_definition(config, query, keys, u, memory)


def choose_inner_loop(patch: pytest.MonkeyPatch, inner: str) -> None:
    """Of the block search: by Numba, the same with a thread for each part of a row, or by PyTorch's operations."""
    if inner == "plain":
        patch.setattr(correlation, "merge_row", None)
    else:
        assert correlation.merge_row is not None
        patch.setattr(correlation, "_ROWS_OF_A_THREAD", 1 if inner == "shared" else 10**9)
        patch.setattr(torch, "get_num_threads", lambda: 3)


def check_against_definition(config, query, keys, u, memory):
    scores = plain_correlation(query, keys, config)
    if config.strategy == "two_stage":
        kept = scores.argmax(1).unique()
        scores = torch.full_like(scores, -2).index_copy(1, kept, scores[:, kept])
    for method in METHODS:
        found = search(query, keys, u, dataclasses.replace(config, method=method, memory=memory))
        assert found.keys == scores.shape[1]
        ranks = min(u, scores.shape[1])
        wanted = scores.sort(dim=1, descending=True, stable=True).values[:, :ranks].T
        real = wanted > -2
        torch.testing.assert_close(found.scores[0, :ranks][real].double(), wanted[real], atol=1e-5, rtol=0)
        # Indices up to ties: the key that was found has, by definition, the score of its rank.
        at_found = scores.gather(1, found.indices[0, :ranks].T).T
        torch.testing.assert_close(at_found[real], wanted[real], atol=1e-5, rtol=0)
        assert (found.scores[0, :ranks][~real] == 0).all()
        assert (found.scores[0, ranks:] == 0).all()
        assert (found.indices[0, ranks:] == found.indices[0, :1]).all()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("strategy", ["two_stage", "direct"])
def test_every_method_equals_dense_with_ties(kernel, strategy):
    config = config_of(kernel, strategy=strategy)
    # Rounding may break an exact tie either way, and with it which keys stage one keeps: ties are for `direct` here.
    levels, second = (2, 2) if strategy == "direct" else (0, 3)
    query = features(1, 3, config.padded(13), config.padded(11), levels, batch=2)
    keys = [features(seed, 3, config.padded(9), config.padded(14), levels, batch=2) for seed in (2, second)]
    dense = search(query, keys, 4, dataclasses.replace(config, method="dense"))
    for memory in (1e-4, 0.05):
        for method in METHODS:
            found = search(query, keys, 4, dataclasses.replace(config, method=method, memory=memory))
            torch.testing.assert_close(found.scores, dense.scores, atol=1e-5, rtol=0)
    # The second copy of a key scores the same as the first: the first one wins.
    assert strategy == "two_stage" or (dense.indices[:, 0] < dense.keys // 2).all()


@pytest.mark.parametrize("inner", ["fused", "shared", "plain"])
def test_inference_mode_reaches_every_thread(inner, monkeypatch):
    choose_inner_loop(monkeypatch, inner)
    config = SearchConfig(6, 2, 2)
    query, key = features(1, 4, 24, 20), features(2, 4, 32, 20)
    wanted = search(query, [key], 3, config)
    with torch.inference_mode():
        found = search(query, [key], 3, config)
    assert torch.equal(found.indices, wanted.indices)
    assert torch.equal(found.scores, wanted.scores)


@pytest.mark.parametrize("inner", ["fused", "shared", "plain"])
@pytest.mark.parametrize("memory", [1e-4, 1.0])
def test_second_stage_is_completed_where_the_first_kept_too_few(inner, memory, monkeypatch):
    choose_inner_loop(monkeypatch, inner)
    completed = []
    complete = block_search.rescore_candidates
    monkeypatch.setattr(
        block_search, "rescore_candidates", lambda *args: completed.append(len(args[5])) or complete(*args)
    )
    for stride in (1, 2):
        config = SearchConfig(3 * stride, stride, stride, "two_stage", memory=memory)
        query = features(1, 4, 12 * stride, 10 * stride, batch=2)
        keys = [features(2, 4, 20 * stride, 16 * stride, batch=2), features(3, 4, 3 * stride, 9 * stride, batch=2)]
        wanted = search(query, keys, 4, dataclasses.replace(config, method="dense"))
        found = search(query, keys, 4, config)
        assert torch.equal(found.indices, wanted.indices)
        torch.testing.assert_close(found.scores, wanted.scores, atol=1e-5, rtol=0)
    assert len(completed) == 4
    assert min(completed) > 10


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("strategy", ["two_stage", "direct"])
def test_half_precision_finds_scores_as_good(dtype, strategy):
    config = SearchConfig(strategy=strategy)
    query, key = (features(seed, 8, 20, 24).to(dtype) for seed in (1, 2))
    scores = plain_correlation(query, [key], config)
    for method in METHODS:
        found = search(query, [key], 3, dataclasses.replace(config, method=method))
        at_found = scores.gather(1, found.indices[0].T).T
        torch.testing.assert_close(found.scores[0].double(), at_found, atol=0.02, rtol=0)
        assert (at_found[0] > scores.max(1).values - 0.02).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.booleans())
def test_walk_is_the_same_whatever_the_tiles_and_the_memory_format(rows, key_rows, columns, key_columns, s, last):
    query, key = (features(n, 4, s * h, s * w) for n, h, w in ((1, rows, columns), (2, key_rows, key_columns)))
    if last:
        query = query.contiguous(memory_format=torch.channels_last)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(correlation, "merge_row", None)
        wanted = correlation.block_correlation_topk(query, [key], 3, s, 1e9, None)
    for tile_bytes in (1, 200, 1000, 5000, 1e9):
        values, indices = correlation.block_correlation_topk(query, [key], 3, s, tile_bytes, None)
        torch.testing.assert_close(values, wanted[0], atol=1e-4, rtol=1e-5)
        assert torch.equal(indices, wanted[1])


def test_ties_go_to_the_lower_index_and_missing_ranks_score_zero():
    query = torch.ones(1, 1, 3, 3, device=DEVICE)
    key = torch.ones(1, 1, 1, 1, device=DEVICE)
    config = SearchConfig(1, 1, 0, "direct")
    for method in METHODS:
        found = search(query, [key, key, key], 5, dataclasses.replace(config, method=method))
        assert found.indices[0, :, 0].tolist() == [0, 1, 2, 0, 0]
        assert found.scores[0, :, 0].tolist() == [1, 1, 1, 0, 0]
        two_stage = search(query, [key, key], 2, dataclasses.replace(config, method=method, strategy="two_stage"))
        assert two_stage.indices[0, :, 0].tolist() == [0, 0]
        assert two_stage.scores[0, :, 0].tolist() == [1, 0]


def test_all_zero_patches_score_zero():
    config = SearchConfig(3, 1, 1, "direct")
    found = search(torch.zeros(1, 2, 4, 4, device=DEVICE), [features(3, 2, 4, 4)], 2, config)
    assert (found.scores == 0).all()
    assert found.scores.isfinite().all()


@pytest.mark.parametrize("kernel", [(3, 1, 1), (6, 2, 2), (3, 1, 0)])
@pytest.mark.parametrize("strategy", ["two_stage", "direct"])
def test_gradient_of_scores(kernel, strategy):
    config = config_of(kernel, strategy=strategy)
    query = features(4, 2, config.padded(5), config.padded(4)).double().requires_grad_()
    key = features(5, 2, config.padded(4), config.padded(6)).double().requires_grad_()

    def scores(method):
        return lambda q, k: search(q, [k], 2, dataclasses.replace(config, method=method)).scores

    for method in METHODS:
        assert torch.autograd.gradcheck(scores(method), (query, key))
    weights = features(6, 1, *scores("dense")(query, key).shape[1:]).double()
    grads = [torch.autograd.grad((scores(method)(query, key) * weights[0]).sum(), (query, key)) for method in METHODS]
    for of_query, of_key in grads[1:]:
        torch.testing.assert_close(of_query, grads[0][0])
        torch.testing.assert_close(of_key, grads[0][1])


@pytest.mark.parametrize("inner", ["fused", "shared"])
def test_gradient_through_the_compiled_loop(inner, monkeypatch):
    choose_inner_loop(monkeypatch, inner)
    config = config_of(KERNELS[0])
    query, key = (features(seed, 2, config.padded(24), config.padded(9)).requires_grad_() for seed in (4, 5))
    grads = []
    for method in ("dense", "blocks"):
        scores = search(query, [key], 2, dataclasses.replace(config, method=method)).scores
        grads.append(torch.autograd.grad(scores.square().sum(), (query, key)))
    torch.testing.assert_close(grads[1], grads[0], atol=1e-5, rtol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(KERNELS),
    st.sampled_from([1, 2, 4]),
    sides,
    sides,
    st.lists(st.tuples(sides, sides), min_size=1, max_size=2),
    st.integers(0, 99),
    st.sampled_from([torch.contiguous_format, torch.channels_last]),
)
def test_transfer_equals_its_definition(kernel, scale, height, width, references, seed, layout):
    config = config_of(kernel)
    size = (config.padded(height), config.padded(width))
    values = [
        features(seed + i, 2, *(scale * config.padded(side) for side in ref), batch=2).contiguous(memory_format=layout)
        for i, ref in enumerate(references)
    ]
    keys = sum(config.count(v.shape[-2] // scale) * config.count(v.shape[-1] // scale) for v in values)
    rows, columns = (config.count(side) for side in size)
    indices = torch.randint(0, keys, (2, rows * columns), generator=torch.Generator().manual_seed(seed)).to(DEVICE)
    found, again = transfer(values, torch.stack((indices, indices), 1), size, scale, config)
    assert torch.equal(found, again)

    k, s, p = (scale * x for x in (config.kernel, config.stride, config.padding))
    patches = torch.cat([F.unfold(v, k, padding=p, stride=s) for v in values], 2)
    total = torch.zeros(2, 2, scale * size[0] + 2 * p, scale * size[1] + 2 * p, device=DEVICE)
    counts = torch.zeros_like(total)
    for n in range(2):
        for q in range(rows * columns):
            top, left = (q // columns) * s, (q % columns) * s
            total[n, :, top : top + k, left : left + k] += patches[n, :, indices[n, q]].view(2, k, k)
            counts[n, :, top : top + k, left : left + k] += 1
    inner = (..., slice(p, p + scale * size[0]), slice(p, p + scale * size[1]))
    torch.testing.assert_close(found, total[inner] / counts[inner], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found, transfer_patches(values, indices, size, scale, config), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kernel", [(3, 1, 1), (6, 2, 2), (3, 1, 0)])
def test_gradient_of_transfer(kernel):
    config = config_of(kernel)
    size = (config.padded(5), config.padded(3))
    value = features(8, 2, 2 * config.padded(4), 2 * config.padded(5)).double().requires_grad_()
    count = config.count(config.padded(4)) * config.count(config.padded(5))
    queries = config.count(size[0]) * config.count(size[1])
    indices = torch.randint(0, count, (1, queries), generator=torch.Generator().manual_seed(9)).to(DEVICE)
    assert torch.autograd.gradcheck(lambda v: transfer([v], indices.unsqueeze(1), size, 2, config)[0], (value,))


def test_identity_reference_copies_itself():
    config = SearchConfig()
    x = features(10, 4, 12, 16)
    found = search(x, [x], 1, config)
    assert found.indices[0, 0].tolist() == list(range(48))
    torch.testing.assert_close(transfer([x], found.indices, (12, 16), 1, config)[0], x)
