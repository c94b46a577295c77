"""The copies of the project that workflow tests work in."""

import pytest
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
    """A copy with the real subcommands after one complete run, with what the run printed; not to be changed."""
    project = make_project(tmp_path_factory.mktemp("real") / "project", stand_in=False)
    project.printed = project.snakemake()
    return project
