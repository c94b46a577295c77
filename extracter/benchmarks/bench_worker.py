"""The child process of `extracter bench`: measures one cell, alone in a process, confined to a memory budget.

`python -m extracter.benchmarks.bench_worker JOB`, JOB being the JSON that `extracter.benchmarks.bench`
writes, which also reads the lines printed here.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from extracter.benchmarks.naive_search import UsualSearchTransfer
from extracter.device import make_deterministic
from extracter.memory import MIB, PeakMemory, is_allocation_failure, limit_memory, malloc_reuse
from extracter.models.extracter import Extracter
from extracter.search import correlation
from extracter.search.search import SearchConfig, search
from extracter.search.stm import SearchTransfer

# Channels of the three levels of VGG19 that the paper searches and transfers, finest first.
CHANNELS = (64, 128, 256)
# Side of the images of a first run, which sets up threads, compiled loops and their buffers.
_WARM_UP = 512
# Seconds of a run that need no warm-up.
_LONG = 20
DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}


def say(**message: object) -> None:
    """One line to the parent."""
    print(json.dumps(message), flush=True)


def measure_peak(device: torch.device, dtype: torch.dtype) -> float:
    """GFLOP/s of a large matrix product on this device: the best of five."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    seconds = min(timed(lambda: a @ b, device)[0] for _ in range(5))
    return 2 * side**3 / seconds / 1e9


def timed(work: Callable[[], object], device: torch.device) -> tuple[float, object]:
    """Seconds that `work` takes until the device has finished, and what it returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, result


def picture(shape: tuple[int, int, int], seed: int, device: torch.device) -> Tensor:
    """Smooth noise with some detail, 1, *shape: neighbouring patches resemble one another, as in photographs."""
    generator = torch.Generator().manual_seed(seed)
    channels, height, width = shape
    coarse = torch.randn(1, channels, -(-height // 4), -(-width // 4), generator=generator)
    fine = torch.randn(1, channels, height, width, generator=generator)
    smooth = F.interpolate(coarse, scale_factor=4, mode="bicubic")[..., :height, :width]
    return (smooth + 0.3 * fine).to(device)


def make_search(job: dict, size: int, device: torch.device) -> Callable[[], object]:
    """Search, and transfer where the job says so, between features of two images of `size` pixels."""
    dtype = DTYPES[job["precision"]]
    third = job["kernel"] // 3
    config = SearchConfig(job["kernel"], third, third, job["strategy"], job["method"], job["memory"])
    side = config.padded(size // 4)
    # The networks are channels-last where they are evaluated; the usual way is contiguous.
    layout = torch.channels_last if job["method"] == "blocks" else torch.contiguous_format
    query, key = (
        picture((CHANNELS[2], side, side), seed, device).relu_().to(dtype, memory_format=layout) for seed in (1, 2)
    )
    if job["method"] == "faiss":
        return faiss_search(query, key, config)
    if not job["transfer"]:
        if job["method"] == "usual":
            return lambda: UsualSearchTransfer(3, config).match(query, [key])
        return lambda: search(query, [key], 3, config)
    levels = [
        picture((channels, side * scale, side * scale), 3, device).to(dtype, memory_format=layout)
        for channels, scale in zip(CHANNELS, (4, 2, 1), strict=True)
    ]
    module = (UsualSearchTransfer if job["method"] == "usual" else SearchTransfer)(3, config)
    return lambda: module(query, [key], [levels])


def arithmetic(job: dict) -> float:
    """GFLOP of the products of a search, the part that grows with the fourth power of the size."""
    third = job["kernel"] // 3
    config = SearchConfig(job["kernel"], third, third)
    patches = config.count(config.padded(job["size"] // 4)) ** 2
    whole = 2 * patches**2 * CHANNELS[2] * job["kernel"] ** 2 / 1e9
    walks = 2 if job["method"] in ("usual", "chunked") and job["strategy"] == "two_stage" else 1
    return whole / 9 if job["method"].startswith("blocks") else whole * walks


def convolutions(size: int) -> float:
    """GFLOP of the convolutions of the paper's network: counted on a small image, they grow with the area."""
    small = 96
    job = {"kernel": 6, "method": "blocks", "memory": None, "compile": False, "precision": "32-true"}
    with FlopCounterMode(display=False) as counter:
        make_forward(job, small, torch.device("cpu"))()
    counts = counter.get_flop_counts()["Global"]
    return sum(n for operator, n in counts.items() if "conv" in str(operator)) * (size / small) ** 2 / 1e9


