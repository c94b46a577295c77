"""Progress bars on stderr. They are silent where stderr is not a terminal."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
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
# Of the time that a super-resolution takes: the share that is over when a phase begins, and that of the phase.
PHASES = {"search": (0.0, 0.4), "network": (0.4, 0.6)}


def _bar(*columns: ProgressColumn) -> Progress:
    """A bar with a description before it and `columns` after it; it disappears when it is done."""
    # Rich takes a file for a terminal where FORCE_COLOR is set; no log wants a bar.
    shows = sys.stderr.isatty()
    console = Console(stderr=True, force_terminal=shows)
    before = TextColumn("{task.description}")
    return Progress(before, BarColumn(), *columns, console=console, disable=not shows, transient=True)


def track(items: Iterable[T], label: str, total: int, done: int = 0) -> Iterator[T]:
    """Yield `items` and show how many are done.

    Args:
        items: what remains to be done.
        label: text before the bar.
        total: number of all items, including those done before.
        done: number of items done before.
    """
    told = _Told(label, total)
    with _bar(MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()) as progress:
        task = progress.add_task(label, total=total, completed=done)
        try:
            for number, item in enumerate(items, done + 1):
                yield item
                progress.advance(task)
                told.tell(number)
        finally:
            told.close()


class _Told:
    """Tells the workflow how far a command is, through a file in the folder that $EXTRACTER_PROGRESS names.

    Several commands run at once there, whose output goes to logs; their bars are drawn by workflow/scripts/reporter.py.
    """

    def __init__(self, label: str, total: int):
        folder = os.environ.get("EXTRACTER_PROGRESS")
        self._file = Path(folder, f"{os.getpid()}-{id(self)}.json") if folder else None
        self._label, self._total, self._last = label, total, 0.0

    def tell(self, done: int) -> None:
        """Say that `done` items are done; at most twice a second."""
        if self._file is not None and time.monotonic() - self._last > 0.5:
            self._last = time.monotonic()
            try:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                self._file.write_text(json.dumps([self._label, done, self._total]), encoding="utf-8")
            except OSError:
                self._file = None  # a bar less

    def close(self) -> None:
        """Take the file away."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)


@contextmanager
def batch_bar(costs: Sequence[float]) -> Iterator[Callable[[int, str], Callable[[str, int, int], None]]]:
    """Show several pieces of work that go through named phases, and the time that is left for all of them.

    Args:
        costs: of each piece, in any unit.

    Yields:
        A function that begins a piece, given its number and description, and returns what reports its progress, called
        with (phase, steps done, steps).
    """
    over = [0.0, *accumulate(costs)]
    total, started = over[-1], time.monotonic()
    with _bar(TaskProgressColumn(), TimeElapsedColumn(), TextColumn("{task.fields[left]}")) as progress:
        task = progress.add_task("", total=total, left="")

        def show(description: str, done: float) -> None:
            left = ""
            if done > 0:
                seconds = round((time.monotonic() - started) * (total / done - 1))
                left = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02} left"
            progress.update(task, description=escape(description), completed=done, left=left)

        def begin(number: int, description: str) -> Callable[[str, int, int], None]:
            before = over[number]
            label = f"{number + 1}/{len(costs)} {description}"

            def report(phase: str, done: int, steps: int) -> None:
                first, share = PHASES[phase]
                show(f"{label}: {phase}", before + costs[number] * (first + share * done / max(1, steps)))

            show(label, before)
            return report

        yield begin


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
