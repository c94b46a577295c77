"""Progress bars on stderr. They are silent where stderr is not a terminal."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")


def _bar(*columns: ProgressColumn) -> Progress:
    """A bar with a description before it and `columns` after it; it disappears when it is done."""
    console = Console(stderr=True)
    before = TextColumn("{task.description}")
    return Progress(before, BarColumn(), *columns, console=console, disable=not console.is_terminal, transient=True)


def track(items: Iterable[T], label: str, total: int, done: int = 0) -> Iterator[T]:
    """Yield `items` and show how many are done.

    Args:
        items: what remains to be done.
        label: text before the bar.
        total: number of all items, including those done before.
        done: number of items done before.
    """
    with _bar(MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()) as progress:
        task = progress.add_task(label, total=total, completed=done)
        for item in items:
            yield item
            progress.advance(task)


@contextmanager
def phases() -> Iterator[Callable[[str, int, int], None]]:
    """Show work that goes through named phases: call what this gives with (description, steps done, steps)."""
    with _bar(TaskProgressColumn(), TimeElapsedColumn()) as progress:
        task = progress.add_task("", total=None)

        def show(description: str, done: int, steps: int) -> None:
            progress.update(task, description=escape(description), completed=done, total=steps or None)

        yield show


class TransferBar:
    """Counts the files and bytes of a transfer. Several threads may use it."""

    def __init__(self, progress: Progress, label: str, files: int) -> None:
        self.received = 0
        self._progress = progress
        self._task = progress.add_task(label, total=files, received="")
        self._lock = threading.Lock()
        self._started = time.monotonic()

    def advance(self, count: int) -> None:
        """Add `count` received bytes."""
        with self._lock:
            self.received += count
            rate = self.received / max(time.monotonic() - self._started, 1e-3)
            self._progress.update(self._task, received=f"{decimal(self.received)} {decimal(int(rate))}/s")

    def finish(self) -> None:
        """Count one complete file."""
        self._progress.advance(self._task)


@contextmanager
def transfer_bar(label: str, files: int) -> Iterator[TransferBar]:
    """Show the files, bytes and rate of a transfer of `files` files."""
    with _bar(MofNCompleteColumn(), TextColumn("{task.fields[received]}")) as progress:
        yield TransferBar(progress, label, files)
