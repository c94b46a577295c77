"""What runs again, and only that, with the stand-in for the real work."""

import json
import subprocess
from collections import Counter

import pytest
from preset_keys import all_keys
from project import Project, wait_for

from extracter import params

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
    "map-origins": 2,
}
FIGURES = {"figure_comparison": 1, "figure_training": 1, "figure_kernels": 1}
TABLES = {"collect_metrics": 1, "collect_plots": 1, "table_metrics": 1, "table_kernels": 1}
# What is made from logs of trainings, from evaluations and from sweeps.
OF_LOGS = {"collect_plots": 1, "figure_training": 1}
OF_EVALUATIONS = {"collect_metrics": 1, "collect_plots": 1, "table_metrics": 1, "figure_comparison": 1}
OF_SWEEPS = {"collect_metrics": 1, "collect_plots": 1, "table_kernels": 1, "figure_kernels": 1}
SWEPT = {"kernel_sweep": 3, **OF_SWEEPS}
# Of Extracter-rec, whose gain over bicubic chooses the images that are mapped.
ORIGINS = {"map_origins": 2}
MEASURED = {"evaluate": 6, **OF_EVALUATIONS, **ORIGINS, **SWEPT}
# After a change of both -rec networks: bicubic and the released network stay as they are.
TRAINED = {"train_rec": 2, "train_full": 2, **OF_LOGS, **MEASURED, "evaluate": 4}


@pytest.fixture(scope="module")
def shared(completed, tmp_path_factory) -> Project:
    """A copy for tests that leave it as they found it."""
    return completed.copy(tmp_path_factory.mktemp("shared") / "project")


def test_a_complete_run_runs_each_command_once(completed):
    assert completed.ran_in_all == ALL


def edit(project, path):
    project.write(path, project.read(path) + "\n# edited\n")


def planned(project):
    """Jobs that a dry run plans, without the last one, which any change brings about."""
    found = dict(project.planned())
    found.pop("record", None)
    return found


@pytest.mark.parametrize(
    ("paths", "jobs"),
    [
        # Help texts, pages and what passes values on: nothing to do.
        (
            [
                "extracter/commands/train.py",
                "extracter/cli.py",
                "extracter/params.py",
                "extracter/presets.py",
                "workflow/rules/record.smk",
            ],
            {},
        ),
        (["extracter/reporting/table_metrics.py"], {**TABLES, **FIGURES, "table_parameters": 1}),
        # What searches; Table 2 has the search's shape.
        (["extracter/search/search.py"], {**TRAINED, "evaluate": 6, "table_parameters": 1}),
        (["extracter/evaluation/evaluate.py"], MEASURED),
        (["extracter/data/prepare.py"], {"prepare": 2, **TRAINED, "evaluate": 6, "table_parameters": 1}),
        (["requirements.lock"], {**{name.replace("-", "_"): count for name, count in ALL.items()}}),
    ],
)
def test_an_edit_redoes_what_runs_the_file(shared, paths, jobs):
    for path in paths:
        edit(shared, path)
    assert planned(shared) == jobs
    shared.run("git", "checkout", "--quiet", *paths)


def test_after_an_edit_of_help_texts_and_pages_there_is_nothing_to_do(shared):
    paths = ["extracter/commands/train.py", "extracter/cli.py", "extracter/inference/upscaler.py"]
    for path in paths:
        edit(shared, path)
    (shared.folder / "docs").mkdir()
    shared.write("docs/workflow.md", "# edited\n")
    assert shared.planned() == {}
    shared.run("rm", "-r", "docs")
    shared.run("git", "checkout", "--quiet", *paths)


def test_dvc_notices_an_edited_rule(shared):
    edit(shared, "workflow/rules/train.smk")
    changed = {name for name, changes in json.loads(shared.dvc("status", "--json")).items() if changes}
    assert {"train_rec_extracter", "train_full_ttsr"} <= changed
    assert not {"prepare_set14", "evaluate_fixed@set14", "tables"} & changed
    shared.run("git", "checkout", "--quiet", "workflow/rules/train.smk")


