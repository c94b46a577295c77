"""The training step: forward pass, losses, critic, optimiser, moving average (sections 3.5 and 3.6)."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from extracter.families import Losses
from extracter.image_tensors import to_signed
from extracter.models.critic import Critic
from extracter.models.refsr import RefSR
from extracter.presets import Model, Train
from extracter.training import losses
from extracter.training.distributed import average_gradients, part_of
from extracter.training.objective import Objective

Clock = Callable[[str], AbstractContextManager]


def untimed(part: str) -> AbstractContextManager:
    """A timer that does nothing."""
    return nullcontext()


class Learner:
    """A network, its optimiser, the average of its weights and, with all losses, the critic and VGG19.

    Args:
        fabric: device and precision.
        network: with its first weights; trained in place.
        model_params: VGG19's weights and width.
        weights: of the losses, see `objective.losses_of`.
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
        weights: Losses,
        params: Train,
        *,
        steps: int,
        seed: int,
        size: int | None = None,
    ):
        self.fabric, self.network, self.weights, self.params = fabric, network, weights, params
        self.steps, self.seed = steps, seed
        freeze(network, params)
        layout = torch.channels_last if params.channels_last else torch.preserve_format
        network.to(memory_format=layout)
        if params.compile:
            network.compile_parts()  # for one size: all training images have it
        self.model, self.optimiser = fabric.setup(network, _adam(network, params, _fused(fabric)))
        self.average = None
        if params.ema > 0:
            self.average = AveragedModel(network)
        # The first phase has no perceptual loss, and its parameters no width for one.
        width = 0 if size is None else model_params.dfe_width
        self.objective = Objective(weights, network, model_params.vgg_weights, width, seed)
        if self.objective.vgg is not None:
            self.objective.vgg = fabric.to_device(self.objective.vgg).to(memory_format=layout)
        self.critic = None
        if size is not None:
            critic = Critic(size).to(memory_format=layout)
            betas = (params.critic_beta1, params.critic_beta2)
            adam = torch.optim.Adam(critic.parameters(), params.critic_lr, betas, fused=_fused(fabric))
            # Only its optimiser is Fabric's: the gradient penalty goes backward twice, which a module that Fabric
            # wraps for mixed precision forbids.
            _, self.critic_optimiser = fabric.setup(critic, adam)
            self.critic = critic

    @property
    def result(self) -> RefSR:
        """The network to validate and to keep: the average of the weights where there is one."""
        return self.network if self.average is None else self.average.module

    @property
    def parts(self) -> dict[str, Any]:
        """Everything with a state that a resumed run needs."""
        # The precision has a state, too: the factor by which float16 training scales its losses.
        parts = {"model": self.model, "optimiser": self.optimiser, "precision": self.fabric.strategy.precision}
        if self.average is not None:
            parts["average"] = self.average
        if self.critic is not None:
            parts |= {"critic": self.critic, "critic_optimiser": self.critic_optimiser}
        return parts

    def step(self, number: int, batch: dict[str, Tensor], clock: Clock = untimed) -> dict[str, Tensor]:
        """One update of the critic and of the network; a function of the weights, the batch and the step's number.

        Args:
            number: from 0.
            batch: as `TrainingPairs.batch` gives it, uint8.
            clock: context manager that is entered for each part of the step, by its name.

        Returns:
            The losses as scalars on the device, where they may stay until somebody reads them: rec, loss, and with all
            losses critic and those of `objective.TERMS` that have a weight.
        """
        self._set_rate(number)
        with clock("data"):
            batch = {key: to_signed(self.fabric.to_device(images)) for key, images in batch.items()}
            hr = batch.pop("hr")
        # Not `self.model(...)`: Fabric would round the images to the training's precision first.
        with clock("network"), self.fabric.autocast():
            sr = self._super_resolve(**batch)
        with clock("losses"):
            measured = {"rec": losses.reconstruction_loss(sr, hr)}
            if self.critic is not None:
                measured["critic"] = self._teach_critic(number, sr, hr)
                measured |= self.objective.measure(sr, hr, self.critic, self.fabric.autocast)
            loss = self.objective.total(measured)
            measured["loss"] = loss
        with clock("backward"):
            self.optimiser.zero_grad()
            self.fabric.backward(loss)
            average_gradients(self.network.parameters())
        with clock("optimiser"):
            if self.params.clip is not None:
                # Of float16's scaled losses infinite gradients are expected now and then; the scaler skips the step.
                self.fabric.clip_gradients(
                    self.model, self.optimiser, max_norm=self.params.clip, error_if_nonfinite=False
                )
            self.optimiser.step()
            if self.average is not None:
                _move_average(self.average, self.network, self.params.ema)
        return {key: value.detach() for key, value in measured.items()}

    def _super_resolve(self, lr: Tensor, lr_up: Tensor, ref: Tensor, ref_du: Tensor) -> Tensor:
        """SR of this process's pairs, the first of the whole batch without their references."""
        if self.network.needs_reference:
            return self.network(lr, lr_up, ref, ref_du)
        count = round(self.params.without_reference * self.params.batch)
        alone = min(max(count - part_of(self.params.batch).start, 0), len(lr))
        results = []
        if alone:
            results.append(self.network(lr[:alone], lr_up[:alone], [], []))
        if alone < len(lr):
            results.append(self.network(lr[alone:], lr_up[alone:], ref[alone:], ref_du[alone:]))
        return torch.cat(results)

    def _set_rate(self, number: int) -> None:
        share = 1.0
        if self.params.schedule == "cosine":
            share = 0.5 * (1 + math.cos(math.pi * number / self.steps))
        elif self.params.schedule == "steps":
            share = 0.1 ** sum(number >= at * self.steps for at in self.params.decay_at)
        for group in self.optimiser.param_groups:
            group["lr"] = share * group["initial_lr"]

    def _teach_critic(self, number: int, sr: Tensor, hr: Tensor) -> Tensor:
        turns = self.params.critic_steps
        for turn in range(turns):
            draw = torch.Generator().manual_seed((self.seed * self.steps + number) * turns + turn)
            with self.fabric.autocast():
                if self.weights.gan == "relativistic":
                    loss = losses.relativistic_loss(self.critic(hr), self.critic(sr.detach()))
                else:
                    loss = losses.critic_loss(self.critic, sr, hr, self.weights.gradient_penalty, draw)
            self.critic_optimiser.zero_grad()
            self.fabric.backward(loss)
            average_gradients(self.critic.parameters())
            self.critic_optimiser.step()
        return loss


