"""Every system's training step in operations that are deterministic on CUDA: `train.deterministic` forbids all others.

Tensors on PyTorch's device "meta" have a shape and no numbers. They take the way of an accelerator, backward too,
without a GPU. What an operation does there is known by its name.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from extracter.families import FAMILIES
from extracter.models.blocks import resize
from extracter.models.checkpoint import build_model
from extracter.models.critic import Critic
from extracter.models.matcher import Matcher
from extracter.models.vgg import VGG19
from extracter.training import losses
from extracter.training.match import distillation_loss, triplet_loss
from extracter.training.objective import Objective, losses_of

# The operations behind the list in `torch.use_deterministic_algorithms`: on CUDA they raise an error.
FORBIDDEN = {
    *(f"{name}_backward" for name in (
        "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "max_pool3d_with_indices", "adaptive_max_pool2d",
        "fractional_max_pool2d", "fractional_max_pool3d", "upsample_linear1d", "upsample_bilinear2d",
        "upsample_bicubic2d", "upsample_trilinear3d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
        "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "_ctc_loss", "grid_sampler_2d", "grid_sampler_3d",
    )),
    "max_unpool2d", "max_unpool3d", "nll_loss_forward", "nll_loss2d_forward", "put", "put_", "histc", "bincount",
    "median", "nanmedian", "kthvalue",
}  # fmt: skip
_MAX = 2  # a mode of `embedding_bag`


class Operations(TorchDispatchMode):
    """Names of the operations that run, and of the forbidden ones among them."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.forbidden: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        self.names.add(name)
        wrong = name in FORBIDDEN or (name == "scatter_reduce" and "prod" in args)
        wrong |= name == "cumsum" and args[0].is_floating_point()
        wrong |= name == "_embedding_bag_backward" and args[8] == _MAX
        if wrong:
            self.forbidden.add(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def no_autocast(monkeypatch):
    """It knows no device "meta"."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())


@pytest.mark.parametrize(("family", "trust"), [*((family, False) for family in FAMILIES), ("extracter", True)])
def test_a_step_takes_deterministic_operations(family, trust, tiny_preset):
    """Extracter with alignment and gate, too."""
    model = tiny_preset.model.model_copy(update={"align": trust, "gate": trust})
    weights = losses_of(family, "full", tiny_preset.loss)
    with torch.device("meta"):
        network = build_model(family, model, tiny_preset.search).train()
        objective = Objective(replace(weights, perc=0.0), network, "random", 4, 0)
        objective.vgg = VGG19(depth=5, width=4, whole_stage=weights.perc_layer == "conv5_4")
        critic = Critic(64)
        lr, lr_up = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 64, 64)
        refs = [lr_up, torch.rand(2, 3, 32, 48)]
    with Operations() as operations:
        sr = network(lr, lr_up, refs, refs)
        measured = {"rec": losses.reconstruction_loss(sr, lr_up), **objective.measure(sr, lr_up, critic)}
        objective.total(measured).backward()
        teach(critic, sr.detach(), lr_up, weights.gan).backward()
    assert not operations.forbidden
    assert {"convolution_backward", "max_pool2d_with_indices_backward"} <= operations.names
    trained = [parameter for parameter in network.parameters() if parameter.grad is not None]
    assert {parameter.grad.device.type for parameter in trained} == {"meta"}


def teach(critic: Critic, sr: Tensor, hr: Tensor, gan: str) -> Tensor:
    """The critic's loss."""
    if gan == "relativistic":
        return losses.relativistic_loss(critic(hr), critic(sr))
    return losses.critic_loss(critic, sr, hr, 10.0, torch.Generator())


def test_the_matcher_takes_deterministic_operations():
    with torch.device("meta"):
        matcher, image = Matcher(4), torch.rand(2, 3, 64, 64)
        places, counts = torch.zeros(2, 256, dtype=torch.long), torch.ones(2, 256, dtype=torch.bool)
    with Operations() as operations:
        query, key = (x.flatten(2) for x in matcher(image, image))
        loss = triplet_loss(query, key, places, counts) + distillation_loss(query, key, query.detach(), key.detach())
        loss.backward()
    assert not operations.forbidden
    assert "max_pool2d_with_indices_backward" in operations.names


def test_forbidden_operations_are_found():
    """Each of these has a replacement here."""
    x = torch.rand(1, 1, 8, 8, requires_grad=True)
    with Operations() as operations:
        F.interpolate(x, (16, 16), mode="bicubic").sum().backward()
        F.interpolate(x, (16, 16), mode="bilinear").sum().backward()
        x.cumsum(2)
        torch.arange(3).cumsum(0)
    assert operations.forbidden == {"upsample_bicubic2d_backward", "upsample_bilinear2d_backward", "cumsum"}
    with Operations() as operations:
        resize(torch.rand(1, 1, 8, 8, device="meta", requires_grad=True), (16, 16)).sum().backward()
    assert not operations.forbidden