# Each key of params.yaml, by what a change of it makes run again in the preset `tiny`.
KEYS = {
    "nothing": (
        {"data.mirror": "mirror", "train.checkpoint_every": 5, "train.devices": 2, "train.nodes": 2},
        {},
    ),
    "systems that are not trained": (
        {"model.srntt_blocks": 3, "model.ssen_blocks": [2, 2], "model.c2_blocks": 3, "model.masa_blocks": [2] * 5}
        | {"match.teacher_steps": 3, "match.student_steps": 3, "match.batch": 3, "match.lr": 0.5},
        {},
    ),
    "the critic and the second phase": (
        {
            "train.full_steps": 3,
            "train.critic_steps": 1,
            "train.critic_lr": 0.5,
            "train.critic_beta1": 0.5,
            "train.critic_beta2": 0.5,
        },
        {"train_full": 2, "evaluate": 2, **OF_LOGS, **OF_EVALUATIONS},
    ),
    "Eq. 8, of Extracter alone": (
        {"loss.adv": 0.5, "loss.perc": 0.5, "loss.grad": 0.5, "loss.perc_norm": "mse", "loss.gradient_penalty": 5.0},
        {"train_full": 1, "evaluate": 1, **OF_LOGS, **OF_EVALUATIONS},
    ),
    "TTSR's network": (
        {"model.ttsr_blocks": [2, 1, 1, 1]},
        {"train_rec": 1, "train_full": 1, "evaluate": 2, **OF_LOGS, **OF_EVALUATIONS},
    ),
    "Extracter's network": (
        {
            "model.ife_blocks": 2,
            "model.csfi_blocks": [2, 1, 1],
            "model.gde_blocks": [],
            "model.textures": 2,
            "search.kernel": 3,
            "search.stride": 1,
            "search.padding": 1,
            "search.strategy": "direct",
            "model.align": True,
            "model.gate": True,
            "model.trust": [0.3, 0.4],
            "model.idle": [0.2, 0.3],
            "model.registration": True,
            "train.gate_lr": 0.5,
            "train.without_reference": 0.5,
        },
        {"train_rec": 1, "train_full": 1, "evaluate": 2, **OF_LOGS, **OF_EVALUATIONS, **ORIGINS, **SWEPT},
    ),
    "both networks": (
        {
            "model.features": 10,
            "model.dfe_width": 6,
            "model.bicubic_skip": False,
            "loss.rec": 2.0,
            "train.batch": 3,
            "train.rec_steps": 13,
            "train.lr": 0.5,
            "train.dfe_lr": 0.5,
            "train.beta1": 0.5,
            "train.beta2": 0.5,
            "train.eps": 0.5,
            "train.regime": "native",
            "train.schedule": "constant",
            "train.decay_at": [0.5],
            "train.swap": 0.1,
            "train.turn_apart": 0.1,
            "train.self_reference": 0.1,
            "train.other_reference": 0.1,
            "train.ema": 0.5,
            "train.clip": 1.0,
            "train.channels_last": True,
            "train.compile": True,
            "train.deterministic": False,
            "train.tf32": True,
            "train.validate_every": 7,
            "train.precision": "bf16-mixed",
        },
        TRAINED,
    ),
    "VGG19's weights": ({"model.vgg_weights": "imagenet", "model.dfe_width": 64}, TRAINED),
    "the protocol": (
        {"evaluation.border": 4, "evaluation.padding": "zeros", "evaluation.protocol": "native"},
        {"evaluate": 6, **OF_EVALUATIONS, **ORIGINS},
    ),
    "tiles of the search": ({"search.memory": 32.0}, {**TRAINED, "evaluate": 5}),
    "the seed": ({"seed": 1}, {"prepare": 1, **TRAINED}),
    "training pairs": (
        {
            "data.train.size": 64,
            "data.train.pairs": 9,
            "data.train.validation": 3,
            "data.train.shift": 0.1,
            "data.train.scale": 0.2,
            "data.train.rotation": 1.0,
            "data.train.photometry": 0.1,
            "data.train.mixture": {},
            "data.train.ref_size": 64,
            "data.train.validation_ref_size": 64,
        },
        {"prepare": 1, **TRAINED},
    ),
    "photographs to train on": (
        {"data.train.source": "folder", "data.train.folder": "mine"},
        {"download": 1, "prepare": 1, **TRAINED},
    ),
    "references": ({"data.tests.set14.references": "random"}, {"prepare": 1, **MEASURED}),
    "a test set's photographs": (
        {"data.tests.set14.source": "folder", "data.tests.set14.folder": "mine"},
        {"download": 1, "prepare": 1, **MEASURED},
    ),
    "a published set of the user's": (
        {"data.tests.set14.source": "published", "data.local": {"set14": "mine.zip"}},
        {"download": 1, "prepare": 1, **MEASURED},
    ),
    "images of a set": ({"evaluation.every": 3}, {"download": 1, "prepare": 1, **MEASURED}),
    "how networks are evaluated": (
        {"evaluation.compile": True, "evaluation.reuse_memory": True},
        {"evaluate": 5, **OF_EVALUATIONS, **ORIGINS},
    ),
    "the precision of evaluations": (
        {"evaluation.precision": "bf16-mixed"},
        {"evaluate": 5, **OF_EVALUATIONS, **ORIGINS, **SWEPT},
    ),
    "the memory of Table 3": ({"evaluation.memory_budget_gib": 2.0}, SWEPT),
    "kernels": ({"evaluation.kernels": [6, 12]}, SWEPT),
}
# Keys whose other values are other jobs: tested where sets and systems come and go.
OTHER_JOBS = {"systems", "evaluation.kernel_sets", "evaluation.level_sets", "evaluation.parts"}
# Shown by real dry runs; of the others it suffices to know which parameters each job has.
PLANNED = ("nothing", "Eq. 8, of Extracter alone", "references", "a published set of the user's", "kernels")


