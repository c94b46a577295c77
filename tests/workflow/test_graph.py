"""What Snakemake plans, and what it says to a user whose input is wrong."""

import ast
import re
import runpy

import pytest
import yaml
from project import ROOT

SETS = ["cufed5", "sun80", "urban100", "set14"]
RULES = {
    "download": 5,
    "prepare": 5,
    "train_match": 1,
    "train_rec": 7,
    "train_full": 7,
    "evaluate": 16 * 4,
    "evaluate_levels": 8,
    "kernel_sweep": 2 * 3 * 3,
    "collect_metrics": 1,
    "collect_plots": 1,
    "table_metrics": 1,
    "table_parameters": 1,
    "table_kernels": 1,
    "table_references": 1,
    "figure_comparison": 1,
    "figure_training": 1,
    "figure_kernels": 1,
    "map_origins": 2 * 4,
    "record": 1,
}


def test_sets_in_parts_are_evaluated_by_a_job_each(project):
    project.set("evaluation.parts", 3)
    planned = project.planned()
    assert (planned["evaluate_part"], planned["evaluate"]) == (3 * 6, 6)
    project.snakemake()
    assert not (project.folder / "results/tiny/parts").exists() or not list(
        (project.folder / "results/tiny/parts").rglob("*.csv")
    )
    project.assert_settled()


def test_lint_is_clean(project):
    assert "in a good condition" in project.run("snakemake", "--lint")


def test_profile_is_found_without_being_named(project):
    assert "profile profiles/default" in project.snakemake("--dry-run")


def test_paper_graph_is_complete(project):
    text = project.snakemake("--dry-run", "--config", "preset=paper")
    # The preset paper has two systems more.
    nine = {"train_rec": 9, "train_full": 9, "evaluate": 20 * 4, "evaluate_levels": 10}
    assert project.planned("--config", "preset=paper") == {**RULES, **nine}
    for name in ["train", *SETS]:
        assert f"data/prepared/paper/{name}/manifest.json" in text


@pytest.mark.parametrize("preset", ["small", "open"])
def test_a_set_without_source_is_left_out(project, preset):
    planned = project.planned("--config", f"preset={preset}")
    assert planned == {**RULES, "download": 5, "prepare": 5, "evaluate": 16 * 4, "absent": 2}


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("rec_steps: 12", "rec_stepz: 12", r"params\.yaml: .*rec_stepz.*allowed are .*rec_steps.*"),
        ("rec_steps: 12", "rec_steps: four", r"params\.yaml: .*rec_steps.*four.*"),
        ("rec_steps: 12", "rec_steps: 0", r"params\.yaml: .*rec_steps.*"),
        ("preset: tiny", "preset: tinny", r"params\.yaml: .*tinny.*allowed are tiny, demo, small, open, paper"),
    ],
)
def test_wrong_parameters_give_one_sentence(project, old, new, sentence):
    text = project.read("params.yaml")
    assert old in text
    project.write("params.yaml", text.replace(old, new, 1))
    said = project.snakemake("--dry-run", fails=True)
    lines = [line for line in said.splitlines() if "workflow specific profile" not in line]
    assert len(lines) == 1
    assert re.fullmatch(sentence, lines[0])


def test_unknown_preset_on_the_command_line_gives_one_sentence(project):
    said = project.snakemake("--dry-run", "--config", "preset=papre", fails=True)
    assert "papre" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert "File " not in said


def test_yaml_that_is_none_is_named(project):
    project.write("params.yaml", "preset: [")
    said = project.snakemake("--dry-run", fails=True)
    assert "params.yaml" in said
    assert "Traceback" not in said


def test_only_absolute_imports_of_modules_in_the_package():
    """Sources of a rule are found by following them; what `extracter` itself offers is for its users."""
    for path in (ROOT / "extracter").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, path
                for name in node.names if node.module == "extracter" else []:
                    assert (ROOT / f"extracter/{name.name}.py").exists() or (ROOT / "extracter" / name.name).is_dir(), (
                        path
                    )


def test_the_rule_graph_in_the_docs_is_snakemakes():
    graph = runpy.run_path(str(ROOT / "workflow/scripts/graph.py"))
    block = graph["BLOCK"].search((ROOT / "docs/workflow.md").read_text(encoding="utf-8"))
    assert block, "docs/workflow.md has no rule graph"
    assert block[0] == block[1] + graph["draw"]() + block[2], "run `make graph`"


def test_only_as_many_trainings_at_once_as_there_are_gpus(project):
    """Two side by side on a processor, and on GPUs as many as there are; each has its share of the cores."""
    # A limit in the profile would override that of a cluster.
    assert "resources" not in yaml.safe_load(project.read("profiles/default/profile.v9+.yaml"))
    pretended = project.folder / "bin"
    pretended.mkdir()
    lines = "".join(f"echo 'GPU {number}: pretended (UUID: GPU-{number})'\n" for number in range(4))
    (pretended / "nvidia-smi").write_text(f"#!/bin/sh\n{lines}")
    (pretended / "nvidia-smi").chmod(0o755)
    path = f"{pretended}:{project.environment['PATH']}"
    for visible, gpu, threads in [("", 0, 4), ("0", 1, 8), ("0,1,2,3", 1, 2)]:
        text = project.run("snakemake", "--cores", "8", "--dry-run", PATH=path, CUDA_VISIBLE_DEVICES=visible)
        jobs = [job for job in text.split("\n[") if "rule train_" in job]
        assert len(jobs) == 4
        for job in jobs:
            assert f"gpu={gpu}" in job
            assert f"threads: {threads}" in job
