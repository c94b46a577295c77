"""The copies of the project that workflow tests work in."""

from fixtures import complete, completed, finished, project

__all__ = ["complete", "completed", "finished", "project"]
