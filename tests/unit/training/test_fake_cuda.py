"""Every system's forward pass and losses on `cuda`, without a GPU: no tensor on another device, no hidden wait for it.

Fake tensors have a device and a shape and no numbers. Whatever would bring a number to the CPU raises.
"""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from extracter.families import FAMILIES
from extracter.models.checkpoint import build_model
from extracter.models.critic import Critic
from extracter.models.matcher import Matcher
from extracter.models.vgg import VGG19
from extracter.training.losses import reconstruction_loss
from extracter.training.match import distillation_loss, triplet_loss
from extracter.training.objective import Objective, losses_of

CUDA = torch.device("cuda:0")
pytestmark = pytest.mark.usefixtures("no_kept_tensors")


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize(("family", "trust"), [*((family, False) for family in FAMILIES), ("extracter", True)])
def test_forward_and_losses(family, trust, precision, tiny_preset, monkeypatch):
    """Extracter with alignment and gate, too."""
    # Otherwise there is no autocast where there is no GPU.
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    autocast = partial(torch.autocast, "cuda", torch.float16, enabled=precision == "float16")
    weights = losses_of(family, "full", tiny_preset.loss)
    model = tiny_preset.model.model_copy(update={"align": trust, "gate": trust})
    with FakeTensorMode():
        with CUDA:
            network = build_model(family, model, tiny_preset.search).train()
            objective = Objective(replace(weights, perc=0.0), network, "random", 4, 0)
            # Without its first weights, which need numbers.
            objective.vgg = VGG19(depth=5, width=4, whole_stage=weights.perc_layer == "conv5_4")
            critic = Critic(64)
            lr, lr_up = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 64, 64)
            large = torch.rand(2, 3, 32, 48)
        for refs in ([lr_up], [lr_up, large]):
            with autocast():
                sr = network(lr, lr_up, refs, refs)
            assert sr.device == CUDA
            measured = {"rec": reconstruction_loss(sr, lr_up), **objective.measure(sr, lr_up, critic, autocast)}
            assert objective.total(measured).device == CUDA
        network.eval()
        with torch.no_grad(), autocast():
            assert network(lr, lr_up, lr_up, lr_up).device == CUDA
            if trust:
                assert network(lr, lr_up, refs, refs, [None, (2, 4)]).device == CUDA


def test_losses_of_the_matcher():
    with FakeTensorMode():
        with CUDA:
            matcher = Matcher(4)
            image = torch.rand(2, 3, 64, 64)
            places, counts = torch.zeros(2, 256, dtype=torch.long), torch.ones(2, 256, dtype=torch.bool)
        query, key = (x.flatten(2) for x in matcher(image, image))
        for loss in (triplet_loss(query, key, places, counts), distillation_loss(query, key, query, key)):
            assert loss.device == CUDA
