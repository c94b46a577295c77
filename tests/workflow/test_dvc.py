"""Snakemake and DVC agree whatever was done last; the real tools, with the stand-in for the real work."""

import json

import yaml

LR = "presets.tiny.train.lr"
RETRAINED = {"train-rec": 2, "train-full": 2, "evaluate": 5, "kernel-sweep": 6}
TABLES = ["collect-metrics", "collect-plots", "table-metrics", "table-parameters", "table-kernels"]
REPORTED = dict.fromkeys([*TABLES, "figure-comparison", "figure-training", "figure-kernels"], 1)
UNSTAGED = "the sets in dvc.yaml are not those of params.yaml; run `make stages`, then this command again"
CHECKPOINT = "results/tiny/checkpoints/extracter/model.safetensors"


def results(project):
    return [project.read(path) for path in ("results/metrics.json", CHECKPOINT, "results/tables/table1_metrics.md")]


def test_agreement_in_either_order_and_back_again(complete):
    project = complete
    project.assert_settled()
    first = results(project)

    project.dvc("exp", "run", "-S", f"{LR}=5.0e-4")
    assert project.ran() == {**RETRAINED, **REPORTED}
    project.assert_settled()
    second = results(project)
    assert all(one != other for one, other in zip(first, second, strict=True))
    assert "set14.extracter_rec.psnr" in project.dvc("metrics", "diff")
    assert LR in project.dvc("params", "diff")
    project.commit("second")

    project.run("git", "checkout", "--quiet", "HEAD~1")
    project.restore()
    assert results(project) == first
    project.run("git", "checkout", "--quiet", "-")
    project.restore()
    assert results(project) == second
    project.assert_settled()
    assert project.ran() == {}

    project.set("train.lr", 1.0e-3)
    project.dvc("repro")
    assert project.ran() == {}, "taken from DVC's cache of runs"
    assert results(project) == first
    project.assert_settled()

    project.set("train.lr", 7.0e-4)
    project.snakemake()
    # Snakemake sees that two results of a stage, bicubic's and Table 2, do not depend on the training.
    assert project.ran() == {
        name: n for name, n in {**RETRAINED, **REPORTED, "evaluate": 4}.items() if name != "table-parameters"
    }
    project.assert_settled()
    project.dvc("repro")
    project.snakemake()
    assert project.ran() == {}


def test_an_edited_source_redoes_what_uses_it(complete):
    project = complete
    project.write("extracter/evaluate.py", project.read("extracter/evaluate.py") + "\n# edited\n")
    project.dvc("repro")
    assert project.ran() == {"evaluate": 5, "kernel-sweep": 6}, "their results are the same: nothing else has to run"
    project.assert_settled()
    project.write("extracter/table_metrics.py", project.read("extracter/table_metrics.py") + "\n# edited\n")
    project.snakemake()
    assert project.ran() == {"table-metrics": 1}
    project.assert_settled()


def test_a_clone_with_edited_parameters_reports_its_own_figures(complete):
    first = results(complete)
    clone = complete.clone("clone")
    clone.set("train.lr", 5.0e-4)
    said = clone.restore(fails=True)
    assert "set a remote with `dvc remote add" in said
    assert "Traceback" not in said
    clone.snakemake()
    assert clone.ran()["train-rec"] == 2
    clone.assert_settled()
    assert all(one != other for one, other in zip(first, results(clone), strict=True))

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
    assert measured == {json.loads(results(clone)[0])["set14"]["extracter_rec"]["psnr"]}


def test_queued_experiments_leave_the_workspace_alone(complete):
    project = complete
    before = results(project)
    for value in ("5.0e-4", "7.0e-4"):
        project.dvc("exp", "run", "--queue", "-S", f"{LR}={value}")
    project.dvc("exp", "run", "--run-all", "--jobs", "2")
    assert project.ran()["train-rec"] == 4
    assert results(project) == before
    assert project.run("git", "status", "--porcelain") == ""
    project.assert_settled()
    shown = project.dvc("exp", "show", "--drop", ".*", "--keep", "Experiment|set14.extracter.*psnr|.*train.lr", "--md")
    assert "0.0005" in shown
    assert "0.0007" in shown
    assert max(map(len, shown.splitlines())) < 120
    project.dvc("exp", "apply", project.dvc("exp", "list", "--name-only").split()[0])
    project.restore()
    assert results(project) != before
    project.assert_settled()
    assert project.ran() == {}


def test_two_clones_share_results_through_a_folder(complete, tmp_path):
    complete.dvc("remote", "add", "--default", "shared", str(tmp_path / "remote"))
    complete.dvc("push")
    complete.commit("remote")
    clone = complete.clone("clone")
    assert "data, checkpoints and results are those of dvc.lock" in clone.restore()
    assert results(clone) == results(complete)
    clone.assert_settled()
    clone.dvc("repro")
    clone.snakemake()
    assert clone.ran() == {}, "the second clone trains nothing"
    clone.set("train.lr", 5.0e-4)
    clone.dvc("repro")
    assert clone.ran() == {**RETRAINED, **REPORTED}
    clone.assert_settled()


def test_a_set_of_ones_own_takes_part_in_both_tools(complete, tmp_path):
    project = complete
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    (photographs / "a.png").write_text("one")
    mine = {"source": "folder", "folder": str(photographs), "references": "random"}
    sets = yaml.safe_load(project.read("params.yaml"))["presets"]["tiny"]["data"]["tests"]
    project.set("data.tests", {**sets, "mine": mine})
    assert UNSTAGED in project.dvc("repro", fails=True)
    assert f"nothing is recorded in DVC, since {UNSTAGED}" in project.snakemake()
    assert "`dvc checkout` failed" in project.restore(fails=True), "results that are recorded nowhere are kept"
    assert project.ran()["evaluate"] == 5

    project.make_stages()
    project.snakemake()
    assert project.ran() == {}, "only recorded"
    project.assert_settled()
    (photographs / "b.png").write_text("two")
    assert project.planned()["download"] == 1
    assert str(photographs) in project.dvc("status")
    project.dvc("repro")
    assert project.ran() == {"download": 1, "prepare": 1, "evaluate": 10, "kernel-sweep": 6, **REPORTED}
    project.assert_settled()


def unlocked(project, *command):
    """Run a command as a user does after a kill: where it says how to unlock, do that and run it again."""
    said = project.run(*command, fails=True)
    assert "--unlock" in said
    project.run("snakemake", "--cores", "1", "--unlock")
    return project.run(*command)


def test_killed_anywhere_each_tool_goes_on(project):
    def training():
        return project.ran_log.exists() and "train-full" in project.ran_log.read_text()

    project.kill(training, "snakemake", "--cores", "all")
    unlocked(project, "snakemake", "--cores", "all")
    project.assert_settled()
    project.commit("first")

    project.set("train.lr", 5.0e-4)
    project.ran()
    project.kill(training, "dvc", "repro")
    unlocked(project, "dvc", "repro")
    project.assert_settled()
    after = results(project)

    project.set("train.lr", 7.0e-4)
    stamp = project.folder / "results/tiny/recorded"
    before = stamp.lstat().st_mtime_ns
    project.kill(lambda: stamp.exists() and stamp.lstat().st_mtime_ns != before, "snakemake", "--cores", "all")
    unlocked(project, "snakemake", "--cores", "all")
    project.assert_settled()
    assert results(project) != after
    project.dvc("repro")
    project.set("train.lr", 5.0e-4)
    project.dvc("repro")
    assert results(project) == after
