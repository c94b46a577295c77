"""`extracter bench`: time, arithmetic and memory of search, transfer and network by size, kernel and method."""

import sys
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path

from extracter.benchmarks.bench_worker import arithmetic
from extracter.benchmarks.timing import print_table
from extracter.confined import command_of, run_child
from extracter.device import choose_device
from extracter.errors import UserError
from extracter.files import write_csv
from extracter.search.search import SearchConfig

COLUMNS = [
    "part", "size", "kernel", "method", "strategy", "precision", "compile", "result", "seconds", "runs",
    "peak_memory_mib", "gflops", "gemm_gflops", "share_of_gemm", "launches", "waits", "device",
    "threads",
]  # fmt: skip
PRECISIONS = ("32-true", "bf16-mixed")
METHODS = ("unfold", "dense", "chunked", "blocks", "approximate")
# Assumed speed in GFLOP/s, to predict which cells would exceed the time limit.
_GUESS = {"cpu": 100.0, "cuda": 20_000.0}


def bench(
    parts: Iterable[str],
    sizes: list[int],
    kernels: list[int],
    methods: list[str],
    out: Path,
    *,
    strategy: str = "two_stage",
    precisions: Iterable[str] = ("32-true",),
    compiled: bool = False,
    repeats: int = 3,
    limit: float = 300.0,
    budget_gib: float | None = None,
    device: str = "auto",
) -> None:
    """Measure each cell in a process of its own, write a CSV row after each, and print a table.

    Queries and keys are features of two synthetic images of the same size, with VGG19's channels; the network is the
    paper's. GFLOP/s count the executed arithmetic, which for `blocks` is a ninth of that of the other methods.

    Args:
        parts: any of search, transfer (search and transfer) and forward.
        sizes: sides of the images in pixels.
        kernels: multiples of 3; stride and padding are a third.
        methods: any of `METHODS`; unfold is `extracter.benchmarks.naive_search`, the others are `SearchConfig.method`.
        out: CSV file to write.
        strategy: two_stage or direct.
        precisions: any of 32-true and bf16-mixed.
        compiled: compile the network's convolutional parts with torch.compile.
        repeats: number of runs of a cell; the median is reported.
        limit: seconds; a cell that is predicted to take longer is left out, with a note.
        budget_gib: memory limit of a cell in GiB; None for no limit.
        device: auto, cpu, cuda, cuda:N or mps.

    Raises:
        UserError: an argument is not allowed, or a cell failed for another reason than memory.
    """
    for kernel in kernels:
        SearchConfig.of_kernel(kernel)  # raises UserError
    for size in sizes:
        if size < 32:
            raise UserError(f"--size {size}: the minimum is 32 pixels")
    for method in methods:
        if method not in METHODS:
            raise UserError(f"--method {method}: allowed are {', '.join(METHODS)}")
    for precision in precisions:
        if precision not in PRECISIONS:
            raise UserError(f"--precision {precision}: allowed are {', '.join(PRECISIONS)}")
    target = str(choose_device(device))
    rows: list[dict] = []
    for part, size, kernel, method, precision in product(parts, sizes, kernels, methods, precisions):
        job = {
            "part": part, "size": size, "kernel": kernel, "method": method, "strategy": strategy,
            "precision": precision, "compile": compiled and part == "forward", "transfer": part == "transfer",
            "repeats": repeats, "limit": limit, "budget_gib": budget_gib, "device": target,
        }  # fmt: skip
        rows.append({**job, **_measure(job, limit)})
        write_csv(out, [{key: row.get(key) for key in COLUMNS} for row in rows], COLUMNS)
        _say(rows[-1])
    _print(rows)


def _measure(job: dict, limit: float) -> dict:
    predicted = arithmetic(job) / _GUESS[job["device"].partition(":")[0]]
    if predicted > limit:
        return {"result": f"left out: about {predicted:,.0f} s"}
    measured = run_child(command_of("extracter.benchmarks.bench_worker", job), job["repeats"])
    if not measured["fits"]:
        return {"result": "out of memory"}
    gflops, gemm = measured["gflops"], measured["gemm"]
    return {
        "result": "measured",
        "seconds": round(measured["seconds"], 4),
        "peak_memory_mib": round(measured["peak_memory_mib"], 1),
        "gflops": round(gflops, 1),
        "gemm_gflops": round(gemm, 1),
        "share_of_gemm": round(gflops / gemm, 3),
        **{key: measured[key] for key in ("runs", "threads", "launches", "waits")},
    }


def _say(row: dict) -> None:
    found = f"{row['seconds']} s, {row['peak_memory_mib']} MiB" if row["result"] == "measured" else row["result"]
    place = f"{row['part']} {row['size']} px, kernel {row['kernel']}, {row['method']}, {row['precision']}"
    print(f"{place}: {found}", file=sys.stderr, flush=True)


def _print(rows: list[dict]) -> None:
    titles: dict[str, Callable[[dict], str]] = {
        "part": lambda row: row["part"],
        "size": lambda row: str(row["size"]),
        "kernel": lambda row: str(row["kernel"]),
        "method": lambda row: row["method"],
        "precision": lambda row: row["precision"] + (", compiled" if row["compile"] else ""),
        "s": lambda row: f"{row['seconds']:.3g}" if row["result"] == "measured" else row["result"],
        "MiB": lambda row: f"{row['peak_memory_mib']:,.0f}" if row["result"] == "measured" else "",
        "GFLOP/s": lambda row: f"{row['gflops']:,.0f}" if row.get("gflops") else "",
        "launches": lambda row: str(row.get("launches") or ""),
        "waits": lambda row: "" if row.get("waits") is None else str(row["waits"]),
        "of GEMM": lambda row: f"{row['share_of_gemm']:.0%}" if row.get("share_of_gemm") else "",
    }
    lines = [[show(row) for show in titles.values()] for row in rows]
    heads = list(titles)
    print_table("medians; peak memory above inputs and outputs", heads, lines, left=("part", "method", "precision"))
