"""The limits of containers, read from files as the kernel writes them."""

import pytest

from extracter import cgroup, memory


@pytest.fixture
def group(tmp_path):
    """Write the files of a control group."""

    def write(folder: str, **files) -> None:
        (tmp_path / "cgroup" / folder).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (tmp_path / "cgroup" / folder / name.replace("__", ".")).write_text(f"{content}\n")

    return write


def free(tmp_path, membership: str) -> list[int]:
    (tmp_path / "self").write_text(membership)
    return cgroup.free_bytes(tmp_path / "cgroup", tmp_path / "self")


def test_version_two_counts_each_group_above(tmp_path, group):
    group("", memory__max="max", memory__current=10)
    group("a", memory__max=1000, memory__current=400, memory__stat="anon 300\ninactive_file 50")
    group("a/b", memory__max=900, memory__current=800)
    group("c", memory__max=1, memory__current=1)
    assert free(tmp_path, "0::/a/b\n") == [100, 650]
    assert free(tmp_path, "0::/c\n") == [0]


def test_version_one_in_a_container(tmp_path, group):
    # The path that the kernel names does not exist inside; the mounted root is the container's own group.
    names = {"memory__limit_in_bytes": 1500, "memory__usage_in_bytes": 500}
    group("memory", **names, memory__stat="total_inactive_file 100")
    assert free(tmp_path, "5:cpu:/docker/x\n4:memory:/docker/x\n") == [1100]
    group("memory", memory__limit_in_bytes=9223372036854771712)
    assert free(tmp_path, "4:memory:/docker/x\n") == []


def test_no_groups(tmp_path):
    assert cgroup.free_bytes(tmp_path, tmp_path / "none") == []
    assert free(tmp_path, "nonsense\n0::/\n") == []


def test_the_smaller_of_both_counts(monkeypatch):
    whole = memory.available()
    monkeypatch.setattr(cgroup, "free_bytes", lambda: [2 * whole, whole // 3])
    assert memory.available() == whole // 3
