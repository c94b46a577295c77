"""Alignment of matches against its plain definition, and transfer of aligned patches."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from extracter.search import align as module
from extracter.search.align import align, radius
from extracter.search.search import Matches, SearchConfig
from extracter.search.transfer import transfer


def smooth(seed: int, height: int, width: int, batch: int = 1) -> torch.Tensor:
    """Smooth noise in [-1, 1], with detail of a few pixels."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(batch, 3, height // 6 + 2, width // 6 + 2, generator=generator) * 2 - 1
    return F.interpolate(small, (height, width), mode="bicubic").clamp(-1, 1)


def some_matches(seed: int, queries: int, keys: int, batch: int = 1, u: int = 2) -> Matches:
    generator = torch.Generator().manual_seed(seed)
    indices = torch.randint(keys, (batch, u, queries), generator=generator)
    return Matches(indices, torch.ones(indices.shape), keys)


def window(image: torch.Tensor, top: int, left: int, side: int) -> np.ndarray:
    """Grey window whose corner may lie outside: the image's edge repeats. 3, H, W to side, side."""
    grey = image.double().mean(0).numpy()
    rows = np.arange(top, top + side).clip(0, grey.shape[0] - 1)
    columns = np.arange(left, left + side).clip(0, grey.shape[1] - 1)
    return grey[rows][:, columns]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("compiled", [True, False])
def test_the_offset_has_the_highest_correlation(stride, compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(module, "align_queries", None)
    config = SearchConfig(3 * stride, stride, stride)
    cell, reach = 4 * stride, radius(config)
    lr_up, refs = smooth(0, 6 * cell, 5 * cell), [smooth(1, 4 * cell, 3 * cell), smooth(2, 2 * cell, 5 * cell)]
    found = align(lr_up, refs, some_matches(3, 30, 12 + 10), config)
    for query, key, offset, zncc in zip(
        list(range(30)) * 2,
        found.indices.flatten().tolist(),
        found.offsets.flatten(0, 2),
        found.evidence[:, :, 0].flatten(),
        strict=True,
    ):
        ref, index, columns = (refs[0], key, 3) if key < 12 else (refs[1], key - 12, 5)
        pattern = window(lr_up[0], (query // 5 - 1) * cell, (query % 5 - 1) * cell, 3 * cell)
        scores = {}
        for down in range(-reach, reach + 1):
            for right in range(-reach, reach + 1):
                top, left = (index // columns - 1) * cell + down, (index % columns - 1) * cell + right
                scores[down, right] = np.corrcoef(pattern.ravel(), window(ref[0], top, left, 3 * cell).ravel())[0, 1]
        best = max(scores.values())
        # The correlation lost in favour of the centre is at most `_CENTRE`.
        assert scores[tuple(offset.tolist())] >= best - 2e-3
        assert zncc.item() == pytest.approx(scores[tuple(offset.tolist())], abs=1e-4)


def test_a_shift_is_found_and_undone():
    scene = smooth(5, 160, 160)
    query, reference = scene[..., 16:112, 16:112], scene[..., 14:110, 17:113]
    config = SearchConfig(3, 1, 1)
    same_cell = Matches(torch.arange(24 * 24).view(1, 1, -1), torch.ones(1, 1, 576), 576)
    found = align(query, [reference], same_cell, config)
    inner = found.offsets[0, 0].view(24, 24, 2)[2:-2, 2:-2].flatten(0, 1)
    assert (inner == torch.tensor([2, -1])).all()
    (texture,) = transfer([reference], found.indices, (24, 24), 4, config, found.offsets)
    assert torch.allclose(texture[..., 8:-8, 8:-8], query[..., 8:-8, 8:-8])
    assert (found.evidence[0, 0, 1].view(24, 24)[2:-2, 2:-2] == 1).all()  # all neighbours agree


def test_brightness_and_contrast_do_not_matter_and_are_told():
    scene = smooth(6, 96, 96)
    same_cell = Matches(torch.arange(576).view(1, 1, -1), torch.ones(1, 1, 576), 576)
    found = align(0.5 * scene + 0.2, [scene], same_cell, SearchConfig(3, 1, 1))
    assert not found.offsets.any()
    zncc, _, _, ratio = found.evidence[0, 0]
    assert zncc.min() > 0.999
    assert ratio == pytest.approx(np.log(0.5), abs=1e-2)


def test_unrelated_and_flat_windows_have_little_evidence():
    config = SearchConfig(3, 1, 1)
    lr_up, ref = smooth(7, 96, 96), smooth(8, 96, 96)
    matches = some_matches(9, 576, 576)
    assert align(lr_up, [ref], matches, config).evidence[:, :, 1].mean() < 0.1
    flat = align(torch.zeros_like(lr_up), [ref], matches, config)
    assert not flat.offsets.any()
    assert flat.evidence[:, :, 0].abs().max() == 0


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_transfer_without_moves_is_transfer(stride, scale):
    config = SearchConfig(3 * stride, stride, stride)
    generator = torch.Generator().manual_seed(4)
    sides = [(12, 9), (7, 8)]
    values = [torch.randn(2, 5, h * stride * scale, w * stride * scale, generator=generator) for h, w in sides]
    matches = some_matches(1, 80, 108 + 56, batch=2, u=3)
    size = (8 * stride, 10 * stride)
    still = torch.zeros(2, 3, 80, 2, dtype=torch.long)
    plain = transfer(values, matches.indices, size, scale, config)
    for a, b in zip(plain, transfer(values, matches.indices, size, scale, config, still), strict=True):
        assert torch.equal(a, b)


def test_transfer_moves_whole_patches():
    config = SearchConfig(3, 1, 1)
    value = torch.arange(40 * 40, dtype=torch.float32).view(1, 1, 40, 40)
    identity = torch.arange(100).view(1, 1, 100)
    moved = torch.tensor([3, -2]).expand(1, 1, 100, 2)
    (texture,) = transfer([value], identity, (10, 10), 4, config, moved)
    assert torch.allclose(texture[0, 0, 4:-4, 4:-4], value[0, 0, 7:-1, 2:-6])


def test_patches_without_blocks_are_refused():
    with pytest.raises(ValueError, match="k = 3s"):
        align(smooth(0, 24, 24), [smooth(1, 24, 24)], some_matches(0, 36, 36), SearchConfig(5, 1, 2))