def test_every_key_of_the_parameters_is_in_the_table(shared):
    preset = params.read(shared.folder / "params.yaml").selected
    absent = {f"data.tests.sun80.{key}" for key in ("source", "folder", "references")} | {"data.local.sun80"}
    local = {"data.local.train", "data.local.set14"}
    listed = {key for changes, _ in KEYS.values() for key in changes}
    assert listed - {"data.local"} == set(all_keys(preset)) - absent - local - OTHER_JOBS


def test_a_key_reaches_the_jobs_that_the_table_says(shared):
    """By the parameters of all jobs, and what is made from what they make."""
    jobs = [job for job in shared.jobs() if job["rule"] != "record"]
    for what in KEYS.keys() - PLANNED:
        changes, expected = KEYS[what]
        again = [job for job in jobs if changes.keys() & set(job["blocks"])]
        made = {path for job in again for path in job["output"]}
        while more := [job for job in jobs if job not in again and made & set(job["input"])]:
            again += more
            made |= {path for job in more for path in job["output"]}
        assert dict(Counter(job["rule"] for job in again)) == expected, what


@pytest.mark.parametrize("what", PLANNED)
def test_snakemake_plans_what_the_table_says(shared, what):
    changes, jobs = KEYS[what]
    for key, value in changes.items():
        shared.set(key, value)
    assert planned(shared) == jobs
    shared.run("git", "checkout", "--quiet", "params.yaml")


def test_an_edit_during_the_run_is_not_missed(project):
    """Snakemake takes checksums when a job ends; the old source ran."""
    process = subprocess.Popen(
        ["snakemake", "--cores", "all"],
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
    other = project.folder / "data/raw/tiny/train/hr/a.png"
    before = other.read_text()
    other.unlink()
    for damaged in (text.swapcase()[::-1], text[:10], None):
        path.unlink()
        if damaged is not None:
            path.write_text(damaged)
        said = project.snakemake("--dry-run", fails=True)
        assert "\ndata/prepared/tiny/set14/hr/a.png: " in said
        assert "\ndata/raw/tiny/train/hr/a.png: missing" in said, "all in one run"
        assert "delete data/raw/tiny/train data/prepared/tiny/set14 and" in said
        assert "data/prepared/tiny/set14" in project.dvc("status")
        path.write_text(text)
    other.write_text(before)
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
    assert "presets.tiny.train.lr" in project.dvc("status")
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
    project.run("git", "init", "--quiet")
    assert "DVC holds this run" in project.snakemake(), "recorded as soon as there is a repository"
    project.assert_settled()


def test_files_that_snakemake_did_not_make_are_not_taken_for_current(complete):
    project = complete
    project.run("rm", "-r", ".snakemake")
    project.set("train.lr", 5.0e-4)
    said = project.snakemake(fails=True).splitlines()[-1]
    assert "Snakemake has no record of how it was made" in said
    said = project.restore(fails=True)
    assert "presets.tiny.train.lr modified" in said
    project.run("git", "checkout", "--quiet", "params.yaml")
    project.restore()
    project.assert_settled()
    assert project.ran() == {}
