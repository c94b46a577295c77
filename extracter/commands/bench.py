"""`extracter bench`: seconds, arithmetic and memory of search, transfer, network and training."""

from pathlib import Path
from typing import Annotated

import typer

from extracter import params
from extracter.commands.options import Device, Params, PresetName

# Defaults, in lists as Typer wants them.
ALL_SIZES = [160, 320, 512, 1024, 2048, 4096]
SIZES = [160, 320, 512, 1024]
KERNELS = [3, 6, 12]
METHODS = ["usual", "dense", "chunked", "blocks"]
BOTH_METHODS = ["usual", "blocks"]
BOTH_PRECISIONS = ["32-true", "bf16-mixed"]
FULL_PRECISION = ["32-true"]
PAPER_KERNEL = [6]
LARGE_KERNEL = [12]

Sizes = Annotated[
    list[int], typer.Option("--size", help="Side of the image and its reference; give it again for more.")
]
Kernels = Annotated[list[int], typer.Option("--kernel", help="Patch side; give it again for more.")]
Out = Annotated[Path, typer.Option(help="CSV with a row for each cell.")]
Repeats = Annotated[int, typer.Option(min=1, help="Runs of each cell; the median counts.")]
Limit = Annotated[float, typer.Option(help="Seconds; a cell that would take longer is left out, and says so.")]
Budget = Annotated[float | None, typer.Option(help="GiB that a cell may allocate; by default no limit.")]
Methods = Annotated[
    list[str],
    typer.Option("--method", help="usual, dense, chunked, blocks, blocks-torch, faiss; give it again for more."),
]
Precisions = Annotated[list[str], typer.Option("--precision", help="32-true or bf16-mixed; give it again for both.")]


def search(
    out: Out = Path("bench-search.csv"),
    sizes: Sizes = SIZES,
    kernels: Kernels = KERNELS,
    methods: Methods = METHODS,
    precisions: Precisions = FULL_PRECISION,
    transfer: Annotated[bool, typer.Option(help="Also time search and transfer together.")] = True,
    direct: Annotated[bool, typer.Option("--direct", help="Direct search (Eq. 4) instead of two-stage.")] = False,
    repeats: Repeats = 3,
    limit: Limit = 300.0,
    budget: Budget = None,
    device: Device = "auto",
) -> None:
    """Time the search, alone and with transfer.

    `usual` lays out all patches and both correlations (unfold, bmm, topk; fold); `dense` holds one correlation;
    `chunked` as many of its rows as fit; `blocks`, the default of every other command, a ninth of the arithmetic.

    Example: `extracter bench search --size 512 --kernel 3 --method usual --method blocks`
    """
    from extracter.benchmarks.bench import bench

    bench(
        ["search", "transfer"] if transfer else ["search"], sizes, kernels, methods, out,
        strategy="direct" if direct else "two_stage", precisions=precisions, repeats=repeats, limit=limit,
        budget_gib=budget, device=device,
    )  # fmt: skip


def forward(
    out: Out = Path("bench-forward.csv"),
    sizes: Sizes = SIZES,
    kernels: Kernels = PAPER_KERNEL,
    methods: Methods = BOTH_METHODS,
    precisions: Precisions = BOTH_PRECISIONS,
    compiled: Annotated[bool, typer.Option("--compile", help="torch.compile the convolutional parts.")] = False,
    repeats: Repeats = 3,
    limit: Limit = 300.0,
    budget: Budget = None,
    device: Device = "auto",
) -> None:
    """Time the whole network of the paper.

    Example: `extracter bench forward --size 320 --precision bf16-mixed`
    """
    from extracter.benchmarks.bench import bench

    bench(
        ["forward"], sizes, kernels, methods, out, precisions=precisions, compiled=compiled, repeats=repeats,
        limit=limit, budget_gib=budget, device=device,
    )  # fmt: skip


def memory(
    out: Out = Path("bench-memory.csv"),
    sizes: Sizes = ALL_SIZES,
    kernels: Kernels = LARGE_KERNEL,
    methods: Methods = METHODS,
    limit: Limit = 900.0,
    budget: Budget = None,
    device: Device = "auto",
) -> None:
    """Peak memory of the search by size, one run of each.

    Example: `extracter bench memory --budget 8`
    """
    from extracter.benchmarks.bench import bench

    bench(["search"], sizes, kernels, methods, out, repeats=1, limit=limit, budget_gib=budget, device=device)


def figure(
    table: Annotated[Path, typer.Argument(help="CSV that `extracter bench` made.")],
    out: Annotated[Path, typer.Option(help="PNG.")] = Path("bench.png"),
    part: Annotated[str, typer.Option(help="Rows to draw: search, transfer or forward.")] = "search",
) -> None:
    """Draw seconds and peak memory against size.

    Example: `extracter bench figure bench-search.csv --out bench.png`
    """
    from extracter.benchmarks.figure import figure_bench

    figure_bench(table, out, part)


def train(
    pairs: Annotated[Path, typer.Option(help="Prepared training pairs, such as data/prepared/demo/train.")],
    out: Out = Path("bench-train.csv"),
    full: Annotated[bool, typer.Option("--full", help="With all losses, not the reconstruction loss alone.")] = False,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each setting.")] = 10,
    file: Params = "params.yaml",
    preset: PresetName = None,
    device: Device = "auto",
) -> None:
    """Time training as the preset says against float32, contiguous, with dense search, and say where time goes.

    Example: `extracter bench train --pairs data/prepared/demo/train`
    """
    from extracter.benchmarks.bench_train import NAMES, bench_train

    blocks = params.dump_blocks(params.select(Path(file), preset).selected, *NAMES)
    bench_train(pairs, blocks, out, full=full, steps=steps, device=device)
