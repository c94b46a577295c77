"""What runs again, and only that, with the stand-in for the real work."""

import subprocess

from project import wait_for

ALL = {
    "download": 2,
    "prepare": 2,
    "train-rec": 2,
    "train-full": 2,
    "evaluate": 6,
    "kernel-sweep": 3,
    "collect-metrics": 1,
    "collect-plots": 1,
    "table-metrics": 1,
    "table-parameters": 1,
    "table-kernels": 1,
    "figure-comparison": 1,
    "figure-training": 1,
    "figure-kernels": 1,
}
REPORTS = [
    "collect_metrics",
    "collect_plots",
    "table_metrics",
    "table_kernels",
    "figure_comparison",
    "figure_training",
    "figure_kernels",
]
TRAININGS = ["train_rec", "train_full", "evaluate", "kernel_sweep", *REPORTS]
EVALUATIONS = ["evaluate", "kernel_sweep", *(name for name in REPORTS if name != "figure_training")]


def edit(project, path):
    project.write(path, project.read(path) + "\n# edited\n")


def test_sources_and_parameters_redo_what_uses_them(completed, complete):
    project = complete
    assert completed.ran_in_all == ALL
    for path, rules in {
        "extracter/training/train.py": TRAININGS,
        "extracter/training/losses.py": TRAININGS,
        "extracter/evaluation/evaluate.py": EVALUATIONS,
        "extracter/evaluation/kernel_sweep_worker.py": [
            "kernel_sweep",
            "collect_metrics",
            "collect_plots",
            "table_kernels",
            "figure_kernels",
        ],
        "extracter/reporting/table_metrics.py": ["table_metrics"],
        "extracter/reporting/figure_comparison.py": ["figure_comparison"],
        "extracter/data/prepare.py": ["prepare", *TRAININGS],
        "extracter/commands/figures.py": ["figure_comparison", "figure_training", "figure_kernels"],
        "extracter/commands/status.py": [],
        "extracter/cli.py": [],
        "workflow/rules/record.smk": [],
    }.items():
        edit(project, path)
        planned = project.planned()
        planned.pop("record", None)
        assert set(planned) == set(rules), path
        project.run("git", "checkout", "--quiet", path)
    for key, value, rules in [
        ("train.lr", 3.0e-4, TRAININGS),
        (
            "evaluation.memory_budget_gib",
            2.0,
            ["kernel_sweep", "collect_metrics", "collect_plots", "table_kernels", "figure_kernels"],
        ),
        ("evaluation.every", 3, ["download", "prepare", *EVALUATIONS]),
    ]:
        project.set(key, value)
        planned = project.planned()
        planned.pop("record", None)
        assert set(planned) == set(rules), key
        project.run("git", "checkout", "--quiet", "params.yaml")
    assert project.planned() == {}


def test_an_edit_during_the_run_is_not_missed(project):
    """Snakemake takes checksums when a job ends; the old source ran."""
    process = subprocess.Popen(
        ["snakemake", "--cores", "all", "--quiet", "all"],
        cwd=project.folder,
        env=project.environment | {"PAUSE": "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for(lambda: project.ran_log.exists() and "train-rec" in project.ran_log.read_text())
    edit(project, "extracter/training/train.py")
    said, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "a source file was edited while the workflow ran" in said
    assert not (project.folder / "dvc.lock").exists()
    project.ran()
    project.snakemake()
    assert project.ran()["train-rec"] == 2
    project.assert_settled()


def test_a_damaged_data_file_is_noticed_by_both_tools(complete):
    project = complete
    path = project.folder / "data/prepared/tiny/set14/hr/a.png"
    text = path.read_text()
    for damaged in (text.swapcase()[::-1], text[:10], None):
        path.unlink()
        if damaged is not None:
            path.write_text(damaged)
        said = project.snakemake(fails=True).splitlines()[-1]
        assert said.startswith("data/prepared/tiny/set14/hr/a.png: ")
        assert "delete data/prepared/tiny/set14 " in said
        assert "data/prepared/tiny/set14" in project.dvc("status")
        path.write_text(text)
    project.run("rm", "-r", "data/prepared/tiny/set14")
    project.snakemake()
    assert path.read_text() == text
    project.assert_settled()


def test_a_preset_from_the_command_line_is_not_recorded(complete):
    project = complete
    project.set("train.lr", 5.0e-4)
    project.write("other.yaml", "presets: {tiny: {train: {lr: 2.0e-4}}}")
    said = project.snakemake("--configfile", "other.yaml")
    assert "nothing is recorded in DVC, since it has parameters from the command line" in said
    assert "presets.tiny.train" in project.dvc("status")
    text = project.read("params.yaml").replace("preset: tiny", "preset: demo", 1)
    project.write("params.yaml", text)
    said = project.snakemake("--config", "preset=tiny")
    assert "its preset `tiny` is not the one that params.yaml selects (`demo`)" in said


def test_a_partial_run_records_nothing(project):
    assert "there is no dvc.lock" in project.restore(fails=True)
    project.snakemake("results/tiny/checkpoints/ttsr-rec/model.safetensors")
    assert not (project.folder / "dvc.lock").exists()
    project.snakemake("tabulated", "drawn")
    assert not (project.folder / "dvc.lock").exists()
    project.snakemake()
    project.assert_settled()


def test_without_git_the_run_ends_well_and_says_what_is_missing(complete):
    project = complete
    project.run("rm", "-rf", ".git")
    edit(project, "extracter/reporting/table_metrics.py")
    assert "this folder is no git repository" in project.snakemake()
    assert project.planned() == {}


def test_files_that_snakemake_did_not_make_are_not_taken_for_current(complete):
    project = complete
    project.run("rm", "-r", ".snakemake")
    project.set("train.lr", 5.0e-4)
    said = project.snakemake(fails=True).splitlines()[-1]
    assert "Snakemake has no record of how it was made" in said
    said = project.restore(fails=True)
    assert "presets.tiny.train modified" in said
    project.run("git", "checkout", "--quiet", "params.yaml")
    project.restore()
    project.assert_settled()
    assert project.ran() == {}
