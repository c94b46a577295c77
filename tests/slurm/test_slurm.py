"""The whole workflow on a Slurm cluster of one node, with jobs that are preempted and killed under way."""

import threading

import pytest
from project import Project, make_project

# The threads of a local run on two cores, so that the weights are the same bit for bit.
THREADS = ["--set-threads", "prepare=1", "train_rec=1", "train_full=1"]
OFTEN = ["--slurm-init-seconds-before-status-checks", "1"]
URGENT = ["--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 1"]
COMPARED = [
    "results/metrics.json",
    "results/tables/table1_metrics.csv",
    "results/tables/table1_metrics.md",
    "results/tables/table2_parameters.csv",
    "results/tables/table2_parameters.md",
]
WEIGHTS = [f"results/tiny/checkpoints/{name}/model.safetensors" for name in ("ttsr", "extracter-rec", "extracter")]


class Saboteur(threading.Thread):
    """Preempts the first training whose state was saved, and kills the first evaluation that runs."""

    def __init__(self, slurm, project: Project):
        super().__init__(daemon=True)
        self.slurm, self.project = slurm, project
        self.ended = threading.Event()
        self.preempted = self.killed = None

    def run(self) -> None:
        state = self.project.folder / "results/tiny/state"
        while not self.ended.wait(0.1):
            running = self.slurm.jobs("--states=running")
            for job in running:
                if self.preempted is None and "train_rec" in job["rule"] and any(state.glob("*.pt")):
                    self.preempted = job["id"]
                    self.slurm.run("sbatch", *URGENT)
                if self.killed is None and "evaluate" in job["rule"]:
                    self.killed = job
                    self.slurm.run("scancel", "--signal=KILL", "--full", job["id"])


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
    assert jobs[saboteur.preempted]["restarts"] == "1", "preempted, and resumed under its number"
    assert jobs[saboteur.preempted]["state"] == "COMPLETED"
    again = [job for job in jobs.values() if job["rule"] == saboteur.killed["rule"]]
    assert [job["state"] for job in again] == ["FAILED", "COMPLETED"]
    assert [job["memory"] for job in again] == ["8G", "16G"]
    for path in COMPARED:
        assert project.read(path) == finished.read(path), path
    for path in WEIGHTS:
        assert (project.folder / path).read_bytes() == (finished.folder / path).read_bytes(), path
    assert project.planned() == {}
    assert "DVC holds this run" in printed
