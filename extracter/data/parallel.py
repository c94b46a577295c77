"""Process files in parallel, in order, with a progress bar on a terminal."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from extracter.progress import track

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item], label: str) -> Iterator[Result]:
    """Yield `function(item)` in the order of the items. Threads, one for each core, compute a few results ahead.

    Threads suffice, since Pillow and hashing release the interpreter's lock. The first error ends the iteration.

    Args:
        function: called once for each item.
        items: read at once, since the bar shows their number.
        label: text before the bar.
    """
    items = list(items)
    yield from track(_ahead(function, items, cores()), label, total=len(items))


def _ahead(function: Callable[[Item], Result], items: list[Item], workers: int) -> Iterator[Result]:
    running: deque = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                running.append(pool.submit(function, item))
                if len(running) > 2 * workers:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()
