"""Training by several processes, a device each: what one process would compute with the whole batch.

`train.batch` is the batch of all processes together. Each takes an equal part of it, and the gradients are averaged, so
that the weights do not depend on the number of devices, but for rounding. With one process every function returns what
it was given.
"""

import os
from collections.abc import Iterable
from typing import TypeVar

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from torch import Tensor, nn

from extracter.errors import UserError

Network = TypeVar("Network", bound=nn.Module)

# Exchanges values in the hosts' memory; None: the group of all processes does.
_host_group: dist.ProcessGroup | None = None


def check_batch(batch: int, devices: int, nodes: int) -> None:
    """Refuse a batch that the processes cannot share equally.

    Raises:
        UserError: `train.batch` is no multiple of the number of processes.
    """
    if batch % (devices * nodes):
        raise UserError(
            f"`train.batch` is {batch}, which {nodes} x {devices} devices cannot share equally; train on a number of "
            "devices that divides it, or change it"
        )


def launch(device: torch.device, devices: int, nodes: int, precision: str) -> Fabric:
    """Fabric with its processes running; from here on each of them runs the rest of the training.

    The processes of one node are started here, with the command line of this one. Those of several nodes are started
    by `srun` or `torchrun`.

    Args:
        device: of this process where it is the only one; of several, its type.
        devices: processes on each node.
        nodes: of the training.
        precision: as Fabric names it.
    """
    if devices * nodes == 1:
        chosen = [device.index] if device.type == "cuda" and device.index is not None else 1
        return Fabric(accelerator=device.type, devices=chosen, precision=precision, plugins=[LightningEnvironment()])
    fabric = Fabric(
        accelerator=device.type,
        devices=devices,
        num_nodes=nodes,
        strategy="ddp",
        precision=precision,
        plugins=[_environment(nodes)],
    )
    fabric.launch()
    if dist.get_backend() != "gloo":
        global _host_group
        _host_group = dist.new_group(backend="gloo")
    # Each process was given the threads of all.
    torch.set_num_threads(max(1, torch.get_num_threads() // devices))
    return fabric


def _environment(nodes: int) -> ClusterEnvironment:
    """Who starts the processes. Named, since Fabric would take any machine that has `srun` for a Slurm job."""
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if nodes > 1 and "SLURM_PROCID" in os.environ:
        return SLURMEnvironment()
    return LightningEnvironment()


def share_statistics(network: Network, device: torch.device) -> Network:
    """Let batch normalisation, where a network has it, take its statistics over the batch of all processes.

    Raises:
        UserError: PyTorch can do that on CUDA alone.
    """
    if process_count() == 1 or not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return network
    if device.type != "cuda":
        raise UserError(
            f"{type(network).__name__} normalises over the batch, which PyTorch cannot do over several processes on "
            "the CPU; train it with `train.devices: 1`"
        )
    return nn.SyncBatchNorm.convert_sync_batchnorm(network)


def leads() -> bool:
    """Whether this is the first process, also before `launch`; the others are started with these variables."""
    names = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
    return all(os.environ.get(name, "0") == "0" for name in names)


def process_count() -> int:
    """Processes of this training."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_number() -> int:
    """Number of this process, from 0. Process 0 writes and prints."""
    return dist.get_rank() if process_count() > 1 else 0


def part_of(count: int) -> slice:
    """The part of `count` images, or of other things in a batch, that is this process's."""
    share = count // process_count()
    return slice(process_number() * share, (process_number() + 1) * share)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace the gradients by their means over all processes, in place, in one exchange.

    A weight that this process's pairs did not use has a gradient of 0 here: others may have used it.
    """
    if process_count() == 1:
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    exchange(flat)
    flat /= process_count()
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def mean_over_processes(values: Tensor) -> Tensor:
    """The mean of a tensor over all processes, through which gradients flow."""
    return values if process_count() == 1 else _Sum.apply(values) / process_count()


def norm_over_processes(values: Tensor) -> Tensor:
    """The Euclidean norm of a batch that is spread over all processes, through which gradients flow."""
    norm = torch.linalg.vector_norm(values)
    return norm if process_count() == 1 else _Sum.apply(norm.square()).sqrt()


def mean_of_figures(figures: Tensor) -> Tensor:
    """The mean of figures over all processes."""
    if process_count() == 1:
        return figures
    total = figures.clone()
    exchange(total)
    return total / process_count()


def gather_figures(own: list[Tensor], total: int, device: torch.device) -> list[float]:
    """Figures of which each process has every n-th, as scalars on its device: all of them, in their order."""
    place = own[0].device if own else device
    figures = torch.zeros(total, dtype=torch.float64, device=place)
    if own:
        figures[process_number() :: process_count()] = torch.stack(own)
    if process_count() > 1:
        exchange(figures)
    return figures.tolist()


def any_process(wanted: bool) -> bool:
    """Whether it holds in any process, so that all of them act alike."""
    if process_count() == 1:
        return wanted
    flag = torch.tensor(float(wanted))
    exchange(flag, _host_group)  # between the hosts, so that no device is waited for
    return bool(flag)


def wait_for_all() -> None:
    """Return when every process has come here."""
    any_process(False)


def exchange(values: Tensor, group: dist.ProcessGroup | None = None) -> None:
    """Sum a tensor over all processes, in place.

    Raises:
        LostProcess: another process has ended.
    """
    try:
        dist.all_reduce(values, group=group)
    except RuntimeError as error:
        raise LostProcess(
            f"process {process_number()} of {process_count()} lost another one, which was killed or has failed; run "
            "the same command again to resume from the last saved state"
        ) from error


class LostProcess(UserError):
    """Another process of the training has ended."""


class _Sum(torch.autograd.Function):
    """Sum over all processes. The gradient of each one's input is the sum of all gradients of the output."""

    @staticmethod
    def forward(context, values: Tensor) -> Tensor:
        total = values.clone()
        exchange(total)
        return total

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        exchange(total)
        return total
