"""Measure the memory of a computation, on the CPU and on CUDA, and limit the memory of a process.

Peak memory is the highest memory in use minus the baseline, which is taken after the network is loaded and has run
once. On CUDA it counts what PyTorch's allocator handed out, on the CPU the resident set.
"""

import ctypes
import mmap
import os
import re
import resource
import sys
from pathlib import Path

import torch

from extracter import cgroup
from extracter.errors import UserError

MIB = 2**20
GIB = 2**30
_STATUS = "/proc/self/status"


def _field(path: str, key: str) -> int | None:
    """Return a field of a file such as /proc/self/status in bytes, or None on systems without this file."""
    try:
        text = Path(path).read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(rf"^{key}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def available() -> int:
    """Return the bytes available to this process without swapping; a guess, 4 GiB, on other systems than Linux.

    A container may allow less than the machine has. The smaller of both counts.
    """
    return min([_field("/proc/meminfo", "MemAvailable") or 4 * GIB, *cgroup.free_bytes()])


# Settings of glibc's mallopt, and its default for the number of mappings.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_MAPPINGS = 65536


def malloc_return() -> None:
    """Make glibc return freed blocks over 4 MiB to the system immediately. `malloc_reuse` is the opposite.

    By default glibc keeps freed blocks of up to 32 MiB in a heap that cannot shrink below its last block in use, which
    doubles the apparent memory of a network. This setting is of the whole process: commands call this function, and
    functions of the Python API do not. Other C libraries are left as they are.
    """
    _tune({_M_MMAP_MAX: _MAPPINGS, _M_MMAP_THRESHOLD: 4 * MIB, _M_TRIM_THRESHOLD: 4 * MIB})
    malloc_trim()


def malloc_trim() -> None:
    """Return the pages of freed blocks to the system, once. No setting changes."""
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def malloc_reuse() -> None:
    """Make glibc keep freed blocks for reuse. `malloc_return` is the opposite.

    By default glibc requests each block over 32 MiB from the system, which clears it first. That takes a fifth of a
    network's time on the CPU. Kept blocks can double the memory of the process. This setting is of the whole process.
    """
    _tune({_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1})


def bound_kernel_cache() -> None:
    """Limit oneDNN's cache to 64 compiled convolutions, unless the user has set a limit.

    By default it holds 1,024, one for each layer and map size, of a third of a MiB each. An image with tiles of many
    sizes would need hundreds of MiB for it. oneDNN reads the variable at the first convolution on the CPU.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")


def _tune(settings: dict[int, int]) -> None:
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for setting, value in settings.items():
            libc.mallopt(setting, value)


class PeakMemory:
    """Measures the peak memory of successive computations, relative to the memory at construction.

    On Linux the kernel's high-water mark of the resident set is reset before each computation. Where it cannot be reset
    (in a container without /proc/self/clear_refs, or on macOS), the mark is that of the process so far, which is an
    upper bound.

    Args:
        device: device of the network.
        reuse: on the CPU, keep freed memory for the next layers, which is faster. It is then counted, too.
    """

    def __init__(self, device: torch.device, reuse: bool = False):
        self.device = device
        malloc_return()
        if reuse:
            malloc_reuse()
        if device.type == "cuda":
            self.baseline = torch.cuda.memory_allocated(device)
        else:
            self.baseline = _field(_STATUS, "VmRSS") or self._mark()
        self.reset()

    def reset(self) -> None:
        """Start the measurement of a computation."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # 5: only the high-water mark
        except OSError:
            return  # the documented fallback: an upper bound

    def read(self) -> float:
        """Return the peak since the last `reset`, in MiB above the baseline."""
        if self.device.type == "cuda":
            mark = torch.cuda.max_memory_allocated(self.device)
        else:
            mark = self._mark()
        return max(0, mark - self.baseline) / MIB

    @staticmethod
    def _mark() -> int:
        mark = _field(_STATUS, "VmHWM")
        if mark is None:
            mark = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return mark


def limit_memory(device: torch.device, budget_gib: float) -> float:
    """Limit what this process may allocate beyond the memory that it holds. The limit stays until the process ends.

    On the CPU the limit is RLIMIT_DATA. On Linux it counts private writable memory, that is the heap and anonymous
    mappings, but not the libraries that a CUDA build of PyTorch maps. On CUDA it is a limit of PyTorch's allocator.

    Args:
        device: device of the network.
        budget_gib: limit in GiB.

    Returns:
        The limit in force in GiB: `budget_gib`, or the memory of the device if that is less.

    Raises:
        UserError: this system cannot limit the memory of a process.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(device).total_memory
        fraction = (torch.cuda.memory_reserved(device) + budget_gib * GIB) / total
        torch.cuda.set_per_process_memory_fraction(min(1.0, fraction), device)
        return min(budget_gib, total / GIB)
    unable = "this system cannot limit the memory of a process (RLIMIT_DATA); run on Linux or with --device cuda"
    held, budget = _field(_STATUS, "VmData"), int(budget_gib * GIB)
    if held is None:
        raise UserError(unable)
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard != resource.RLIM_INFINITY and hard < held + budget:
        raise UserError(
            f"a limit of {hard / GIB:.2f} GiB is set on this shell (ulimit -d), less than `memory_budget_gib` needs; "
            "raise the one or lower the other"
        )
    resource.setrlimit(resource.RLIMIT_DATA, (held + budget, hard))
    try:  # some sandboxes accept the limit without enforcing it; a mapping costs nothing until it is written to
        mmap.mmap(-1, budget + 64 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except OSError:
        return budget_gib
    raise UserError(unable)


# Phrases with which PyTorch, NumPy, Python, the C++ library and CUDA report a failed allocation, and nothing else.
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
    """Return whether an exception reports a lack of memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and says_allocation_failure(str(error))


def says_allocation_failure(text: str) -> bool:
    """Return whether a message, of an exception or of an aborted process, reports a failed allocation."""
    return any(phrase in text for phrase in _ALLOCATION_FAILURES)
