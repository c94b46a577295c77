"""`extracter bench`: time, arithmetic and memory of search, transfer, network and training."""

from pathlib import Path
from typing import Annotated

import typer

from extracter import params
from extracter.commands.options import Device, Model, Params, PresetName
from extracter.families import FAMILIES

# Defaults; Typer wants lists.
SIZES = [160, 320, 512, 1024]
KERNELS = [3, 6, 12]
METHODS = ["unfold", "dense", "chunked", "blocks", "approximate"]
PHOTO_PARTS = ["search", "quality", "command"]
PHOTO_SIZES = [1024, 2048, 4096]
VIEW_METHODS = ["exact", "fast", "kernel6", "kernel12", "none"]
SYSTEMS = list(FAMILIES)
MEGAPIXELS = [1.0, 4.0, 12.0, 24.0, 48.0]
BOTH_METHODS = ["unfold", "blocks"]
BOTH_PRECISIONS = ["32-true", "bf16-mixed"]
FULL_PRECISION = ["32-true"]
PAPER_KERNEL = [6]
BOTH_SETTINGS = ["reference", "preset"]

Sizes = Annotated[
    list[int], typer.Option("--size", help="Side of the image and of its reference in pixels; repeatable.")
]
Kernels = Annotated[list[int], typer.Option("--kernel", help="Side of a patch; repeatable.")]
Out = Annotated[Path, typer.Option(help="CSV to write, with one row per cell.")]
Repeats = Annotated[int, typer.Option(min=1, help="Runs of each cell; the median is reported.")]
Limit = Annotated[float, typer.Option(help="Seconds; a cell that is predicted to take longer is left out.")]
Budget = Annotated[float | None, typer.Option(help="Memory limit of a cell in GiB; by default none.")]
Methods = Annotated[
    list[str], typer.Option("--method", help="unfold, dense, chunked, blocks or approximate; repeatable.")
]
Precisions = Annotated[list[str], typer.Option("--precision", help="32-true or bf16-mixed; repeatable.")]


