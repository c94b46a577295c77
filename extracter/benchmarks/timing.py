"""What the benchmarks of photographs share: timing, rounding, and how near an approximate search comes."""

import time
from collections.abc import Callable
from typing import Any

from extracter.search.search import Matches

# Of an exact search in a second of one thread: to predict what would take too long.
MULTIPLY_ADDS = 25e9


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """The result of a call, with its seconds and the CPU seconds of all threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}


def nearness(found: Matches, exact: Matches) -> dict[str, float]:
    """Share of queries whose best key was found, and the mean cosine that the best keys found fall short of."""
    recall = (found.indices[:, 0] == exact.indices[:, 0]).float().mean()
    return {"recall": float(recall), "loss": float((exact.scores[:, 0] - found.scores[:, 0]).mean())}


def rounded(value: object) -> object:
    """Six significant digits of a float; other values as they are."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
