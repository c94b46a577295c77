"""Device, seeds and determinism: the same for every command."""

import os

import torch

from extracter.errors import UserError


def choose_device(name: str) -> torch.device:
    """The device that `name` (auto, cpu, cuda) means on this machine.

    Raises:
        UserError: cuda is wanted and there is none, or the name is another.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device {name}: allowed are auto, cpu and cuda")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch finds no CUDA device; use --device cpu, or check the driver")
    return torch.device(name)


def make_deterministic(seed: int) -> None:
    """Seed PyTorch and allow deterministic kernels only, so that two runs on one machine agree bit for bit."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    # Each new tensor would be filled with NaN first, a tenth of a training step; nothing here reads one unwritten.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False
