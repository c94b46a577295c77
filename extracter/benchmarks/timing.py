"""What benchmarks share: timing, rounding, how near an approximate search comes, and a table on the terminal."""

import time
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from extracter.search.search import Matches

CPU = torch.device("cpu")
# Of an exact search in a second of one thread: to predict what would take too long.
MULTIPLY_ADDS = 25e9


def now(device: torch.device) -> float:
    """The time in seconds after a device has finished all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def timed(work: Callable[[], Any], device: torch.device = CPU) -> tuple[Any, dict[str, float]]:
    """The result of a call, with the seconds until the device has finished it, and the CPU seconds of all threads."""
    wall, cpu = now(device), time.process_time()
    result = work()
    return result, {"seconds": now(device) - wall, "cpu_seconds": time.process_time() - cpu}


def nearness(found: Matches, exact: Matches) -> dict[str, float]:
    """Share of queries whose best key was found, and the mean cosine that the best keys found fall short of."""
    recall = (found.indices[:, 0] == exact.indices[:, 0]).float().mean()
    return {"recall": float(recall), "loss": float((exact.scores[:, 0] - found.scores[:, 0]).mean())}


def rounded(value: object) -> object:
    """Six significant digits of a float; other values as they are."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def print_table(
    title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], *, left: Container[str], width: int | None = None
) -> None:
    """Print a table whose columns are set right, except those with heads in `left`; `width` is the terminal's."""
    table = Table(title=title, title_justify="left", box=None)
    for head in heads:
        table.add_column(head, justify="left" if head in left else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=width).print(table)
