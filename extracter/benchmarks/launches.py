"""Counting what a computation asks of a GPU: operations it starts, and times at which the host waits for a result."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# What CUDA's runtime calls are named in a profile.
_LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch")
_WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize")
# Operations whose result the host reads.
_READS = frozenset(
    ("_local_scalar_dense", "nonzero", "is_nonzero", "_unique2", "unique_consecutive", "masked_select", "equal")
)
# Those that start no kernel, besides views.
_FREE = frozenset(
    ("promote_types", "scalar_tensor", "detach", "empty", "new_empty", "empty_like", "empty_strided", "_unsafe_view")
)


class Counts(NamedTuple):
    """What was counted.

    Attributes:
        launches: kernels that were started; on the CPU operations that would start one or more.
        waits: times at which the host waited for the device, or would.
    """

    launches: int
    waits: int


def count_launches(work: Callable[[], object], device: torch.device) -> Counts:
    """Run `work` once and count, on CUDA by the profiler, on the CPU by what reaches PyTorch's dispatcher.

    The first run of a computation sets up libraries and should not be the one that is counted.
    """
    if device.type != "cuda":
        with _Counter() as counter:
            work()
        return Counts(counter.launches, counter.waits)
    torch.cuda.synchronize(device)
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        work()
    names = [event.name for event in profile.events()]
    launches = sum(name.startswith(_LAUNCHES) for name in names)
    return Counts(launches, sum(name.startswith(_WAITS) or name == "cudaMemcpy" for name in names))


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.launches = self.waits = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        masked = name in ("index", "index_put", "index_put_") and any(
            isinstance(x, torch.Tensor) and x.dtype == torch.bool for x in args[1]
        )
        self.waits += masked or name in _READS
        self.launches += not func.is_view and name not in _FREE
        return func(*args, **(kwargs or {}))
