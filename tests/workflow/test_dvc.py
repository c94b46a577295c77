"""Snakemake and DVC agree whatever was done last; the real tools, with the stand-in for the real work."""

import yaml
from project import LR, REPORTED, RETRAINED

UNSTAGED = "the stages in dvc.yaml are not those of params.yaml; run `make stages`, then this command again"


def test_agreement_in_either_order_and_back_again(complete):
    project = complete
    project.assert_settled()
    first = project.results()

    project.dvc("exp", "run", "-S", f"{LR}=5.0e-4")
    assert project.ran() == {**RETRAINED, **REPORTED}
    project.assert_settled()
    second = project.results()
    assert all(one != other for one, other in zip(first, second, strict=True))
    assert "set14.extracter_rec.psnr" in project.dvc("metrics", "diff")
    assert LR in project.dvc("params", "diff")
    project.commit("second")

    project.run("git", "checkout", "--quiet", "HEAD~1")
    project.restore()
    assert project.results() == first
    project.run("git", "checkout", "--quiet", "-")
    project.restore()
    assert project.results() == second
    project.assert_settled()
    assert project.ran() == {}

    project.set("train.lr", 1.0e-3)
    project.dvc("repro")
    assert project.ran() == {}, "taken from DVC's cache of runs"
    assert project.results() == first
    project.assert_settled()

    project.set("train.lr", 7.0e-4)
    project.snakemake()
    # Snakemake sees that Table 2, a result of a stage, does not depend on the training.
    assert project.ran() == {name: n for name, n in {**RETRAINED, **REPORTED}.items() if name != "table-parameters"}
    project.assert_settled()
    project.dvc("repro")
    project.snakemake()
    assert project.ran() == {}


def test_an_edited_source_redoes_what_uses_it(complete):
    project = complete
    project.write("extracter/evaluation/evaluate.py", project.read("extracter/evaluation/evaluate.py") + "\n# edited\n")
    project.dvc("repro")
    assert project.ran() == {"evaluate": 6, "kernel-sweep": 3}, "their results are the same: nothing else has to run"
    project.assert_settled()
    project.write(
        "extracter/reporting/table_metrics.py", project.read("extracter/reporting/table_metrics.py") + "\n# edited\n"
    )
    project.snakemake()
    assert project.ran() == REPORTED
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
    after = project.results()

    project.set("train.lr", 7.0e-4)
    stamp = project.folder / "results/tiny/recorded"
    before = stamp.lstat().st_mtime_ns
    project.kill(lambda: stamp.exists() and stamp.lstat().st_mtime_ns != before, "snakemake", "--cores", "all")
    unlocked(project, "dvc", "repro")
    project.assert_settled()
    assert project.results() != after
    project.dvc("repro")
    project.set("train.lr", 5.0e-4)
    project.dvc("repro")
    assert project.results() == after


def test_a_set_of_ones_own_takes_part_in_both_tools(complete, tmp_path):
    project = complete
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    (photographs / "a.png").write_text("one")
    mine = {"source": "folder", "folder": str(photographs), "references": "random"}
    sets = yaml.safe_load(project.read("params.yaml"))["presets"]["tiny"]["data"]["tests"]
    project.set("data.tests", {**sets, "mine": mine})
    assert UNSTAGED in project.dvc("repro", fails=True)
    said = project.snakemake()
    assert f"nothing is recorded in DVC, since {UNSTAGED}" in said
    assert "a.png" not in said, "photographs may be thousands"
    metrics = project.read("results/metrics.json")
    assert "the workspace is not what dvc.lock holds" in project.restore(fails=True)
    assert project.read("results/metrics.json") == metrics, "results that are recorded nowhere are kept"
    assert project.ran()["evaluate"] == 6

    project.make_stages()
    project.snakemake()
    assert project.ran() == {}, "only recorded"
    project.assert_settled()
    (photographs / "b.png").write_text("two")
    assert project.planned()["download"] == 1
    assert str(photographs) in project.dvc("status")
    project.dvc("repro")
    again = {"download": 1, "prepare": 1, "evaluate": 6, "map-origins": 2}
    assert project.ran() == {**again, **REPORTED}, "the other sets stay as they are"
    project.assert_settled()