def faiss_search(query: Tensor, key: Tensor, config: SearchConfig) -> Callable[[], object]:
    """The search by faiss's exact index of inner products, patches laid out as for `dense`."""
    import faiss

    def run() -> object:
        window = {"kernel_size": config.kernel, "padding": config.padding, "stride": config.stride}
        queries, keys = (F.normalize(F.unfold(x, **window), dim=1)[0].mT.contiguous().numpy() for x in (query, key))
        index = faiss.IndexFlatIP(keys.shape[1])
        index.add(keys)
        return index.search(queries, 3)

    return run


def make_forward(job: dict, size: int, device: torch.device) -> Callable[[], object]:
    """The paper's network on an image of `size` pixels with a reference of the same size."""
    network = Extracter().eval().to(device)
    third = job["kernel"] // 3
    network.search = replace(
        network.search, kernel=job["kernel"], stride=third, padding=third, method=job["method"], memory=job["memory"]
    )
    if job["method"] == "usual":
        network.stm = UsualSearchTransfer(network.stm.u, network.search)
    if job["method"] == "blocks":
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
    """Memory of the tensors in a nested result."""
    if isinstance(result, Tensor):
        return result.element_size() * result.nelement()
    return sum(map(bytes_of, result)) if isinstance(result, (tuple, list)) else 0


@torch.inference_mode()
def run(job: dict) -> None:
    """Measure one cell: median seconds, arithmetic as executed, peak memory above inputs and outputs."""
    make_deterministic(0)
    if job["method"] == "blocks-torch":
        correlation.merge_row = None
        job = {**job, "method": "blocks"}
    device = torch.device(job["device"])
    peak = measure_peak(device, DTYPES[job["precision"]])
    make = make_forward if job["part"] == "forward" else make_search
    # Threads, compiled loops and library handles that a first run sets up are the baseline's.
    make(job, min(job["size"], _WARM_UP), device)()
    work = make(job, job["size"], device)
    if job["compile"]:
        work()
    if job["budget_gib"] is not None:
        say(confined=limit_memory(device, job["budget_gib"]))
    reuse = job["part"] == "forward" and job["method"] != "usual"  # `evaluation.reuse_memory`
    if reuse:
        malloc_reuse()
    # Returning freed memory costs time: memory has a run of its own, unless one run is all that is asked for.
    single = job["repeats"] == 1
    seconds, warm = [], False
    try:
        while len(seconds) < job["repeats"] and sum(seconds) < job["limit"]:
            result = None  # that of the run before would count as memory of this one
            if single:
                memory = PeakMemory(device, reuse)
            elapsed, result = timed(work, device)
            # What a first run sets up is nothing beside a long run and much beside a short one.
            if warm or elapsed > _LONG:
                seconds.append(elapsed)
                say(done=len(seconds))
            warm = True
        if not single:
            result = None
            memory = PeakMemory(device, reuse)
            result = work()
        peak_memory = max(0.0, memory.read() - bytes_of(result) / MIB)
    except Exception as error:
        if is_allocation_failure(error):
            say(fits=False)
            return
        raise
    gflop = arithmetic(job) + (convolutions(job["size"]) if job["part"] == "forward" else 0)
    say(
        fits=True, seconds=median(seconds), runs=len(seconds), peak_memory_mib=peak_memory,
        gflops=gflop / median(seconds), gemm=peak, threads=torch.get_num_threads(),
    )  # fmt: skip


if __name__ == "__main__":
    run(json.loads(sys.argv[1]))
