"""The gate and what it does to the network."""

import pytest
import torch

from extracter.models.extracter import Extracter
from extracter.models.gate import image_evidence

SMALL = {"features": 8, "dfe_width": 4, "ife_blocks": 1, "csfi_blocks": (1, 1, 1), "gde_blocks": (1, 1, 1)}


def inputs(size: int = 24, reference: int = 40):
    generator = torch.Generator().manual_seed(3)
    lr, up, ref, du = (
        torch.rand(1, 3, side, side, generator=generator) * 2 - 1 for side in (size // 4, size, reference, reference)
    )
    return lr, up, ref, du


def small(**changes) -> Extracter:
    torch.manual_seed(0)
    return Extracter(**SMALL, **{"kernel": 3, "stride": 1, "padding": 1, "align": True, "gate": True} | changes).eval()


@torch.no_grad()
def test_a_closed_gate_makes_every_reference_the_same():
    network = small()
    lr, up, ref, du = inputs()
    assert not torch.equal(network(lr, up, ref, du), network(lr, up, ref.flip(3), du.flip(3)))
    network.gate.layers[-1].bias.fill_(-1000.0)
    network.gate.layers[-1].weight.fill_(0.0)
    assert torch.equal(network(lr, up, ref, du), network(lr, up, ref.flip(3), du.flip(3)))


@torch.no_grad()
def test_without_gate_and_alignment_the_network_is_the_papers():
    assert set(small(align=False, gate=False).state_dict()) == set(small(gate=False).state_dict())
    with pytest.raises(ValueError, match="needs `align`"):
        Extracter(gate=True)


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_reach_the_gate_and_the_features(stride):
    network = small(kernel=3 * stride, stride=stride, padding=stride)
    network(*inputs()).square().mean().backward()
    for part in (network.gate, network.dfe):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in part.parameters())


def test_local_contrast():
    lr = torch.zeros(1, 3, 8, 8)
    assert image_evidence(lr, 2).shape == (1, 4, 4, 4)
    assert image_evidence(lr, 1)[0, 3].max() == pytest.approx(1 / 127.5)
    lr[..., ::2] = 1.0
    assert image_evidence(lr, 1)[0, 3, 4, 4] == pytest.approx((2 / 9) ** 0.5, abs=1e-3)
