"""The gate and what it does to the network."""

import pytest
import torch

from extracter.models.extracter import Extracter
from extracter.models.gate import Gate, image_evidence

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


TRUST = {"trust": (0.4, 0.6), "idle": (0.1, 0.2, 0.3)}


@torch.no_grad()
def test_a_useless_reference_gives_the_result_without_one():
    network = small(**TRUST)
    lr, up, ref, du = inputs()
    alone = network(lr, up, [], [])
    network.gate.layers[-1].weight.fill_(0.0)
    network.gate.layers[-1].bias.fill_(-1.0)  # whose sigmoid is 0.27
    for refs, refs_du in ((ref, du), ([ref, ref.flip(3)], [du, du.flip(3)])):
        torch.testing.assert_close(network(lr, up, refs, refs_du), alone, atol=1e-6, rtol=0)
    network.gate.layers[-1].bias.fill_(0.0)  # 0.5
    assert (network(lr, up, ref, du) - alone).abs().max() > 1e-3


@torch.no_grad()
def test_a_trusted_reference_is_weighed_by_the_gate_alone():
    lr, up, ref, du = inputs()
    wanted, network = small(), small(**TRUST)
    for one in (wanted, network):
        one.gate.layers[-1].weight.fill_(0.0)
        one.gate.layers[-1].bias.fill_(1.0)  # whose sigmoid is 0.73
    assert torch.equal(network(lr, up, ref, du), wanted(lr, up, ref, du))


@torch.no_grad()
def test_trust_is_averaged_over_13_by_13_queries():
    gate = Gate(textures=2, **TRUST | {"idle": (0.1, 0.2)}).eval()
    gate.layers = torch.nn.Identity()
    maps = torch.full((1, 2, 20, 30), -100.0)
    maps[0, 1, 6, 6:] = 100.0  # a row that is trusted: 1 in 13 of the queries around it
    maps[0, 0, 14:] = 0.0  # and rows of 0.5
    weights = gate.weigh(maps)
    assert weights.shape == (1, 4, 20, 30)
    assert weights[0, :, 0, 0].tolist() == pytest.approx([0, 0, 0.1, 0.2])
    largest = 0.5 * 6 / 7  # 7 of the 13 rows around the last one lie inside, of which 6 are trusted
    share = (largest - 0.4) / 0.2
    wanted = [0.5 * share, 0, 0.1 + share * 0.4, 0.2 - share * 0.2]
    assert weights[0, :, 19, 29].tolist() == pytest.approx(wanted, abs=1e-6)


@torch.no_grad()
def test_a_gate_that_is_trained_knows_no_trust():
    gate = Gate(textures=2, **TRUST | {"idle": (0.1, 0.2)}).train()
    maps = torch.rand(1, gate.layers[0].in_channels, 5, 6)
    assert gate.weigh(maps).shape == (1, 2, 5, 6)
    frozen = gate.requires_grad_(False).weigh(maps)
    assert torch.equal(frozen, gate.eval().weigh(maps))
    assert frozen.shape == (1, 4, 5, 6)


@torch.no_grad()
def test_without_trust_a_reference_is_needed():
    lr, up, _, _ = inputs()
    with pytest.raises(ValueError, match="this Extracter needs a reference"):
        small()(lr, up, [], [])


@pytest.mark.parametrize("wrong", [{"trust": (0.6, 0.4)}, {"idle": (0.1, 0.2)}, {"idle": None}])
def test_trust_that_does_not_fit_is_refused(wrong):
    with pytest.raises(ValueError, match="two rising bounds, and `idle` one weight for each"):
        small(**TRUST | wrong)


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
