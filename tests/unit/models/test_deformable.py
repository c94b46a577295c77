"""Deformable convolution against torchvision's, values and gradients."""

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import deform_conv2d

from extracter.models.deformable import deformable_conv


def inputs(groups: int, whole: bool, size=(7, 6)):
    generator = torch.Generator().manual_seed(0)

    def numbers(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    offsets = 3 * numbers(2, 18 * groups, *size)  # many reach beyond the image
    if whole:
        offsets = offsets.round()
    mask = numbers(2, 9 * groups, *size).sigmoid()
    return numbers(2, 8, *size), offsets, mask, numbers(5, 8, 3, 3), numbers(5)


@pytest.mark.parametrize("groups", [1, 8])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_values_and_all_gradients_are_torchvisions(groups, whole, masked):
    values, offsets, mask, weight, bias = inputs(groups, whole)
    used = [x.requires_grad_() for x in (values, offsets, weight, bias, *([mask] if masked else []))]
    given = mask if masked else None
    ours = deformable_conv(values, offsets, given, weight, bias)
    theirs = deform_conv2d(values, offsets, weight, bias, padding=1, mask=given)
    torch.testing.assert_close(ours, theirs)
    share = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    wanted = torch.autograd.grad((theirs * share).sum(), used)
    for mine, other in zip(torch.autograd.grad((ours * share).sum(), used), wanted, strict=True):
        torch.testing.assert_close(mine, other)


def test_parts_without_gradients_equal_the_whole(monkeypatch):
    values, offsets, mask, weight, bias = inputs(2, whole=False)
    whole = deformable_conv(values.requires_grad_(), offsets, mask, weight, bias)
    monkeypatch.setattr("extracter.models.deformable._PART", 1)
    with torch.no_grad():
        torch.testing.assert_close(deformable_conv(values, offsets, mask, weight, bias), whole)


def test_a_reference_of_another_size():
    values, weight = torch.rand(1, 4, 12, 5), torch.rand(3, 4, 3, 3)
    offsets = torch.zeros(1, 18, 6, 5)
    offsets[:, ::2] = 6  # the lower half
    result = deformable_conv(values, offsets, None, weight, torch.zeros(3))
    torch.testing.assert_close(result[:, :, 1:], F.conv2d(values, weight, padding=1)[:, :, 7:], atol=1e-5, rtol=1e-5)


def test_half_precision_keeps_positions():
    values, weight = torch.rand(1, 8, 300, 300), torch.rand(3, 8, 3, 3)
    offsets = torch.full((1, 18, 4, 4), 281.0)  # bfloat16 has 280 and 282
    with torch.autocast("cpu", torch.bfloat16):
        result = deformable_conv(values.bfloat16(), offsets, None, weight, torch.zeros(3))
    exact = F.conv2d(values[..., 280:287, 280:287].bfloat16().float(), weight)[..., :4, :4]
    torch.testing.assert_close(result.float(), exact, atol=0.2, rtol=0.02)
