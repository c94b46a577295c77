"""A Slurm cluster for the tests of this folder."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from fixtures import complete, completed, finished
from slurm import Slurm, find_obstacle

__all__ = ["complete", "completed", "finished", "slurm"]


@pytest.fixture(scope="session")
def slurm():
    """The cluster. Where it cannot be started the tests fail in CI, and are skipped elsewhere."""
    obstacle = find_obstacle()
    if obstacle and os.environ.get("CI"):
        pytest.fail(f"Slurm cannot be tried: {obstacle}")
    if obstacle:
        pytest.skip(f"Slurm is not tried: {obstacle}")
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    cluster = Slurm(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
