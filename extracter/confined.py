"""Run work in a child process, so that running out of memory is observed there and harms nothing else.

The parent calls `run_child`. The child calls `run_job`, and reports with `say`: JSON objects on stdout, one a line.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable

from extracter.errors import UserError
from extracter.memory import is_allocation_failure, says_allocation_failure
from extracter.progress import track


def say(**message: object) -> None:
    """In the child: send a message to the parent."""
    print(json.dumps(message), flush=True)


def run_job(run: Callable[[dict], None]) -> None:
    """In the child: run the job on the command line. Errors of the user and a lack of memory become messages."""
    try:
        run(json.loads(sys.argv[1]))
    except UserError as error:
        say(error=str(error))
        sys.exit(1)
    except Exception as error:
        if not is_allocation_failure(error):
            raise
        say(fits=False)


def command_of(module: str, job: dict) -> list[str]:
    """The command line of a child that runs a job in a module."""
    return [sys.executable, "-m", module, json.dumps(job)]


def run_child(command: list[str], steps: int) -> dict:
    """In the parent: run a child and distinguish running out of memory from any other end.

    The child says `{"confined": GiB}` once a memory limit is in force, `{"done": n}` after each step, and at the end
    `{"fits": ...}`, `{"failed": message, "image": name}` or `{"error": sentence}`.

    Args:
        command: command line of the child.
        steps: number of its steps, for the progress bar.

    Returns:
        The last message, and `budget_gib`.

    Raises:
        UserError: an error that the user can fix, or the child ended in a way that says nothing about memory.
    """
    confined, last = None, {}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as child:
            try:
                # A last line without a line break was truncated by the child's end.
                messages = (json.loads(line) for line in child.stdout or () if line.endswith("\n"))
                for last in track(messages, "confined run", steps + 2):
                    confined = last.get("confined", confined)
            except BaseException:
                child.kill()
                raise
        stderr.seek(0)
        said = stderr.read()
    if "error" in last:
        raise UserError(last["error"])
    if "failed" in last or ("fits" in last and child.returncode == 0):
        return {"budget_gib": confined, **last}
    # If an allocation fails outside of Python's reach, the C++ library ends the process with a message.
    if confined is not None and says_allocation_failure(said):
        return {"fits": False, "budget_gib": confined}
    ending = f"was ended by signal {-child.returncode}" if child.returncode < 0 else f"ended with {child.returncode}"
    if child.returncode == -9:
        remedy = "if this machine has less free memory than `evaluation.memory_budget_gib`, lower that"
    else:
        lines = said.strip().splitlines() or ["nothing"]
        remedy = f"the cause is not the memory budget, please report it; its last output: {lines[-1]}"
    raise UserError(f"the confined run {ending}; {remedy}")
