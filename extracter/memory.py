"""How much memory a computation took, on the CPU and on CUDA, and confining a process to a budget.

"Peak memory" is always what was held at the highest point beyond the baseline, which is taken once the network is
loaded and warm: on CUDA what PyTorch's allocator handed out, on the CPU the resident set.
"""

import ctypes
import mmap
import os
import re
import resource
import sys
from pathlib import Path

import torch

from extracter.errors import UserError

MIB = 2**20
GIB = 2**30


def _status(key: str) -> int | None:
    """A field of /proc/self/status in bytes; None on systems that have no such file."""
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(rf"^{key}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def available() -> int:
    """Bytes of memory that the system can still give, without swapping; elsewhere than on Linux 4 GiB, a guess."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return 4 * GIB
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 4 * GIB


# Settings of glibc's mallopt, and the number of mappings that it allows by itself.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_MAPPINGS = 65536


def malloc_trim() -> None:
    """Have the C library give large freed blocks back to the system at once, until `malloc_reuse`.

    glibc keeps freed blocks of up to 32 MiB in a heap that cannot shrink past the last one in use, which doubles what a
    network seems to need. Other C libraries have no such setting, and none is made.
    """
    _tune({_M_MMAP_MAX: _MAPPINGS, _M_MMAP_THRESHOLD: 4 * MIB, _M_TRIM_THRESHOLD: 4 * MIB})
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def malloc_reuse() -> None:
    """Have the C library use freed blocks again, until `malloc_trim`.

    glibc asks the system for each block of more than 32 MiB, and the system clears it before it gives it: a fifth of a
    network's time on the CPU. Kept, freed blocks take up to as much again as the network needs.
    """
    _tune({_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1})


def bound_kernel_cache() -> None:
    """Have oneDNN keep no more than 64 convolutions ready, if it has not begun to.

    It keeps the code and the tables of 1,024 by itself, one for each size of map that a layer met: a third of a MiB
    each, so that an image of many tiles of different sizes takes hundreds of MiB more from tile to tile. The variable
    is read once in a process, at the first convolution on the CPU; a value that the user has set stays.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")


def _tune(settings: dict[int, int]) -> None:
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for setting, value in settings.items():
            libc.mallopt(setting, value)


class PeakMemory:
    """Peak memory of one computation after another, over the baseline at the time of construction.

    On Linux the kernel's high-water mark of the resident set is reset before each computation. Where it cannot be reset
    (a container without /proc/self/clear_refs, macOS) the mark is that of the process so far, an upper bound: the
    figures of a run then never fall from one computation to the next.

    Args:
        device: where the network runs.
        reuse: on the CPU freed memory is kept for what comes next, which is faster; then it counts, too.
    """

    def __init__(self, device: torch.device, reuse: bool = False):
        self.device = device
        malloc_trim()
        if reuse:
            malloc_reuse()
        if device.type == "cuda":
            self.baseline = torch.cuda.memory_allocated(device)
        else:
            self.baseline = _status("VmRSS") or self._mark()
        self.reset()

    def reset(self) -> None:
        """Begin a new computation."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # 5: only the high-water mark
        except OSError:
            return  # the documented fallback: the mark stays where it is

    def read(self) -> float:
        """Peak since the last `reset`, in MiB over the baseline."""
        if self.device.type == "cuda":
            mark = torch.cuda.max_memory_allocated(self.device)
        else:
            mark = self._mark()
        return max(0, mark - self.baseline) / MIB

    @staticmethod
    def _mark() -> int:
        mark = _status("VmHWM")
        if mark is None:
            mark = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return mark


def limit_memory(device: torch.device, budget_gib: float) -> float:
    """Let this process allocate no more than a budget beyond what it holds, for the rest of its life.

    On the CPU the limit is RLIMIT_DATA, which on Linux counts private writable memory: heap and anonymous mappings, but
    not the libraries that a CUDA build of PyTorch maps. On CUDA it is a limit of PyTorch's allocator.

    Args:
        device: where the network runs.
        budget_gib: GiB.

    Returns:
        The budget in force, GiB: the device's whole memory where that is less than `budget_gib`.

    Raises:
        UserError: this system cannot limit_memory a process.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(device).total_memory
        fraction = (torch.cuda.memory_reserved(device) + budget_gib * GIB) / total
        torch.cuda.set_per_process_memory_fraction(min(1.0, fraction), device)
        return min(budget_gib, total / GIB)
    unable = "this system does not limit_memory a process's memory (RLIMIT_DATA); run on Linux or with --device cuda"
    held, budget = _status("VmData"), int(budget_gib * GIB)
    if held is None:
        raise UserError(unable)
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard != resource.RLIM_INFINITY and hard < held + budget:
        raise UserError(
            f"a limit of {hard / GIB:.2f} GiB is set on this shell (ulimit -d), less than `memory_budget_gib` needs; "
            "raise the one or lower the other"
        )
    resource.setrlimit(resource.RLIMIT_DATA, (held + budget, hard))
    try:  # some sandboxes accept the limit and do not enforce it; a mapping that is never touched costs nothing
        mmap.mmap(-1, budget + 64 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except OSError:
        return budget_gib
    raise UserError(unable)


# What PyTorch, NumPy, Python, the C++ library and CUDA say when an allocation fails, and nothing else says.
_ALLOCATION_FAILURES = (
    "can't allocate memory",
    "not enough memory: you tried to allocate",
    "CUDA out of memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "Unable to allocate",
    "std::bad_alloc",
    "MemoryError",
)


def is_allocation_failure(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, and not something else."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and says_allocation_failure(str(error))


def says_allocation_failure(text: str) -> bool:
    """Whether a message (of an exception, or of a process that aborted) says that an allocation failed."""
    return any(phrase in text for phrase in _ALLOCATION_FAILURES)
