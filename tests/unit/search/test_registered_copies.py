"""A query's counterpart in a registered copy comes first."""

import pytest
import torch

from extracter.search.block_search import block_scores
from extracter.search.copies import MARGIN, paired_scores, prefer_copies, put_first
from extracter.search.search import Matches, SearchConfig, search


def features(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("stride", [1, 2])
def test_paired_scores_are_those_of_the_pairs(stride):
    query, key = (features(seed, 2, 4, 6 * stride, 5 * stride) for seed in (1, 2))
    own = torch.arange(30).expand(2, 1, 30)
    wanted = block_scores(query, [key], own, stride).view(2, 6, 5)
    torch.testing.assert_close(paired_scores(query, key, stride), wanted)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_counterpart_comes_first_if_it_is_nearly_as_good(stride):
    """Of two copies in a part of the image each, the better one; other queries keep their matches."""
    query, other = features(1, 1, 8, 12 * stride, 10 * stride), features(2, 1, 8, 7 * stride, 9 * stride)
    top, left = 2 * stride, 4 * stride
    part = query[..., top : top + 8 * stride, left:]
    good, bad = part + 0.05 * features(3, *part.shape), features(4, *part.shape)
    keys, places = [other, bad, good], [None, (top, left), (top, left)]
    config = SearchConfig.of_kernel(3 * stride)
    matches = search(query, keys, 3, config)
    # As a search that is led astray: all queries have found other keys, by scores just within and beyond the margin.
    astray = torch.arange(3).view(1, 3, 1).expand(1, 3, 120).contiguous()
    own = 7 * 9 + 8 * 6 + torch.arange(8 * 6).view(8, 6)
    for margin, moved in ((0.9 * MARGIN, True), (1.1 * MARGIN, False)):
        counterpart = torch.zeros(1, 3, 12, 10)
        counterpart[:, :, 2:10, 4:] = block_scores(query, keys, inside(own), stride).view(1, 1, 12, 10)[..., 2:10, 4:]
        found = prefer_copies(
            Matches(astray, counterpart.flatten(2) + margin, matches.keys), query, keys, places, stride
        )
        indices = found.indices.view(3, 12, 10)
        assert torch.equal(indices[0, 2:10, 4:], own) == moved
        assert torch.equal(indices[1, 2:10, 4:], torch.full((8, 6), 0 if moved else 1))
        assert (indices[:, :2] == torch.arange(3).view(3, 1, 1)).all()
        assert (indices[:, :, :4] == torch.arange(3).view(3, 1, 1)).all()


def inside(own: torch.Tensor) -> torch.Tensor:
    """Any key for the queries without a counterpart."""
    indices = torch.zeros(12, 10, dtype=torch.long)
    indices[2:10, 4:] = own
    return indices.view(1, 1, -1)


def test_no_key_is_there_twice():
    matches = Matches(
        torch.tensor([[[5, 5, 5], [6, 6, 6], [7, 7, 7]]]), torch.tensor([[[0.9] * 3, [0.8] * 3, [0.7] * 3]]), 9
    )
    found = put_first(matches, torch.tensor([[0.9, 0.7, 0.88]]), torch.tensor([[5, 6, 8]]))
    assert found.indices[0].T.tolist() == [[5, 6, 7], [5, 6, 7], [8, 5, 6]]
    found = put_first(matches, torch.tensor([[0.87, 0.86, 0.88]]), torch.tensor([[6, 7, 5]]))
    assert found.indices[0].T.tolist() == [[6, 5, 7], [7, 5, 6], [5, 6, 7]]


def test_a_copy_that_begins_between_blocks_is_left_alone():
    query = features(1, 1, 4, 8, 8)
    matches = search(query, [query[..., 1:7, 1:7]], 2, SearchConfig.of_kernel(6))
    assert torch.equal(prefer_copies(matches, query, [query[..., 1:7, 1:7]], [(1, 1)], 2).indices, matches.indices)
