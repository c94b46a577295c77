"""Child processes: running out of memory is told from every other end."""

import sys

import numpy as np
import pytest
import torch

from extracter.confined import run_child
from extracter.errors import UserError
from extracter.memory import is_allocation_failure, says_allocation_failure


def child(code: str) -> list[str]:
    return [sys.executable, "-c", code]


CONFINED = "print('{\"confined\": 1.0}', flush=True)\n"


def test_a_bad_alloc_that_ends_the_process_does_not_fit():
    says = 'import os, sys; sys.stderr.write("terminate called: std::bad_alloc"); sys.stderr.flush(); os.abort()'
    assert run_child(child(CONFINED + says), 1) == {"fits": False, "budget_gib": 1.0}


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import os; os.abort()", "ended by signal 6; the cause is not the memory"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended by signal 11; the cause is not"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ended by signal 9; if this machine has less free"),
        ("raise ValueError('the shapes differ')", "ended with 1; .* its last output: ValueError: the shapes differ"),
        ("", "ended with 0; .* its last output: nothing"),
        ("print('{\"fi', end='')", "ended with 0"),
        ('print(\'{"error": "set/a.png: truncated"}\'); exit(1)', "^set/a.png: truncated$"),
    ],
)
def test_any_other_end_is_an_error(code, says):
    with pytest.raises(UserError, match=says):
        run_child(child(CONFINED + code), 1)


def test_running_out_of_memory_before_the_limit_stands_is_an_error():
    with pytest.raises(UserError, match="ended with 1"):
        run_child(child("raise MemoryError('std::bad_alloc')"), 1)


def test_allocation_failures_are_told_from_other_errors():
    huge = 2**62
    for allocate in (lambda: torch.empty(huge, dtype=torch.int8), lambda: np.empty(huge, np.int8), lambda: bytes(huge)):
        with pytest.raises((RuntimeError, MemoryError)) as caught:
            allocate()
        assert is_allocation_failure(caught.value)
    with pytest.raises(RuntimeError) as caught:
        torch.zeros(2, 3) @ torch.zeros(2, 3)
    assert not is_allocation_failure(caught.value)
    assert not is_allocation_failure(ValueError("std::bad_alloc"))
    assert not says_allocation_failure("Segmentation fault (core dumped)")
