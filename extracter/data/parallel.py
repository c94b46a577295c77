"""Work on many files at once, in order, with a progress bar where someone watches."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from extracter.progress import track

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    yield from track(_ahead(function, items, workers or cores()), label, total=len(items))


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


class TransferBar:
    """Counts files and bytes of a transfer; safe to use from several threads."""

    def __init__(self, progress: Progress, label: str, files: int) -> None:
        self.received = 0
        self._progress = progress
        self._task = progress.add_task(label, total=files, received="")
        self._lock = threading.Lock()
        self._started = time.monotonic()

    def advance(self, count: int) -> None:
        """Tell that `count` more bytes arrived."""
        with self._lock:
            self.received += count
            rate = self.received / max(time.monotonic() - self._started, 1e-3)
            self._progress.update(self._task, received=f"{decimal(self.received)} {decimal(int(rate))}/s")

    def finish(self) -> None:
        """Tell that a file is complete."""
        self._progress.advance(self._task)


@contextmanager
def transfer_bar(label: str, files: int) -> Iterator[TransferBar]:
    """A bar with files, bytes and rate on standard error; silent where that is no terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[received]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        yield TransferBar(progress, label, files)
