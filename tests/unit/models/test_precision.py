"""Mixed precision: matches are those of float32, and what is added at the end is not rounded."""

import dataclasses

import pytest
import torch

from extracter.models.extracter import Extracter
from extracter.models.ttsr import TTSR


def network(family: type) -> Extracter | TTSR:
    torch.manual_seed(0)
    blocks = {"blocks": (1, 1, 1, 1)} if family is TTSR else {"csfi_blocks": (1, 1, 1), "gde_blocks": (1, 1, 1)}
    return family(features=8, dfe_width=4, bicubic_skip=True, **blocks).eval()


def images() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(2, 3, side, side, generator=generator) * 2 - 1 for side in (16, 64, 72, 72)]


@pytest.mark.parametrize("family", [Extracter, TTSR])
@pytest.mark.parametrize("method", ["dense", "chunked", "blocks"])
def test_matches_are_those_of_float32_in_every_precision(family, method):
    model = network(family)
    model.search = dataclasses.replace(model.search, method=method)
    found = []
    model.stm.register_forward_hook(lambda module, args, out: found.append(out))
    for precision in (torch.float32, torch.bfloat16):
        with torch.inference_mode(), torch.autocast("cpu", precision, enabled=precision != torch.float32):
            model(*images())
    (exact, textures), (mixed, mixed_textures) = found
    assert torch.equal(exact.indices, mixed.indices)
    assert torch.equal(exact.scores, mixed.scores)
    for level, mixed_level in zip(textures, mixed_textures, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(level, mixed_level, strict=True))


def test_bicubic_skip_is_exact_under_autocast():
    lr, lr_up, ref, ref_du = images()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        sr = network(Extracter)(lr, lr_up, ref, ref_du)
    assert sr.dtype == torch.float32
    assert torch.equal(sr, lr_up)  # the last convolution is zero at the start
