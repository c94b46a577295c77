"""Work on many files at once, in order, with a progress bar where someone watches."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def bar(*columns, **options) -> Progress:
    """A progress bar on standard error; silent where that is no terminal."""
    console = Console(stderr=True)
    return Progress(*columns, console=console, disable=not console.is_terminal, **options)


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], label: str, workers: int | None = None
) -> Iterator[Result]:
    """Yield `function(item)` in the order of the items; a few are computed ahead in threads.

    Threads suffice, since Pillow and hashing release the interpreter's lock. The first error ends it all.

    Args:
        function: called once an item.
        items: all of them, since the bar shows how many there are.
        label: stands before the bar.
        workers: threads; None for one a core.
    """
    items = list(items)
    workers = workers or cores()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with bar(*columns) as progress, ThreadPoolExecutor(workers) as pool:
        task = progress.add_task(label, total=len(items))
        running: deque = deque()
        try:
            for item in items:
                running.append(pool.submit(function, item))
                if len(running) > 2 * workers:
                    yield running.popleft().result()
                    progress.advance(task)
            while running:
                yield running.popleft().result()
                progress.advance(task)
        finally:
            for future in running:
                future.cancel()
