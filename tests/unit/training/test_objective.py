"""The losses of the other systems against values worked out by hand, and what each system's second phase takes."""

import math

import pytest
import torch
from torch.nn import functional as F

from extracter.families import FAMILIES, Losses, schedule_of
from extracter.models.checkpoint import build_model
from extracter.models.ttsr import TTSR
from extracter.models.vgg import VGG19, initialise_vgg
from extracter.training import losses
from extracter.training.objective import TERMS, Objective, losses_of


def images(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture
def vgg():
    network = VGG19(depth=3, width=2)
    initialise_vgg(network, "random", 0)
    return network


def test_gram_matrix_by_loops():
    x = images(2, 3, 4, 5)
    for n in range(2):
        for a in range(3):
            for b in range(3):
                wanted = sum(float(x[n, a, i, j] * x[n, b, i, j]) for i in range(4) for j in range(5))
                assert losses.gram(x)[n, a, b].item() == pytest.approx(wanted, abs=1e-5)


def test_texture_loss_compares_gram_matrices(vgg):
    sr = images(1, 3, 8, 8)
    levels = vgg(sr)
    others = [2 * x for x in reversed(levels)]
    wanted = [(3 * losses.gram(x)).square().mean() / (4 * x.numel() ** 2) for x in levels]
    torch.testing.assert_close(losses.texture_loss(vgg, sr, others), sum(wanted) / 3)
    assert losses.texture_loss(vgg, sr, list(reversed(levels))) == 0


def test_transferal_loss_teaches_the_extractor_by_the_textures_alone(vgg):
    sr, ref = images(1, 3, 8, 8).requires_grad_(), images(1, 3, 8, 8, seed=1)
    textures = list(reversed(vgg(ref)))
    loss = losses.transferal_loss(vgg, sr, textures)
    with torch.no_grad():
        levels = vgg(sr)
        wanted = sum(F.mse_loss(a, b) for a, b in zip(levels, reversed(textures), strict=True)) / 3
    torch.testing.assert_close(loss.detach(), wanted)
    loss.backward()
    assert sr.grad.any()
    through_textures = [p.grad.clone() for p in vgg.parameters()]
    vgg.zero_grad()
    fixed = [x.detach() for x in vgg(sr)]
    (sum(F.mse_loss(a, b) for a, b in zip(fixed, vgg(ref), strict=True)) / 3).backward()
    for mine, other in zip(through_textures, (p.grad for p in vgg.parameters()), strict=True):
        torch.testing.assert_close(mine, other)


def test_relativistic_loss_by_hand():
    wanted, other = torch.tensor([[2.0], [0.0]]), torch.tensor([[1.0], [-1.0]])

    def sigmoid(x):
        return 1 / (1 + math.exp(-x))

    real = -(math.log(sigmoid(2)) + math.log(sigmoid(0))) / 2
    fake = -(math.log(1 - sigmoid(0)) + math.log(1 - sigmoid(-2))) / 2
    assert losses.relativistic_loss(wanted, other).item() == pytest.approx((real + fake) / 2, rel=1e-6)


def test_norm_of_the_perceptual_loss_is_over_the_batch(vgg):
    sr, hr = images(2, 3, 8, 8), images(2, 3, 8, 8, seed=1)
    wanted = (vgg(sr)[-1] - vgg(hr)[-1]).square().sum().sqrt()
    torch.testing.assert_close(losses.perceptual_loss(vgg, sr, hr, "norm"), wanted)


def test_conv5_4_is_the_last_convolution_of_vgg19():
    from torchvision.models import vgg19

    network = VGG19(depth=5, whole_stage=True)
    published = vgg19(weights=None)
    network.load_state_dict({k: v for k, v in published.state_dict().items() if k in network.state_dict()})
    image = images(1, 3, 32, 32)
    x = ((image + 1) / 2 - network.mean) / network.std
    torch.testing.assert_close(network(image)[-1], published.features[:35](x))
    assert len(network(image)) == 6


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_measures_the_terms_that_it_weighs(family, tiny_preset):
    weights = losses_of(family, "full", tiny_preset.loss)
    network = build_model(family, tiny_preset.model, tiny_preset.search).train()
    network.initialise("random", 0)
    objective = Objective(weights, network, "random", 4, 0)
    lr, lr_up, ref = images(2, 3, 8, 8), images(2, 3, 32, 32), images(2, 3, 32, 32, seed=1)
    sr = network(lr, lr_up, ref, ref)
    measured = objective.measure(sr, lr_up, torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()))
    assert set(measured) == {name for name in TERMS if getattr(weights, name)}
    measured["rec"] = losses.reconstruction_loss(sr, lr_up)
    total = objective.total(measured)
    wanted = sum(getattr(weights, name) * value for name, value in measured.items())
    torch.testing.assert_close(total, wanted)
    total.backward()
    assert set(losses_of(family, "rec", tiny_preset.loss).__dict__.items()) == set(Losses(rec=1.0).__dict__.items())


def test_textures_are_kept_only_where_they_are_wanted():
    network = TTSR(8, 4, (1, 1, 1, 1))
    ref = images(1, 3, 32, 32)
    network(images(1, 3, 8, 8), ref, ref, ref)
    assert network.take_textures() == []
    network.keeps_textures = True
    network(images(1, 3, 8, 8), ref, ref, ref)
    assert [tuple(x.shape) for x in network.take_textures()] == [(1, 16, 8, 8), (1, 8, 16, 16), (1, 4, 32, 32)]
    assert network.take_textures() == []


def test_native_schedules_are_valid_parameters(tiny_preset):
    for name, family in FAMILIES.items():
        native = tiny_preset.train.model_copy(update={"regime": "native"})
        changed = schedule_of(name, native)
        type(tiny_preset.train).model_validate(changed.model_dump())
        assert {key: getattr(changed, key) for key in family.native} == dict(family.native)
        assert schedule_of(name, tiny_preset.train) is tiny_preset.train
