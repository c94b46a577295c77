"""The child process of `extracter bench`: measures one cell, alone in a process, within a memory budget.

`extracter.benchmarks.bench` starts `python -m extracter.benchmarks.bench_worker JOB` with JOB as JSON, and reads the
messages that this module prints.
"""

from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from extracter.benchmarks.launches import count_launches
from extracter.benchmarks.naive_search import UnfoldSearchTransfer
from extracter.benchmarks.timing import timed
from extracter.confined import run_job, say
from extracter.device import configure_torch
from extracter.memory import MIB, PeakMemory, limit_memory, malloc_reuse
from extracter.models.extracter import Extracter
from extracter.search.search import SearchConfig, search
from extracter.search.stm import SearchTransfer

# Channels of the three levels of VGG19 that the paper searches and transfers, finest first.
CHANNELS = (64, 128, 256)
# Side of the images of the warm-up, which starts threads and compiles loops, in pixels.
_WARM_UP = 512
# A run longer than this many seconds needs no warm-up.
_LONG = 20
# Blocks whose product a query of the approximate search asks for: about 40 patches of nine, and its projection.
_APPROXIMATE = 450
DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}


def measure_gemm(device: torch.device, dtype: torch.dtype) -> float:
    """Return the GFLOP/s of a large matrix product on this device, the best of five."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    seconds = min(timed(lambda: a @ b, device)[1]["seconds"] for _ in range(5))
    return 2 * side**3 / seconds / 1e9


def picture(shape: tuple[int, int, int], seed: int, device: torch.device) -> Tensor:
    """Return smooth noise of shape 1, *shape, in which neighbouring patches are similar, as in photographs."""
    generator = torch.Generator().manual_seed(seed)
    channels, height, width = shape
    coarse = torch.randn(1, channels, -(-height // 4), -(-width // 4), generator=generator)
    fine = torch.randn(1, channels, height, width, generator=generator)
    smooth = F.interpolate(coarse, scale_factor=4, mode="bicubic")[..., :height, :width]
    return (smooth + 0.3 * fine).to(device)


def make_search(job: dict, size: int, device: torch.device) -> Callable[[], object]:
    """Return a function that searches, and transfers if the job asks for it, for two images of `size` pixels."""
    dtype = DTYPES[job["precision"]]
    config = SearchConfig.of_kernel(job["kernel"], strategy=job["strategy"], method=job["method"])
    side = config.padded(size // 4)
    # `evaluate` runs networks channels-last; implementations with unfold are usually contiguous.
    ours = job["method"] in ("blocks", "approximate")
    layout = torch.channels_last if ours else torch.contiguous_format
    query, key = (
        picture((CHANNELS[2], side, side), seed, device).relu_().to(dtype, memory_format=layout) for seed in (1, 2)
    )
    if not job["transfer"]:
        if job["method"] == "unfold":
            return lambda: UnfoldSearchTransfer(3, config).match(query, [key])
        return lambda: search(query, [key], 3, config)
    levels = [
        picture((channels, side * scale, side * scale), 3, device).to(dtype, memory_format=layout)
        for channels, scale in zip(CHANNELS, (4, 2, 1), strict=True)
    ]
    module = (UnfoldSearchTransfer if job["method"] == "unfold" else SearchTransfer)(3, config)
    return lambda: module(query, [key], [levels])


def arithmetic(job: dict) -> float:
    """Return the GFLOP of the inner products of a search, which grow with the fourth power of the size."""
    config = SearchConfig.of_kernel(job["kernel"])
    patches = config.count(config.padded(job["size"] // 4)) ** 2
    whole = 2 * patches**2 * CHANNELS[2] * job["kernel"] ** 2 / 1e9
    passes = 2 if job["method"] in ("unfold", "chunked") and job["strategy"] == "two_stage" else 1
    if job["method"] == "approximate":
        # Of the exact block search's, what photographs need; noise, which is searched here, needs somewhat more.
        return 2 * _APPROXIMATE * patches * CHANNELS[2] * (job["kernel"] // 3) ** 2 / 1e9
    return whole / 9 if job["method"] == "blocks" else whole * passes


def convolutions(size: int) -> float:
    """Return the GFLOP of the convolutions of the paper's network, counted on a small image and scaled by area."""
    small = 96
    job = {"kernel": 6, "method": "blocks", "compile": False, "precision": "32-true"}
    with FlopCounterMode(display=False) as counter:
        make_forward(job, small, torch.device("cpu"))()
    counts = counter.get_flop_counts()["Global"]
    return sum(n for operator, n in counts.items() if "conv" in str(operator)) * (size / small) ** 2 / 1e9


