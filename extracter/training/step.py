"""One network in training and what a step does to it (sections 3.5 and 3.6)."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from extracter.models.critic import Critic
from extracter.models.refsr import RefSR
from extracter.models.vgg import VGG19, initialise_vgg
from extracter.params import Loss, Model, Train
from extracter.training import losses

Clock = Callable[[str], AbstractContextManager]


def untimed(part: str) -> AbstractContextManager:
    """The clock of a step whose parts nobody times."""
    return nullcontext()


class Learner:
    """A network, its optimiser, the average of its weights and, with all losses, the critic and VGG19.

    Args:
        fabric: device and precision.
        network: with its first weights; trained in place.
        model_params: VGG19's weights and width.
        weights: of the losses.
        params: optimiser, schedule, memory format, compilation.
        steps: of the whole phase.
        seed: of the gradient penalty and of random VGG19 weights.
        size: side of the training images where all losses are wanted; None for the reconstruction loss alone.
    """

    def __init__(
        self,
        fabric: Fabric,
        network: RefSR,
        model_params: Model,
        weights: Loss,
        params: Train,
        *,
        steps: int,
        seed: int,
        size: int | None = None,
    ):
        self.fabric, self.network, self.weights, self.params = fabric, network, weights, params
        self.steps, self.seed = steps, seed
        network.dfe.requires_grad_(params.dfe_lr > 0)
        if params.channels_last:
            network.to(memory_format=torch.channels_last)
        if params.compile:
            network.compile_parts()
        self.model, self.optimiser = fabric.setup(network, _adam(network, params))
        self.average = None
        if params.ema > 0:
            self.average = AveragedModel(network, multi_avg_fn=partial(_move_average, params.ema))
        self.vgg = self.critic = None
        if size is not None:
            vgg = VGG19(depth=5, width=model_params.dfe_width)
            initialise_vgg(vgg, model_params.vgg_weights, seed)
            self.vgg = fabric.to_device(vgg.requires_grad_(False).eval())
            critic = Critic(size)
            betas = (params.critic_beta1, params.critic_beta2)
            adam = torch.optim.Adam(critic.parameters(), params.critic_lr, betas)
            # Only its optimiser is Fabric's: the gradient penalty goes backward twice, which a module that Fabric
            # wraps for mixed precision forbids. So the critic is in float32 always.
            _, self.critic_optimiser = fabric.setup(critic, adam)
            self.critic = critic

    @property
    def result(self) -> RefSR:
        """The network to validate and to keep: the average of the weights where there is one."""
        return self.network if self.average is None else self.average.module

    @property
    def parts(self) -> dict[str, Any]:
        """Everything with a state that a resumed run needs."""
        parts = {"model": self.model, "optimiser": self.optimiser}
        if self.average is not None:
            parts["average"] = self.average
        if self.critic is not None:
            parts |= {"critic": self.critic, "critic_optimiser": self.critic_optimiser}
        return parts

    def step(self, number: int, batch: dict[str, Tensor], clock: Clock = untimed) -> dict[str, float]:
        """One update of the critic and of the network; a function of the weights, the batch and the step's number.

        Args:
            number: from 0.
            batch: as `TrainingPairs.batch` gives it.
            clock: context manager that is entered for each part of the step, by its name.

        Returns:
            The losses: rec, loss, and with all losses perc, grad, adv and critic.
        """
        self._set_rate(number)
        with clock("data"):
            batch = {key: self.fabric.to_device(images) for key, images in batch.items()}
            hr = batch.pop("hr")
        # Not `self.model(...)`: Fabric would round the images to the training's precision first.
        with clock("network"), self.fabric.autocast():
            sr = self.network(**batch)
        with clock("losses"):
            measured = {"rec": losses.reconstruction_loss(sr, hr)}
            loss = self.weights.rec * measured["rec"]
            if self.critic is not None:
                measured["critic"] = self._teach_critic(number, sr, hr)
                measured["perc"] = losses.perceptual_loss(self.vgg, sr, hr, self.weights.perc_norm)
                measured["grad"] = losses.gradient_loss(sr, hr)
                measured["adv"] = losses.adversarial_loss(self.critic, sr)
                loss = loss + sum(getattr(self.weights, key) * measured[key] for key in ("perc", "grad", "adv"))
            measured["loss"] = loss
        with clock("backward"):
            self.optimiser.zero_grad()
            self.fabric.backward(loss)
        with clock("optimiser"):
            if self.params.clip is not None:
                self.fabric.clip_gradients(self.model, self.optimiser, max_norm=self.params.clip)
            self.optimiser.step()
            if self.average is not None:
                self.average.update_parameters(self.network)
        return {key: value.item() for key, value in measured.items()}

    def _set_rate(self, number: int) -> None:
        share = 1.0
        if self.params.schedule == "cosine":
            share = 0.5 * (1 + math.cos(math.pi * number / self.steps))
        for group in self.optimiser.param_groups:
            group["lr"] = share * group["initial_lr"]

    def _teach_critic(self, number: int, sr: Tensor, hr: Tensor) -> Tensor:
        turns = self.params.critic_steps
        for turn in range(turns):
            draw = torch.Generator().manual_seed((self.seed * self.steps + number) * turns + turn)
            loss = losses.critic_loss(self.critic, sr, hr, self.weights.gradient_penalty, draw)
            self.critic_optimiser.zero_grad()
            self.fabric.backward(loss)
            self.critic_optimiser.step()
        return loss


def _move_average(decay: float, average: Sequence[Tensor], weights: Sequence[Tensor], updates: Tensor) -> None:
    """Move the average towards the weights; at first faster, so that those of the beginning are soon forgotten."""
    done = updates.item()
    get_ema_multi_avg_fn(min(decay, (1 + done) / (10 + done)))(average, weights, updates)


def _adam(network: nn.Module, params: Train) -> torch.optim.Adam:
    """Adam with the DFE at its own rate."""
    dfe = list(network.dfe.parameters())
    others = [p for name, p in network.named_parameters() if not name.startswith("dfe.")]
    groups = [{"params": others, "initial_lr": params.lr}]
    if params.dfe_lr > 0:
        groups.append({"params": dfe, "initial_lr": params.dfe_lr})
    return torch.optim.Adam(groups, lr=params.lr, betas=(params.beta1, params.beta2), eps=params.eps)
