"""Device, seeds and determinism, for all commands."""

import os

import torch

from extracter.errors import UserError


def choose_device(name: str) -> torch.device:
    """Return the device that `name` (auto, cpu or cuda) means on this machine.

    Raises:
        UserError: there is no CUDA device, or the name is not allowed.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device {name}: allowed are auto, cpu and cuda")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch finds no CUDA device; use --device cpu, or check the driver")
    return torch.device(name)


def make_deterministic(seed: int) -> None:
    """Seed PyTorch and allow only deterministic kernels, so that two runs on one machine agree bit for bit."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    # Otherwise PyTorch fills each new tensor with NaN, a tenth of a training step. No code here reads such memory.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False
