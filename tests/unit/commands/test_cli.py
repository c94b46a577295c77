"""The command itself."""

import signal
import subprocess
import sys
from importlib.metadata import version

import pytest

# Sends a signal to itself when the commands are about to be imported.
EARLY = """
import os, sys
from extracter.__main__ import main

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "extracter.commands.bench":
            os.kill(os.getpid(), int(sys.argv[1]))

sys.meta_path.insert(0, Finder())
main()
"""


def test_python_m_and_the_version():
    command = [sys.executable, "-m", "extracter", "--version"]
    assert (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
        == f"extracter {version('extracter')}\n"
    )


@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "ended")]
)
def test_a_signal_while_the_commands_load_ends_in_one_line(number, code, said):
    done = subprocess.run([sys.executable, "-c", EARLY, str(int(number))], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, f"extracter: {said}; run the same command again to resume\n")
