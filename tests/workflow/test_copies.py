"""Clones, experiments in temporary copies, and a remote that clones share."""

import json

from project import LR, REPORTED, RETRAINED


def test_a_clone_with_edited_parameters_reports_its_own_figures(complete):
    first = complete.results()
    clone = complete.clone("clone")
    clone.set("train.lr", 5.0e-4)
    said = clone.restore(fails=True)
    assert "set a remote with `dvc remote add" in said
    assert "Traceback" not in said
    clone.snakemake()
    assert clone.ran()["train-rec"] == 2
    clone.assert_settled()
    assert all(one != other for one, other in zip(first, clone.results(), strict=True))

    other = complete.clone("other")
    other.dvc("exp", "run", "--temp", "-S", f"{LR}=5.0e-4")
    assert other.ran()["train-rec"] == 2
    assert other.run("git", "status", "--porcelain") == ""
    rows = json.loads(other.dvc("exp", "show", "--json"))
    measured = {
        experiment["data"]["metrics"]["results/metrics.json"]["data"]["set14"]["extracter_rec"]["psnr"]
        for row in rows
        for group in row["experiments"] or []
        for experiment in group["revs"]
    }
    assert measured == {json.loads(clone.results()[0])["set14"]["extracter_rec"]["psnr"]}


def test_queued_experiments_leave_the_workspace_alone(complete):
    project = complete
    before = project.results()
    for value in ("5.0e-4", "7.0e-4"):
        project.dvc("exp", "run", "--queue", "-S", f"{LR}={value}")
    project.dvc("exp", "run", "--run-all", "--jobs", "2")
    assert project.ran()["train-rec"] == 4
    assert project.results() == before
    assert project.run("git", "status", "--porcelain") == ""
    project.assert_settled()
    shown = project.dvc(
        "exp", "show", "--drop", ".*", "--keep", "Experiment|set14.extracter.*psnr|.*tiny.train.lr", "--md"
    )
    assert "0.0005" in shown
    assert "0.0007" in shown
    assert max(map(len, shown.splitlines())) < 120
    project.dvc("exp", "apply", project.dvc("exp", "list", "--name-only").split()[0])
    project.restore()
    assert project.results() != before
    project.assert_settled()
    assert project.ran() == {}


def test_two_clones_share_results_through_a_folder(complete, tmp_path):
    complete.dvc("remote", "add", "--default", "shared", str(tmp_path / "remote"))
    complete.dvc("push")
    complete.commit("remote")
    clone = complete.clone("clone")
    assert "data, checkpoints and results are those of dvc.lock" in clone.restore()
    assert clone.results() == complete.results()
    clone.assert_settled()
    clone.dvc("repro")
    clone.snakemake()
    assert clone.ran() == {}, "the second clone trains nothing"
    clone.set("train.lr", 5.0e-4)
    clone.dvc("repro")
    assert clone.ran() == {**RETRAINED, **REPORTED}
    clone.assert_settled()
