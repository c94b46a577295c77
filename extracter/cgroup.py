"""The memory limits that containers and job schedulers set: control groups of Linux, version 1 and 2."""

from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
# Names of the limit, of what is in use, and of the part of it that the kernel can drop at once (file pages).
_VERSIONS = {
    2: ("memory.max", "memory.current", "inactive_file"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
_UNLIMITED = 2**60  # version 1 writes a number about as large for "no limit"


def free_bytes(root: Path = _ROOT, membership: Path = _MEMBERSHIP) -> list[int]:
    """Bytes that each limited control group of this process, and each group above it, can still give.

    Args:
        root: where control groups are mounted.
        membership: the file that names the groups of this process.
    """
    found = []
    for folder, version in _groups(root, membership):
        limit_name, usage_name, inactive = _VERSIONS[version]
        limit, usage = _number(folder / limit_name), _number(folder / usage_name)
        if limit is not None and usage is not None and limit < _UNLIMITED:
            found.append(max(0, limit - usage + _statistic(folder / "memory.stat", inactive)))
    return found


def _groups(root: Path, membership: Path) -> Iterator[tuple[Path, int]]:
    """Folders of the process's groups with their version, from its own up to the root.

    In a container the path that the kernel names may lie outside what is mounted; the root is then the group itself.
    """
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            base, version = root, 2
        elif "memory" in controllers.split(","):
            base, version = root / "memory", 1
        else:
            continue
        folder = base / path.lstrip("/")
        for above in (folder, *folder.parents):
            if not above.is_relative_to(base):
                break
            yield above, version


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # "max" for no limit
        return None


def _statistic(path: Path, name: str) -> int:
    try:
        rows = (line.split() for line in path.read_text(encoding="ascii").splitlines())
        return next((int(row[1]) for row in rows if row[0] == name), 0)
    except (OSError, ValueError, IndexError):
        return 0
