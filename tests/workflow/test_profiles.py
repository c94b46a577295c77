"""The cluster profiles, and what the workflow finds out about the machine before it submits anything."""

import re
import runpy

import pytest
import yaml
from project import ROOT

CLUSTER = runpy.run_path(str(ROOT / "workflow/scripts/cluster.py"))


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Put a command on the PATH that prints a text."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def make(name: str, text: str) -> None:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\nprintf '{text}'\n")
        path.chmod(0o755)

    return make


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in ("SBATCH_ACCOUNT", "SBATCH_PARTITION", "SBATCH_GPU_PARTITION", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


def test_account_and_partition_are_asked_for(command, monkeypatch):
    find = CLUSTER["find_slurm_problem"]
    assert "SBATCH_ACCOUNT and SBATCH_PARTITION not set; write for example `export" in find()
    monkeypatch.setenv("SBATCH_ACCOUNT", "")
    assert find().startswith("profiles/slurm: SBATCH_PARTITION not set")
    monkeypatch.setenv("SBATCH_PARTITION", "batch")
    assert "`sinfo` does not answer" in find()
    command("sinfo", "batch\\nlong\\n")
    assert find() == ""
    monkeypatch.setenv("SBATCH_GPU_PARTITION", "a100")
    assert find() == "SBATCH_GPU_PARTITION: this cluster has no partition `a100`; it has batch, long"


def test_gpus_are_those_that_jobs_may_use(command, monkeypatch):
    count = CLUSTER["count_gpus"]
    assert count() == 0
    command("nvidia-smi", "GPU 0: H100\\n  MIG 1g\\nGPU 1: H100\\n")
    assert count() == 2
    for visible, expected in (("1", 1), ("", 0), ("-1", 0), ("0,3,5", 3)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert count() == expected


@pytest.mark.parametrize("name", ["slurm", "kubernetes"])
def test_profiles_name_rules_that_exist(name):
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "workflow/rules").glob("*.smk")]
    rules = set(re.findall(r"(?m)^ *rule (\w+):", "\n".join(texts)))
    profile = yaml.safe_load((ROOT / "profiles" / name / "profile.v9+.yaml").read_text(encoding="utf-8"))
    assert set(profile["set-threads"]) | set(profile.get("set-resources", {})) <= rules
    if name == "slurm":  # every rule that takes a GPU goes where there are some
        bodies = re.findall(r"(?ms)^ *rule (\w+):\n(.*?)(?=^ *rule |\Z)", "\n".join(texts))
        assert set(profile["set-resources"]) == {rule for rule, body in bodies if "gpu=get_gpus(" in body}
    # Snakemake would note an unfinished job as done with the new parameters.
    assert not profile.get("keep-incomplete")