def make_forward(job: dict, size: int, device: torch.device) -> Callable[[], object]:
    """Return a function that runs the paper's network on an image of `size` pixels and a reference as large."""
    network = Extracter().eval().to(device)
    network.search = replace(network.search.with_kernel(job["kernel"]), method=job["method"])
    if job["method"] == "unfold":
        network.stm = UnfoldSearchTransfer(network.stm.u, network.search)
    if job["method"] in ("blocks", "approximate"):
        network.to(memory_format=torch.channels_last)
    if job["compile"]:
        network.compile_parts()
    hr, ref = (F.tanh(picture((3, size, size), seed, device)) for seed in (1, 2))
    lr, ref_lr = (F.avg_pool2d(image, 4) for image in (hr, ref))
    lr_up, ref_du = (F.interpolate(image, scale_factor=4, mode="bicubic").clamp(-1, 1) for image in (lr, ref_lr))

    def run() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=job["precision"] == "bf16-mixed"):
            return network(lr, lr_up, ref, ref_du)

    return run


def bytes_of(result: object) -> int:
    """Return the bytes of the tensors in a nested result."""
    if isinstance(result, Tensor):
        return result.element_size() * result.nelement()
    return sum(map(bytes_of, result)) if isinstance(result, (tuple, list)) else 0


@torch.inference_mode()
def run(job: dict) -> None:
    """Measure one cell: median seconds, arithmetic as executed, peak memory above inputs and outputs."""
    configure_torch(0)
    device = torch.device(job["device"])
    gemm = measure_gemm(device, DTYPES[job["precision"]])
    make = make_forward if job["part"] == "forward" else make_search
    # Threads, compiled loops and library handles that a first run sets up belong to the baseline.
    make(job, min(job["size"], _WARM_UP), device)()
    work = make(job, job["size"], device)
    if job["compile"]:
        work()
    if job["budget_gib"] is not None:
        say(confined=limit_memory(device, job["budget_gib"]))
    reuse = job["part"] == "forward" and job["method"] != "unfold"  # as `evaluation.reuse_memory`
    if reuse:
        malloc_reuse()
    # Returning freed memory to the system costs time, so memory is measured in a run of its own if there are several.
    single = job["repeats"] == 1
    seconds: list[float] = []
    warm = False
    while len(seconds) < job["repeats"] and sum(seconds) < job["limit"]:
        result = None  # the previous result would count as memory of this run
        if single:
            memory = PeakMemory(device, reuse)
        result, spent = timed(work, device)
        # The set-up in a first run matters if the run is short.
        if warm or spent["seconds"] > _LONG:
            seconds.append(spent["seconds"])
            say(done=len(seconds))
        warm = True
    if not single:
        result = None
        memory = PeakMemory(device, reuse)
        result = work()
    peak_memory = max(0.0, memory.read() - bytes_of(result) / MIB)
    gflop = arithmetic(job) + (convolutions(job["size"]) if job["part"] == "forward" else 0)
    say(
        **count_launches(work, device),
        fits=True, seconds=median(seconds), runs=len(seconds), peak_memory_mib=peak_memory,
        gflops=gflop / median(seconds), gemm=gemm, threads=torch.get_num_threads(),
    )  # fmt: skip


if __name__ == "__main__":
    run_job(run)