@torch.no_grad()
def _move_average(average: AveragedModel, network: nn.Module, decay: float) -> None:
    """Move the average towards the weights; at first faster, so that those of the beginning are soon forgotten.

    `average.update_parameters` would copy its counter, which is on the CPU, to the device and wait for it.
    """
    done = int(average.n_averaged)
    averages, weights = list(average.module.parameters()), list(network.parameters())
    if done:
        get_ema_multi_avg_fn(min(decay, (1 + done) / (10 + done)))(averages, weights, average.n_averaged)
    else:
        torch._foreach_copy_(averages, weights)
    for kept, buffer in zip(average.module.buffers(), network.buffers(), strict=True):
        kept.copy_(buffer)
    average.n_averaged += 1


def freeze(network: RefSR, params: Train) -> None:
    """Take from training what a network keeps as it is, and what has a learning rate of 0."""
    for name, parameter in network.named_parameters():
        if name.startswith(network.frozen) or _rate(name, network, params) == 0:
            parameter.requires_grad_(False)


def _rate(name: str, network: RefSR, params: Train) -> float:
    """The learning rate of a weight: that of the DFE or the gate, or the one that the network names in `rates`."""
    if name.startswith("dfe."):
        return params.dfe_lr
    if name.startswith("gate.") and params.gate_lr is not None:
        return params.gate_lr
    return params.lr * next((share for start, share in network.rates.items() if name.startswith(start)), 1.0)


def _fused(fabric: Fabric) -> bool | None:
    """Whether Adam is one operation for all weights: where each operation has a cost of its own.

    Not in float16: a fused optimiser divides gradients by the losses' scale itself, so that Fabric cannot clip them.
    """
    scaled = getattr(fabric.strategy.precision, "scaler", None) is not None
    return True if fabric.device.type == "cuda" and not scaled else None


def _adam(network: RefSR, params: Train, fused: bool | None) -> torch.optim.Adam:
    """Adam with a group of weights for each learning rate."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(_rate(name, network, params), []).append(parameter)
    return torch.optim.Adam(
        [{"params": parameters, "initial_lr": rate} for rate, parameters in groups.items()],
        lr=params.lr,
        betas=(params.beta1, params.beta2),
        eps=params.eps,
        fused=fused,
    )
