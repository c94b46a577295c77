"""Uploads and results are deleted when their visitor leaves, and not before."""

from pathlib import Path

from extracter.app.visits import Visits


def upload(root: Path, content: str) -> Path:
    path = root / content / "photograph.png"
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    return path


def test_a_visitor_leaves_nothing(tmp_path):
    visits = Visits(tmp_path)
    visits.note("a", [upload(tmp_path, "one"), upload(tmp_path, "two")])
    (visits.begin("a") / "result.png").write_text("result")
    visits.end("a")
    assert not list(tmp_path.iterdir())


def test_shared_uploads_stay_for_the_other(tmp_path):
    visits = Visits(tmp_path)
    shared, own = upload(tmp_path, "shared"), upload(tmp_path, "own")
    visits.note("a", [shared, own])
    visits.note("b", [shared])
    visits.end("a")
    assert shared.is_file()
    assert not own.exists()
    visits.end("b")
    assert not list(tmp_path.iterdir())


def test_earlier_results_go_when_the_next_job_begins(tmp_path):
    visits = Visits(tmp_path)
    first = visits.begin("a")
    (first / "result.png").write_text("result")
    second = visits.begin("a")
    assert second != first
    assert list(tmp_path.iterdir()) == [second]


def test_visitors_of_whom_nothing_is_known_may_leave(tmp_path):
    Visits(tmp_path).end("nobody")
