"""Device, seeds, determinism and precision of float32: the same for every command."""

import fcntl
import getpass
import os
import re
import shutil
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import torch

from extracter.errors import UserError

# Locks that this process holds on GPUs: they are free again when it ends, however it ends.
_claims: dict[int, IO] = {}
# What each thread inside `full_float32` found; only the first one can find TensorFloat-32 switched on.
_found: list[tuple[bool, bool]] = []
_switching = threading.Lock()


def choose_device(name: str) -> torch.device:
    """The device that `name` means on this machine; one on CUDA always has an index.

    `auto` and `cuda` take a GPU that no other process of this package has taken, if there is one.

    Args:
        name: auto, cpu, cuda, cuda:N or mps. auto takes a GPU where PyTorch can use one and the CPU elsewhere; where
            there is a GPU that it cannot use, it says why.

    Raises:
        UserError: there is no such device, or the name is another.

    Example:
        >>> choose_device("cpu")
        device(type='cpu')
    """
    if not re.fullmatch(r"auto|cpu|cuda|cuda:\d+|mps", name):
        raise UserError(f"--device {name}: allowed are auto, cpu, cuda, cuda:N (N from 0) and mps")
    if name == "cpu":
        return torch.device("cpu")
    if name == "mps":
        if not torch.backends.mps.is_available():
            raise UserError("--device mps: this PyTorch finds no Apple GPU; use --device cpu")
        return torch.device("mps")
    obstacle = _obstacle()
    if name == "auto" and obstacle is not None:
        if shutil.which("nvidia-smi") is not None:
            print(f"computing on the CPU: {obstacle}", file=sys.stderr, flush=True)
        return torch.device("cpu")
    if obstacle is not None:
        raise UserError(f"--device {name}: {obstacle}; put that right, or use --device cpu")
    count = torch.cuda.device_count()
    if ":" in name:
        index = int(name.partition(":")[2])
        if index >= count:
            raise UserError(f"--device {name}: there are {count} GPUs; the last one is cuda:{count - 1}")
    else:
        index = _claim_gpu(count)
    unsupported = _incompatibility(index)
    if unsupported is not None:
        if name != "auto":
            raise UserError(f"--device {name}: {unsupported}; use --device cpu, or install another PyTorch")
        print(f"computing on the CPU: {unsupported}", file=sys.stderr, flush=True)
        return torch.device("cpu")
    return torch.device("cuda", index)


def _obstacle() -> str | None:
    """Why PyTorch cannot use any GPU here; None where it can."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            return None
    if torch.version.cuda is None:
        return "this PyTorch is built without CUDA"
    for warning in caught:
        said = " ".join(str(warning.message).split())
        if "CUDA" in said or "driver" in said:
            return said.partition(" (Triggered internally")[0].rstrip(".")
    return "PyTorch finds no CUDA device; check the driver and CUDA_VISIBLE_DEVICES"


def _incompatibility(index: int) -> str | None:
    """Why this PyTorch has no kernels for a GPU; None where it has."""
    major, minor = torch.cuda.get_device_capability(index)
    for architecture in torch.cuda.get_arch_list():
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)[af]?", architecture)
        if found is None:
            continue
        compiled = (int(found[2]), int(found[3]))
        # Machine code serves later cards of its generation; PTX serves all later cards.
        if compiled <= (major, minor) and (found[1] == "compute" or compiled[0] == major):
            return None
    return (
        f"{torch.cuda.get_device_name(index)} has compute capability {major}.{minor}, and this PyTorch "
        f"is built for {', '.join(torch.cuda.get_arch_list()) or 'none'}"
    )


def _claim_gpu(count: int) -> int:
    """The first GPU that no other process has claimed, so that jobs side by side spread; else the current one."""
    if count == 1:
        return torch.cuda.current_device()
    if _claims:
        return min(_claims)
    for index in range(count):
        mark = re.sub(r"\W", "-", str(getattr(torch.cuda.get_device_properties(index), "uuid", index)))
        path = Path(tempfile.gettempdir()) / f"extracter-{getpass.getuser()}-gpu-{mark}.lock"
        try:
            lock = path.open("a")
        except OSError:
            break
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        _claims[index] = lock
        return index
    return torch.cuda.current_device()


def configure_torch(seed: int, *, deterministic: bool = True, tf32: bool = False) -> None:
    """Seed PyTorch and set how it computes, for the rest of the process.

    Args:
        seed: of PyTorch's generators.
        deterministic: allow deterministic kernels only, so that two runs on one machine agree bit for bit; otherwise
            cuDNN tries its kernels and takes the fastest.
        tf32: let GPUs round the factors of float32 products to 10 bits; faster, and matches may differ.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(deterministic)
    # Otherwise PyTorch fills each new tensor with NaN, a tenth of a training step. No code here reads such memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32


@contextmanager
def full_float32() -> Iterator[None]:
    """No TensorFloat-32 inside: GPUs use it for convolutions unless told otherwise.

    The switches are the process's: of several threads, the last one to leave sets them back.
    """
    with _switching:
        _found.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        with _switching:
            before = _found.pop()
            if not _found:
                torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
