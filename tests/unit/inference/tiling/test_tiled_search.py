"""The search over strips of keys and tiles of queries against the search over the whole."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from extracter.inference.tiling import approximate
from extracter.inference.tiling.approximate import search_approximately
from extracter.inference.tiling.copies import prefer_copies
from extracter.inference.tiling.features import bytes_at_once
from extracter.inference.tiling.search import Search, least_bytes
from extracter.inference.tiling.windows import InsufficientMemoryError, Window
from extracter.search.copies import prefer_copies as prefer_whole
from extracter.search.search import SearchConfig, search


class Stored:
    """Features that are there instead of computed."""

    width = 1
    picture = SimpleNamespace(device=torch.device("cpu"))

    def __init__(self, x: Tensor):
        self.x, self.whole = x, Window(0, x.shape[2], 0, x.shape[3])

    def cut(self, window: Window, level: int) -> Tensor:
        assert level == 2
        return window.of(self.x, self.whole, 1).clone()


def noise(seed: int, height: int, width: int) -> Tensor:
    return torch.rand(1, 4, height, width, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([1, 2]),
    st.tuples(st.integers(3, 14), st.integers(3, 14)),
    st.lists(st.tuples(st.integers(3, 30), st.integers(3, 14)), min_size=1, max_size=2),
    st.integers(1, 5),
    st.sampled_from(["two_stage", "direct"]),
    st.integers(10, 10_000),
    st.integers(0, 99),
)
def test_strips_and_tiles_find_what_the_whole_finds(stride, sides, references, u, strategy, spare, seed):
    check(stride, sides, references, u, strategy, spare, seed)


def check(stride, sides, references, u, strategy, spare, seed) -> Search:
    config = SearchConfig(3 * stride, stride, stride, strategy)
    query = noise(seed, *(stride * side for side in sides))
    keys = [noise(seed + 1 + i, *(stride * side for side in of_key)) for i, of_key in enumerate(references)]
    stored, references = Stored(query), [Stored(key) for key in keys]
    memory = least_bytes(1, stride, stored.whole, [reference.whole for reference in references]) + spare
    steps = []
    tiled = Search(stored, references, u, config, memory, lambda *done: steps.append(done))
    found, wanted = tiled.run(), search(query, keys, u, config)
    assert torch.equal(found.indices, wanted.indices)
    torch.testing.assert_close(found.scores, wanted.scores, atol=1e-5, rtol=0)
    assert steps[-1][0] == steps[-1][1]
    return tiled


def test_queries_that_the_walk_leaves_short_are_completed(monkeypatch):
    completed = []
    complete = Search._complete

    def counting(self, kept, short, *args):
        completed.append(short.sum())
        complete(self, kept, short, *args)

    monkeypatch.setattr(Search, "_complete", counting)
    tiled = check(2, (12, 10), [(90, 60), (3, 9)], 4, "two_stage", 10, 1)
    assert completed[0] > 10
    assert len(tiled.strips[0]) > 1
    assert len(tiled.tiles) > 1


@pytest.mark.parametrize("inner", ["query", "key"])
def test_features_of_zeros_are_searched(inner):
    config = SearchConfig(3, 1, 1)
    query, key = noise(1, 6, 5), noise(2, 7, 6)
    (query if inner == "query" else key).zero_()
    memory = 4 * bytes_at_once(1)
    found = Search(Stored(query), [Stored(key)], 3, config, memory, lambda *done: None).run()
    wanted = search(query, [key], 3, config)
    assert torch.equal(found.indices, wanted.indices)
    assert (found.scores == 0).all()


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from([1, 2]),
    st.tuples(st.integers(3, 40), st.integers(3, 14)),
    st.lists(st.tuples(st.integers(3, 30), st.integers(3, 14)), min_size=1, max_size=2),
    st.sampled_from(["two_stage", "direct"]),
    st.integers(0, 99),
)
def test_strips_of_features_are_searched_as_the_whole(stride, sides, references, strategy, seed):
    config = SearchConfig.of_kernel(3 * stride, strategy=strategy, method="approximate")
    query = noise(seed, *(stride * side for side in sides))
    keys = [noise(seed + 1 + i, *(stride * side for side in of_key)) for i, of_key in enumerate(references)]
    stored, others = Stored(query), [Stored(key) for key in keys]
    steps = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(approximate, "SIDE", 8 * stride)
        found = search_approximately(stored, others, 3, config, 2**30, lambda *done: steps.append(done))
    wanted = search(query, keys, 3, config)
    assert torch.equal(found.indices, wanted.indices)
    assert torch.equal(found.scores, wanted.scores)
    assert found.keys == wanted.keys
    assert steps[-1][0] == steps[-1][1]


def test_too_little_memory_for_the_approximate_search_says_how_much_is_wanted():
    config = SearchConfig.of_kernel(3, method="approximate")
    stored, key = Stored(noise(1, 200, 9)), Stored(noise(2, 200, 9))
    with pytest.raises(InsufficientMemoryError) as error:
        search_approximately(stored, [key], 3, config, 1000.0, lambda *done: None)
    found = search_approximately(stored, [key], 3, config, error.value.needed, lambda *done: None)
    assert (found.scores > 0).all()


@pytest.mark.parametrize("stride", [1, 2])
def test_copies_are_preferred_part_by_part_as_in_the_whole(stride):
    query, reference = noise(1, 12 * stride, 15 * stride), noise(2, 9 * stride, 9 * stride)
    keys = [reference, query[..., 2 * stride : 11 * stride, 4 * stride :] + 0.1 * noise(3, 9 * stride, 11 * stride)]
    places = [None, (2 * stride, 4 * stride)]
    matches = search(query, keys, 3, SearchConfig.of_kernel(3 * stride))
    wanted = prefer_whole(matches, query, keys, places, stride)
    assert not torch.equal(wanted.indices, matches.indices)
    parts = [Stored(x) for x in (query, *keys)]
    for part in parts:
        part.side = 4 * stride
    found = prefer_copies(matches, parts[0], parts[1:], places, stride)
    assert torch.equal(found.indices, wanted.indices)
    torch.testing.assert_close(found.scores, wanted.scores)
