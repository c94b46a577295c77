"""dvc.yaml against the rules: the two descriptions of the workflow cannot drift apart."""

import hashlib
import json
import re
import runpy

import pytest
import yaml
from project import ROOT


def jobs(project):
    """Rule, inputs, outputs and parameter names of every job, from a dry run of everything."""
    found = []
    for block in re.split(r"\n(?:local)?rule ", project.snakemake("--dry-run", "--forceall", "--printshellcmds"))[1:]:
        job = {"rule": block.split(":")[0], "input": [], "output": [], "blocks": []}
        for kind in ("input", "output"):
            listed = re.search(rf"\n    {kind}: (.*)", block)
            job[kind] = listed[1].split(", ") if listed else []
        blocks = re.search(r"--params '(\{.*?\})'(?: |$)", block)
        job["blocks"] = sorted(json.loads(blocks[1])) if blocks else []
        if job["rule"] != "all":
            found.append(job)
    return found


def stages(project):
    """DVC's stages with everything that interpolation gives, by name."""
    from dvc.repo import Repo

    with Repo(str(project.folder)) as repo:
        return {
            stage.name: {
                "rules": re.search(r"--allowed-rules ([a-z_\s]+) --", stage.cmd),
                "deps": sorted(dep.def_path for dep in stage.deps if not hasattr(dep, "params")),
                "params": sorted({name for dep in stage.deps if hasattr(dep, "params") for name in dep.params}),
                "outs": sorted(out.def_path for out in stage.outs),
            }
            for stage in repo.index.stages
        }


def within(path, folders):
    """The one of `folders` that `path` is or lies in."""
    return next((folder for folder in folders if path == folder or path.startswith(f"{folder}/")), None)


@pytest.mark.parametrize("preset", ["tiny", "demo", "paper"])
def test_every_stage_is_its_rules(project, preset):
    content = yaml.safe_load(project.read("params.yaml"))
    project.write("params.yaml", yaml.safe_dump({**content, "preset": preset}, sort_keys=False))
    project.make_stages()
    all_jobs, all_stages = jobs(project), stages(project)
    owed = {path for job in all_jobs for path in job["output"]}
    outs = [out for stage in all_stages.values() for out in stage["outs"]]
    assert all(within(path, outs) for path in owed), "an output of a rule is in no stage"
    for name, stage in all_stages.items():
        rules = set(stage["rules"][1].split()) if stage["rules"] else {"record"}
        mine = [job for job in all_jobs if any(within(path, stage["outs"]) for path in job["output"])]
        assert {job["rule"] for job in mine} <= rules, name
        assert rules - {job["rule"] for job in mine} <= {
            "absent",
            "evaluated",
            "swept",
            "tabulated",
            "drawn",
            name.split("@")[0],
        }
        made = {within(path, stage["outs"]) for job in mine for path in job["output"]}
        assert made == set(stage["outs"]), f"{name}: an out that no rule makes"
        read = {path for job in mine for path in job["input"]} - {path for job in mine for path in job["output"]}
        missing = {path for path in read if not within(path, stage["deps"])}
        assert not missing, f"{name}: not among the deps: {sorted(missing)}"
        sources = {path for path in stage["deps"] if path.startswith("extracter/")} - {"extracter/download/checksums"}
        if any(job["rule"] != "absent" for job in mine):
            assert sources == {path for path in read if path.startswith("extracter/")}, f"{name}: run `make stages`"
        blocks = {f"presets.{preset}.{block}" for job in mine for block in job["blocks"]}
        extra = (
            {f"presets.{preset}.evaluation.{key}" for key in ("kernels", "kernel_sets")} if name == "kernels" else set()
        )
        if name != "record" and any(job["rule"] != "absent" for job in mine):
            assert set(stage["params"]) - {"preset"} == blocks | extra, name


def test_dvc_yaml_is_up_to_date():
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    write = runpy.run_path(str(ROOT / "workflow/scripts/sources.py"))["write_stages"]
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert write(text, params) == text, "run `make stages`"


def test_the_results_in_git_are_those_that_dvc_lock_names():
    if not (ROOT / "dvc.lock").exists():
        pytest.skip("no dvc.lock: no run is recorded at this revision")
    lock = yaml.safe_load((ROOT / "dvc.lock").read_text(encoding="utf-8"))
    outs = {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]}
    kept = [path for path in outs if path.startswith(("results/metrics", "results/plots/", "results/tables/"))]
    assert len(kept) == 11
    for path in kept:
        assert hashlib.md5((ROOT / path).read_bytes()).hexdigest() == outs[path], f"{path}: commit it with dvc.lock"
