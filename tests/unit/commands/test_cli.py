"""The command itself."""

import subprocess
import sys
from importlib.metadata import version


def test_python_m_and_the_version():
    command = [sys.executable, "-m", "extracter", "--version"]
    assert (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
        == f"extracter {version('extracter')}\n"
    )
