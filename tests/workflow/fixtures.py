"""The copies of the project that tests of the workflow work in, here and on a cluster."""

import os

import pytest
from filelock import FileLock
from project import Project, make_project


@pytest.fixture
def project(tmp_path) -> Project:
    """A copy in which nothing ran, with subcommands that take milliseconds: see stand_in.py."""
    return make_project(tmp_path / "project", stand_in=True)


@pytest.fixture(scope="session")
def completed(tmp_path_factory) -> Project:
    """The same after one complete run of Snakemake, committed; not to be changed."""
    project = make_project(tmp_path_factory.mktemp("completed") / "project", stand_in=True)
    project.printed = project.snakemake(FORCE_COLOR="1")
    project.ran_in_all = project.ran()
    project.commit("first")
    return project


@pytest.fixture
def complete(completed, tmp_path) -> Project:
    """A copy of that, to be changed."""
    return completed.copy(tmp_path / "project")


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """A copy with the real subcommands after one complete run, with what the run printed; not to be changed.

    One for all processes of pytest-xdist: the first that wants it makes it, the others wait.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    project, printed = Project(shared / "real" / "project"), shared / "real" / "printed"
    with FileLock(shared / "real.lock"):
        if not printed.exists():
            make_project(project.folder, stand_in=False)
            printed.write_text(project.snakemake(), encoding="utf-8")
    project.printed = printed.read_text(encoding="utf-8")
    return project
