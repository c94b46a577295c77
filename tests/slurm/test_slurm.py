"""The whole workflow on a Slurm cluster of one node, with jobs that are preempted and killed under way."""

import contextlib
import os
import signal
import threading
from pathlib import Path

import pytest
from project import Project, make_project
from slurm import Slurm

# The threads of a local run on two cores, so that the weights are the same bit for bit.
THREADS = ["--set-threads", "prepare=1", "train_rec=1", "train_full=1"]
OFTEN = ["--slurm-init-seconds-before-status-checks", "1"]
TABLES = ["table1_metrics", "table2_parameters", "table3_kernels"]
COMPARED = [
    "results/metrics.json",
    *(f"results/tables/{name}.{suffix}" for name in TABLES for suffix in ("csv", "md")),
]
WEIGHTS = [f"results/tiny/checkpoints/{name}/model.safetensors" for name in ("ttsr", "extracter-rec", "extracter")]


class Saboteur(threading.Thread):
    """Has the first training that saved a state preempted, and kills the first evaluation that runs."""

    def __init__(self, slurm: Slurm, project: Project):
        super().__init__(daemon=True)
        self.slurm, self.project = slurm, project
        self.ended = threading.Event()
        self.family = self.preempted = self.killed = None

    def run(self) -> None:
        while not self.ended.wait(0.02):
            if self.family is None:
                self.family = self.hold_training()
            for job in self.slurm.jobs():
                self.disturb(job)

    def hold_training(self) -> str | None:
        """Stop a training that saved a state, so that it cannot end first; Slurm lets it go on when it ends it."""
        for state in (self.project.folder / "results/tiny/state").glob("*-rec.*.pt"):
            for line in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    words = line.read_bytes().split(b"\0")
                    if b"--state" in words and any(word.endswith(state.name.encode()) for word in words):
                        os.kill(int(line.parent.name), signal.SIGSTOP)
                        return state.name.partition("-rec.")[0]
        return None

    def disturb(self, job: dict[str, str]) -> None:
        if self.preempted is None and self.family and job["rule"] == f"rule_train_rec_wildcards_tiny_{self.family}":
            self.preempted = job["id"]
            self.slurm.run("sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=true")
        if self.killed is None and job["state"] == "RUNNING" and job["rule"].startswith("rule_evaluate"):
            self.killed = job["rule"]
            self.slurm.run("scancel", "--signal=KILL", "--full", job["id"])
        # Slurm lets a preempted job wait for two minutes. It may have begun since it was listed.
        if job["restarts"] != "0" and job["state"] == "PENDING":
            with contextlib.suppress(AssertionError):
                self.slurm.run("scontrol", "update", f"JobId={job['id']}", "StartTime=now")


@pytest.fixture
def environment(slurm) -> dict[str, str]:
    return {**slurm.environment, "SBATCH_ACCOUNT": "", "SBATCH_PARTITION": "batch", "SBATCH_GPU_PARTITION": "gpu"}


def test_without_a_partition_nothing_is_submitted(complete, slurm):
    """One sentence, and the committed tables stay."""
    before = complete.results()
    printed = complete.run("snakemake", "--profile", "profiles/slurm", "--forceall", fails=True, **slurm.environment)
    assert "SBATCH_ACCOUNT and SBATCH_PARTITION not set" in printed.splitlines()[-1]
    wrong = {**slurm.environment, "SBATCH_ACCOUNT": "", "SBATCH_PARTITION": "batsh"}
    printed = complete.run("snakemake", "--profile", "profiles/slurm", "--forceall", fails=True, **wrong)
    assert "this cluster has no partition `batsh`; it has batch, gpu, urgent" in printed.splitlines()[-1]
    assert complete.results() == before
    assert slurm.jobs() == []


def test_tables_are_those_of_a_local_run(finished, slurm, environment, tmp_path):
    """Byte for byte, although one job was preempted and another one killed."""
    project = make_project(tmp_path / "project", stand_in=False)
    saboteur = Saboteur(slurm, project)
    saboteur.start()
    try:
        printed = project.run("snakemake", "--profile", "profiles/slurm", *THREADS, *OFTEN, **environment)
    finally:
        saboteur.ended.set()
        saboteur.join()
    jobs = {job["id"]: job for job in slurm.jobs()}
    preempted = jobs[saboteur.preempted]
    assert (preempted["restarts"], preempted["state"]) == ("1", "COMPLETED"), "it went on under its own number"
    assert "resuming after step" in project.read(f"logs/tiny/train_rec/{saboteur.family}.log")
    attempts = [job for job in jobs.values() if job["rule"] == saboteur.killed]
    assert [(job["state"], job["memory"]) for job in attempts] == [("CANCELLED", "8G"), ("COMPLETED", "16G")]
    for path in COMPARED:
        assert project.read(path) == finished.read(path), path
    for path in WEIGHTS:
        assert (project.folder / path).read_bytes() == (finished.folder / path).read_bytes(), path
    assert project.planned() == {}
    assert "DVC holds this run" in printed
