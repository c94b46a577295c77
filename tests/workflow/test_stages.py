"""dvc.yaml against the rules: the two descriptions of the workflow cannot drift apart."""

import ast
import hashlib
import re
import sys
from functools import cache
from importlib import import_module

import pytest
import yaml
from project import ROOT

from extracter import params

CHECKPOINT = ("config.json", "model.safetensors", "training.json")


@cache
def scripts(name):
    """What a script of the workflow defines."""
    sys.path.insert(0, str(ROOT / "workflow/scripts"))
    try:
        return vars(import_module(name))
    finally:
        sys.path.pop(0)


SOURCES = scripts("sources")
TABLE = SOURCES["SOURCES"]


def stages(project):
    """DVC's stages with everything that interpolation gives, by name."""
    from dvc.repo import Repo

    with Repo(str(project.folder)) as repo:
        return {
            stage.name: {
                "rules": re.search(r"--allowed-rules ([a-z0-9_\s]+) --", stage.cmd),
                "deps": sorted(dep.def_path for dep in stage.deps if not hasattr(dep, "params")),
                "params": sorted({name for dep in stage.deps if hasattr(dep, "params") for name in dep.params}),
                "outs": sorted(out.def_path for out in stage.outs),
            }
            for stage in repo.index.stages
        }


@cache
def rule_files():
    """Texts of the files of rules by path."""
    files = (ROOT / "workflow/rules").glob("*.smk")
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in files}


def within(path, folders):
    """The one of `folders` that `path` is or lies in."""
    return next((folder for folder in folders if path == folder or path.startswith(f"{folder}/")), None)


@pytest.mark.parametrize("preset", ["tiny", "demo", "paper"])
def test_every_stage_is_its_rules(project, preset):
    content = yaml.safe_load(project.read("params.yaml"))
    project.write("params.yaml", yaml.safe_dump({**content, "preset": preset}, sort_keys=False))
    project.make_stages()
    all_jobs, all_stages = project.jobs(), stages(project)
    owed = {path for job in all_jobs for path in job["output"]}
    outs = [out for stage in all_stages.values() for out in stage["outs"]]
    assert all(within(path, outs) for path in owed), "an output of a rule is in no stage"
    for name, stage in all_stages.items():
        rules = set(stage["rules"][1].split()) if stage["rules"] else {"record"}
        mine = [job for job in all_jobs if any(within(path, stage["outs"]) for path in job["output"])]
        assert {job["rule"] for job in mine} <= rules, name
        assert rules - {job["rule"] for job in mine} <= {
            "absent",
            "evaluate_part",  # of a set that is evaluated in parts
            f"swept_{name.split('@')[-1]}",
            "tabulated",
            "drawn",
            name.split("_")[0],  # `prepare` or `download` of a set without source
        }
        made = {within(path, stage["outs"]) for job in mine for path in job["output"]}
        assert made == set(stage["outs"]), f"{name}: an out that no rule makes"
        read = {path for job in mine for path in job["input"]} - {path for job in mine for path in job["output"]}
        missing = {path for path in read if not within(path, stage["deps"])}
        assert not missing, f"{name}: not among the deps: {sorted(missing)}"
        if any(job["rule"] != "absent" for job in mine):
            sources = {path for path in stage["deps"] if path.startswith(("extracter/", "requirements"))}
            sources -= {"extracter/download/checksums", *(f"extracter/released/extracter-rec/{n}" for n in CHECKPOINT)}
            assert sources == set(SOURCES["list_sources"](rules & set(TABLE) or TABLE)), name
        files = {path for path, text in rule_files().items() if re.search(rf"(?m)^ *rule ({'|'.join(rules)}):", text)}
        assert files
        assert all(within(path, stage["deps"]) for path in files), f"{name}: an edit of its rules would go unnoticed"
        blocks = {f"presets.{preset}.{block}" for job in mine for block in job["blocks"]}
        extra = {f"presets.{preset}.evaluation.kernels"} if name.startswith("kernels") else set()
        # The seed matters where references are random, which an experiment may change.
        extra |= {f"presets.{preset}.seed"} if name.startswith("prepare") else set()
        if name != "record" and any(job["rule"] != "absent" for job in mine):
            assert set(stage["params"]) - {"preset"} | extra == blocks | extra, name


def test_dvc_yaml_is_up_to_date():
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    written = scripts("stages")["write_stages"](text, params.read(ROOT / "params.yaml").selected)
    assert written == text, "run `make stages`"


def imported(path, nodes=None):
    """Modules of the package that a file, or some nodes of it, imports anywhere or names as text to run by `-m`."""
    found = set()
    nodes = nodes or [ast.parse((ROOT / path).read_text(encoding="utf-8"))]
    for node in (inner for outer in nodes for inner in ast.walk(outer)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("extracter"):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and str(node.value).startswith("extracter."):
            names = [node.value]
        else:
            continue
        files = (f"{name.replace('.', '/')}{suffix}" for name in names for suffix in (".py", "/__init__.py"))
        found |= {file for file in files if (ROOT / file).is_file()}
    return found


@pytest.mark.parametrize("rule", TABLE)
def test_the_table_of_sources_is_complete(rule):
    """Whatever a command imports lies in the folders of its rule, or changes no result."""
    listed = [f"extracter/{source}" for source in TABLE[rule]]
    assert all((ROOT / source).exists() for source in listed)
    ignored = [f"extracter/{name}" for name in SOURCES["NO_RESULT"]]
    functions = {}
    for path in sorted((ROOT / "extracter/commands").glob("*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        functions |= {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
    waiting, seen = imported("", [functions[rule]]), set()
    assert waiting
    while waiting:
        path = waiting.pop()
        seen.add(path)
        if within(path, ignored) or path.endswith("__init__.py"):
            continue
        assert within(path, listed), f"{path} is imported by {rule}, but not among its sources"
        waiting |= imported(path) - seen


def test_the_results_in_git_are_those_that_dvc_lock_names():
    if not (ROOT / "dvc.lock").exists():
        pytest.skip("no dvc.lock: no run is recorded at this revision")
    lock = yaml.safe_load((ROOT / "dvc.lock").read_text(encoding="utf-8"))
    outs = {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]}
    kept = [path for path in outs if path.startswith(("results/metrics", "results/plots/", "results/tables/"))]
    assert len(kept) == 15
    for path in kept:
        assert hashlib.md5((ROOT / path).read_bytes()).hexdigest() == outs[path], f"{path}: commit it with dvc.lock"
