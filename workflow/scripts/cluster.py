"""What depends on the machine and not on the experiment: the GPUs of this one, the partitions of a Slurm cluster."""

import os
import subprocess

EXAMPLE = "export SBATCH_ACCOUNT=my-project SBATCH_PARTITION=batch SBATCH_GPU_PARTITION=gpu"


def count_gpus() -> int:
    """GPUs that jobs on this machine may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    listed = _run("nvidia-smi", "--list-gpus") or ""
    return sum(line.startswith("GPU ") for line in listed.splitlines())


def without_gpus(wanted: bool = False) -> bool:
    """Whether jobs are to ask for no GPU; `wanted` says so for this process and for all jobs that it starts."""
    if wanted:
        os.environ["EXTRACTER_WITHOUT_GPUS"] = "1"
    return "EXTRACTER_WITHOUT_GPUS" in os.environ


def find_slurm_problem() -> str:
    """Why profiles/slurm cannot submit jobs, as a sentence; or nothing.

    Account and partitions are those that `sbatch` itself reads from the environment. Where SBATCH_GPU_PARTITION is not
    set, it becomes SBATCH_PARTITION.
    """
    missing = [name for name in ("SBATCH_ACCOUNT", "SBATCH_PARTITION") if name not in os.environ]
    if missing:
        return (
            f"profiles/slurm: {' and '.join(missing)} not set; write for example `{EXAMPLE}` (an empty account where "
            "the cluster has none; without the last one, GPU jobs go to SBATCH_PARTITION); `sinfo` lists the partitions"
        )
    os.environ.setdefault("SBATCH_GPU_PARTITION", os.environ["SBATCH_PARTITION"])
    listed = _run("sinfo", "--noheader", "--format=%R")
    if listed is None:
        return "profiles/slurm: `sinfo` does not answer; run this on a login node of the cluster"
    known = set(listed.split())
    for name in ("SBATCH_PARTITION", "SBATCH_GPU_PARTITION"):
        for partition in os.environ[name].split(","):
            if partition not in known:
                return f"{name}: this cluster has no partition `{partition}`; it has {', '.join(sorted(known))}"
    return ""


def _run(*command: str) -> str | None:
    """What a command prints; None where there is no such command or it fails."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return None
