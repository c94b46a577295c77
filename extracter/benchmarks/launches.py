"""Counting what a computation asks of a GPU: operations it starts, and times at which the host waits for a result."""

from collections.abc import Callable

import torch

# What CUDA's runtime calls are named in a profile.
_LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch")
_WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize")


def count_launches(work: Callable[[], object], device: torch.device) -> dict[str, int | None]:
    """Run `work` once and count by the profiler.

    The first run of a computation sets up libraries and should not be the one that is counted.

    Returns:
        `launches`, kernels that were started, and `waits`, times at which the host waited for the device. On another
        device than CUDA both are None, and nothing is run.
    """
    if device.type != "cuda":
        return {"launches": None, "waits": None}
    torch.cuda.synchronize(device)
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        work()
    names = [event.name for event in profile.events()]
    waits = sum(name.startswith(_WAITS) or name == "cudaMemcpy" for name in names)
    return {"launches": sum(name.startswith(_LAUNCHES) for name in names), "waits": waits}
