"""Jobs of the page: in turn, with progress, and ended soon after they are cancelled."""

import threading
import time
import weakref

import pytest
import torch
from torch import nn

from extracter.app.jobs import CancelledError, Jobs
from extracter.errors import UserError


@pytest.fixture
def jobs():
    queue = Jobs(8)
    yield queue
    queue.close()


def test_one_at_a_time_in_the_order_of_arrival(jobs):
    running, most, order = [], [], []

    def compute(number):
        def work(job):
            running.append(number)
            most.append(len(running))
            time.sleep(0.01)
            running.remove(number)
            order.append(number)
            return number

        return work

    queued = [jobs.submit(compute(number)) for number in range(8)]
    assert [_wait(job) for job in queued] == list(range(8))
    assert order == list(range(8))
    assert max(most) == 1


def test_progress_is_told_while_it_computes(jobs):
    told, go_on = threading.Event(), threading.Event()

    def work(job):
        job.report("network", 1, 2)
        told.set()
        go_on.wait(10)

    job = jobs.submit(work)
    told.wait(10)
    assert next(job.watch(0.01)) == ("network", pytest.approx(0.7))
    go_on.set()
    _wait(job)


def test_a_cancelled_job_ends_at_the_next_layer_and_the_next_one_runs(jobs):
    """The network of a tile has no steps to report; its layers look themselves."""
    begun, layers = threading.Event(), []

    def work(job):
        layer = nn.Linear(2, 2)
        while True:
            layer(torch.zeros(1, 2))
            layers.append(1)
            begun.set()

    job = jobs.submit(work)
    waiting = jobs.submit(lambda job: "never")
    begun.wait(10)
    waiting.cancel()
    job.cancel()
    after = jobs.submit(lambda job: nn.Linear(2, 2)(torch.zeros(1, 2)).shape)
    assert _wait(after) == (1, 2)
    for ended in (job, waiting):
        with pytest.raises(CancelledError):
            ended.result()
    assert layers


def test_a_full_queue_refuses_and_places_are_told(jobs):
    go_on = threading.Event()
    queued = [jobs.submit(lambda job: go_on.wait(10)) for _ in range(8)]
    assert [jobs.before(job) for job in queued] == list(range(8))
    with pytest.raises(UserError, match="8 photographs are waiting already; try again later"):
        jobs.submit(lambda job: None)
    queued[3].cancel()
    assert [jobs.before(job) for job in queued[4:]] == [3, 4, 5, 6]
    go_on.set()
    _wait(queued[-1])
    jobs.submit(lambda job: None)


def test_errors_reach_the_one_who_asked(jobs):
    def work(job):
        raise ValueError("wrong")

    job = jobs.submit(work)
    with pytest.raises(ValueError, match="wrong"):
        _wait(job)


def test_a_failed_job_holds_none_of_its_memory(jobs):
    """Errors keep the frames they came through, and frames their tensors, until somebody forgets the error."""
    held = []

    def work(job):
        tensor = torch.zeros(10)
        held.append(weakref.ref(tensor))
        try:
            raise MemoryError
        except MemoryError:
            raise UserError("too little") from None

    job = jobs.submit(work)
    with pytest.raises(UserError, match="too little"):
        _wait(job)
    jobs.submit(lambda job: None)
    assert held[0]() is None


def test_close_ends_what_is_running():
    queue, begun = Jobs(8), threading.Event()

    def work(job):
        begun.set()
        while True:
            job.report("search", 0, 1)

    job = queue.submit(work)
    begun.wait(10)
    queue.close()
    with pytest.raises(CancelledError):
        job.result()


def _wait(job):
    for _ in job.watch(0.01):
        pass
    return job.result()
