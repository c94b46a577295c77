"""`extracter info`: describe a checkpoint and what running it costs."""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from extracter.files import read_json
from extracter.inference.tiling.network import Network
from extracter.inference.upscaler import Upscaler, memory_needed
from extracter.memory import GIB, MIB
from extracter.models.checkpoint import load_model
from extracter.models.locate import model_folder
from extracter.models.refsr import count_parameters
from extracter.photos.photo import Photo
from extracter.progress import track
from extracter.search.choose import choose_search
from extracter.search.search import search

# Sides of the result in pixels; the reference has the same size.
SIZES = (512, 1024, 2048, 4096)
_MEASURED = 256  # side of the result that is timed, in pixels
_GRID = 64  # side of the grids of queries and keys whose search is timed
_PARTS = {
    "dfe": "DFE, deep features",
    "ife": "IFE, of LR",
    "csfi": "CSFI, integration",
    "gde": "GDE, gradient density",
    "fuse": "fusion of both",
    "tail": "tail",
}


def info(name: str | Path | None, *, measure: bool) -> None:
    """Print a description on stdout.

    Args:
        name: see `model_folder`.
        measure: run the network to estimate times.

    Raises:
        UserError: there is no such model, or it is damaged.
    """
    folder = model_folder(name)
    model = load_model(folder)
    provenance = _provenance(folder)
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(f"[bold]{folder}[/bold]", markup=True)
    console.print(_table("configuration", read_json(folder / "config.json").items()), markup=False)
    parts = dict(model.named_children())
    counts = [
        (_PARTS.get(name, name), f"{count_parameters(part):,}")
        for name, part in sorted(parts.items(), key=lambda item: [*_PARTS, item[0]].index(item[0]))
        if count_parameters(part)
    ]
    console.print(_table("parameters", [*counts, ("together", f"{count_parameters(model):,}")]), markup=False)
    console.print(_table("training", provenance), markup=False)
    if isinstance(model, Network):
        console.print(_cost(model, _rates(model) if measure else None), markup=False)


def _provenance(folder: Path) -> list[tuple[str, Any]]:
    """The content of training.json without the configuration, which is printed separately."""
    training = read_json(folder / "training.json") if (folder / "training.json").exists() else {}
    rows = [(key, value) for key, value in training.items() if key not in ("model", "search")]
    return rows or [("", "unknown: there is no training.json")]


def _table(title: str, rows) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, show_header=False)
    for key, value in rows:
        plain = value if isinstance(value, str) else json.dumps(value)
        table.add_row(f"  {key}", plain)
    return table


class _Rates(NamedTuple):
    """Seconds per pixel of the result, per multiplication of the exact search, and per query of the fast search."""

    pixel: float
    product: float
    query: float


def _rates(model: Network) -> _Rates:
    """Time the network on a small image and both searches on random features."""
    rng = np.random.default_rng(0)
    upscaler = Upscaler(model, device="cpu", memory=4 * GIB)
    side = _GRID * model.search.stride
    # Channels-last, as in inference.
    width = 4 * model.dfe.width
    features = torch.rand(2, 1, width, side, side, generator=torch.Generator().manual_seed(0))
    query, key = (x.contiguous(memory_format=torch.channels_last) for x in features)

    def network(pixels: int) -> None:
        image, reference = (rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in (pixels // 4, pixels))
        upscaler.run(Photo(image), [Photo(reference)])

    def match(method: Literal["blocks", "approximate"]) -> None:
        search(query, [key], model.stm.u, replace(model.search, method=method))

    works = (lambda: network(_MEASURED), lambda: match("blocks"), lambda: match("approximate"))
    network(32)  # also compiles the loops of the exact search
    match("approximate")
    seconds = []
    for work in track(works, "timing", len(works)):
        start = time.perf_counter()
        with torch.inference_mode():
            work()
        seconds.append(time.perf_counter() - start)
    products = _GRID**4 * width * model.search.stride**2
    return _Rates(seconds[0] / _MEASURED**2, seconds[1] / products, seconds[2] / _GRID**2)


def _cost(model: Network, rates: _Rates | None) -> Table:
    title = "memory on the CPU, the reference as large as the result"
    table = Table(title=title, title_justify="left", title_style="bold", box=None)
    for column in ("  result", "at least", "in one piece", "about", "search"):
        table.add_column(column, justify="right")
    own, channels = model.search, 4 * model.dfe.width
    for side in SIZES:
        cells = (side // 4, side // 4)
        model.search = choose_search(own, "auto", channels, cells, [cells], "cpu")
        exact = model.search.method == "blocks"
        least, most = memory_needed(model, side)
        about = "-"
        if rates is not None:
            queries = (side // 4 // own.stride) ** 2
            seconds = rates.product * queries**2 * channels * own.stride**2 if exact else rates.query * queries
            about = _duration(rates.pixel * side**2 + seconds)
        name = f"{'exact' if exact else 'fast'}, {own.kernel}x{own.kernel}"
        table.add_row(f"  {side} x {side}", f"{least / MIB:,.0f} MiB", f"{most / MIB:,.0f} MiB", about, name)
    model.search = own
    return table


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