def search(
    out: Out = Path("bench-search.csv"),
    sizes: Sizes = SIZES,
    kernels: Kernels = KERNELS,
    methods: Methods = METHODS,
    precisions: Precisions = FULL_PRECISION,
    transfer: Annotated[bool, typer.Option(help="Also measure search and transfer together.")] = True,
    direct: Annotated[
        bool, typer.Option("--direct", help="Direct search (Eq. 4) instead of the two-stage search (Eq. 5).")
    ] = False,
    repeats: Repeats = 3,
    limit: Limit = 300.0,
    budget: Budget = None,
    device: Device = "auto",
) -> None:
    """Measure the search, alone and with transfer.

    `unfold` materialises all patches and both correlations (unfold, bmm, topk, fold). `dense` holds one correlation,
    `chunked` as many of its rows as fit. `blocks`, which all other commands use, needs a ninth of the arithmetic.

    Examples:

    `extracter bench search --size 512 --kernel 3 --method unfold --method blocks`

    `extracter bench search --no-transfer --size 4096 --kernel 12 --method blocks --repeats 1`
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
    compiled: Annotated[bool, typer.Option("--compile", help="Use torch.compile on the convolutional parts.")] = False,
    repeats: Repeats = 3,
    limit: Limit = 300.0,
    budget: Budget = None,
    device: Device = "auto",
) -> None:
    """Measure the complete network of the paper.

    Example: `extracter bench forward --size 320 --precision bf16-mixed`
    """
    from extracter.benchmarks.bench import bench

    bench(
        ["forward"], sizes, kernels, methods, out, precisions=precisions, compiled=compiled, repeats=repeats,
        limit=limit, budget_gib=budget, device=device,
    )  # fmt: skip


def photo(
    photograph: Annotated[Path, typer.Argument(help="Photograph: it is reduced, and enlarged again.")],
    reference: Annotated[Path, typer.Argument(help="Another photograph of the same scene.")],
    out: Out = Path("bench-photo.csv"),
    parts: Annotated[list[str], typer.Option("--part", help="search, quality or command; repeatable.")] = PHOTO_PARTS,
    sizes: Annotated[
        list[int], typer.Option("--size", help="Long side for search and quality; repeatable.")
    ] = PHOTO_SIZES,
    megapixels: Annotated[
        list[float], typer.Option("--megapixels", help="Size of the result for command; repeatable.")
    ] = MEGAPIXELS,
    model: Model = None,
    limit: Limit = 300.0,
) -> None:
    """Measure photographs on the CPU: time and PSNR of exact and fast search, and the whole command.

    Example: `extracter bench photo castle1.jpg castle2.jpg --out docs/performance/photo.csv`
    """
    from extracter.benchmarks.photograph import bench_photo

    bench_photo(photograph, reference, out, parts=parts, sizes=sizes, megapixels=megapixels, model=model, limit=limit)


def views(
    raw: Annotated[Path, typer.Argument(help="Folder of the downloaded test set `views`.")],
    out: Out = Path("bench-views.csv"),
    size: Annotated[int, typer.Option(help="Long side to which input and reference are reduced.")] = 512,
    crop: Annotated[
        int | None, typer.Option(help="Long side of the middle of the input that is measured; by default all of it.")
    ] = None,
    methods: Annotated[
        list[str], typer.Option("--method", help="exact, fast, kernel6, kernel12 or none; repeatable.")
    ] = VIEW_METHODS,
    unrelated: Annotated[bool, typer.Option(help="Also measure references of another scene.")] = True,
    model: Model = None,
    limit: Limit = 300.0,
) -> None:
    """Measure the PSNR of each search on the photographs of `views` with their references.

    Example: `extracter bench views data/raw/open/views --size 2048 --crop 1024 --out docs/performance/views.csv`
    """
    from extracter.benchmarks.quality import bench_views

    bench_views(raw, out, size=size, crop=crop, methods=methods, unrelated=unrelated, model=model, limit=limit)


def systems(
    out: Out = Path("bench-systems.csv"),
    names: Annotated[list[str], typer.Option("--system", help="Such as ttsr; repeatable.")] = SYSTEMS,
    size: Annotated[int, typer.Option(help="Side of the image and of its reference in pixels.")] = 1024,
    device: Device = "auto",
) -> None:
    """Measure the memory and the time of each system's search at its published size.

    Example: `extracter bench systems --out docs/performance/systems.csv`
    """
    from extracter.benchmarks.system_search import bench_systems

    bench_systems(names, size, out, device=device)


def figure(
    table: Annotated[Path, typer.Argument(help="CSV that `extracter bench` wrote.")],
    out: Annotated[Path, typer.Option(help="PNG to write.")] = Path("bench.png"),
    part: Annotated[
        str, typer.Option(help="Rows to draw: search, transfer or forward; photo: of a table of `bench photo`.")
    ] = "search",
) -> None:
    """Draw time and peak memory by size.

    Example: `extracter bench figure bench-search.csv --out bench.png`
    """
    from extracter.benchmarks.figure import figure_bench, figure_photo

    if part == "photo":
        figure_photo(table, out)
    else:
        figure_bench(table, out, part)


def train(
    pairs: Annotated[Path, typer.Option(help="Prepared training pairs, such as data/prepared/demo/train.")],
    out: Out = Path("bench-train.csv"),
    full: Annotated[bool, typer.Option("--full", help="All losses instead of the reconstruction loss alone.")] = False,
    steps: Annotated[int, typer.Option(min=1, help="Number of steps of each setting.")] = 10,
    settings: Annotated[
        list[str],
        typer.Option("--setting", help="preset, reference, float32, mixed or fastest; repeat for several."),
    ] = BOTH_SETTINGS,
    file: Params = "params.yaml",
    preset: PresetName = None,
    device: Device = "auto",
) -> None:
    """Measure training steps of a preset against float32, contiguous, with dense search, by part of a step.

    Example: `extracter bench train --pairs data/prepared/demo/train`
    """
    from extracter.benchmarks.bench_train import NAMES, bench_train

    blocks = params.dump_blocks(params.select(Path(file), preset).selected, *NAMES)
    bench_train(pairs, blocks, out, full=full, steps=steps, device=device, settings=settings)
