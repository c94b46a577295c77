"""Jobs of the page: one runs at a time in a thread, tells how far it is, and ends soon after it is cancelled."""

import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Event, RLock
from typing import Generic, TypeVar

from torch.nn.modules.module import register_module_forward_pre_hook

from extracter.errors import UserError
from extracter.progress import PHASES

T = TypeVar("T")


class CancelledError(Exception):
    """The job was cancelled; what it had begun is abandoned."""


class Job(Generic[T]):
    """One computation on its way; `Jobs.submit` makes it."""

    def __init__(self) -> None:
        self.phase, self.share = "waiting", 0.0
        self._cancelled = Event()
        self._future: Future[T]

    def report(self, phase: str, done: int, total: int) -> None:
        """Take note of progress, as the `report` of `Upscaler.run`.

        Raises:
            CancelledError: the job is cancelled.
        """
        self.check()
        first, part = PHASES[phase]
        self.phase, self.share = phase, first + part * done / max(1, total)

    def check(self) -> None:
        """Raises CancelledError where the job is cancelled."""
        if self._cancelled.is_set():
            raise CancelledError

    def watch(self, every: float) -> Iterator[tuple[str, float]]:
        """Phase and share of the time that is over, every so many seconds until the job has ended."""
        while not wait([self._future], timeout=every).done:
            yield self.phase, self.share

    def cancel(self) -> None:
        """End the job: at the next layer of a network or step of a search, or before it begins."""
        self._cancelled.set()
        self._future.cancel()

    def result(self) -> T:
        """What the computation returned, once it has.

        Raises:
            CancelledError: the job was cancelled, whether or not it ended first.
            Exception: whatever the computation raised.
        """
        self.check()
        return self._future.result()


class Jobs:
    """A queue of computations that one thread works off.

    Args:
        limit: how many may be open at once, the running one included.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="job")
        self._open: list[Job] = []
        self._lock = RLock()  # a future that is cancelled calls back at once, in the thread that holds it

    def submit(self, compute: Callable[[Job[T]], T]) -> Job[T]:
        """Queue a computation, which is given its job, so as to report to it.

        Raises:
            UserError: the queue is full.
        """
        job: Job[T] = Job()
        with self._lock:
            if len(self._open) >= self.limit:
                raise UserError(f"{self.limit} photographs are waiting already; try again later")
            self._open.append(job)
            job._future = self._worker.submit(_run, compute, job)
        job._future.add_done_callback(lambda _: self._remove(job))
        return job

    def before(self, job: Job) -> int:
        """How many jobs have to end before this one begins."""
        with self._lock:
            return self._open.index(job) if job in self._open else 0

    def _remove(self, job: Job) -> None:
        with self._lock:
            self._open.remove(job)

    def close(self) -> None:
        """Cancel all jobs and wait until the running one has ended."""
        with self._lock:
            for job in list(self._open):
                job.cancel()
        self._worker.shutdown(cancel_futures=True)


def _run(compute: Callable[[Job[T]], T], job: Job[T]) -> T:
    job.check()
    job.phase = "reading"
    try:
        # Every layer of every network looks whether the job is cancelled: a tile may take minutes, a layer does not.
        with register_module_forward_pre_hook(lambda module, inputs: job.check()):
            return compute(job)
    except BaseException as error:
        _release_frames(error)
        raise


def _release_frames(error: BaseException | None) -> None:
    """Let go of what the functions held that an error and its causes came through: tensors, as long as it is kept."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
