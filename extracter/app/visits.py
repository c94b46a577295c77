"""Files that visitors of the page upload and are given: each is deleted when its visitor leaves."""

import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock


@dataclass
class _Visit:
    uploads: set[Path] = field(default_factory=set)
    results: Path | None = None


class Visits:
    """Which visitor uses which files; several threads may use it.

    Visitors who upload the same file share one copy of it, which Gradio names after its content.

    Args:
        root: folder of uploads; results go into folders below it, whose names cannot be guessed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._visits: dict[str, _Visit] = {}
        self._lock = Lock()

    def note(self, visitor: str, uploads: Iterable[Path]) -> None:
        """Take note that a visitor uses these uploads."""
        with self._lock:
            self._visits.setdefault(visitor, _Visit()).uploads.update(uploads)

    def begin(self, visitor: str) -> Path:
        """An empty folder for a visitor's results, whose earlier ones are deleted."""
        with self._lock:
            visit = self._visits.setdefault(visitor, _Visit())
            _delete_folder(visit.results)
            visit.results = Path(tempfile.mkdtemp(prefix="result-", dir=self.root))
            return visit.results

    def end(self, visitor: str) -> None:
        """Delete a visitor's results, and the uploads that no other visitor uses."""
        with self._lock:
            visit = self._visits.pop(visitor, _Visit())
            _delete_folder(visit.results)
            for path in visit.uploads.difference(*(other.uploads for other in self._visits.values())):
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                    path.parent.rmdir()  # Gradio gives each upload a folder


def _delete_folder(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
