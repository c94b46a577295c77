"""A Slurm cluster of one node, of Debian's packages, in a folder of its own: no file of the system's is used."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from pathlib import Path

PACKAGES = ["munge", "slurmctld", "slurmd", "slurm-client"]
DAEMONS = ["munged", "slurmctld", "slurmd", "sbatch", "srun"]
SBIN = ["/usr/sbin", "/sbin"]

# No cgroups, which containers withhold; a node that says it is large, so that the profile's own requests fit; no
# accounting database, as on many small clusters. A job of partition `urgent` takes the node from those of `batch`.
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=100000,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MinJobAge=3600
ReturnToService=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=200000 Gres=gpu:{cpus} State=UNKNOWN
PartitionName=batch Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=gpu Nodes={host} MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes={host} MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


def find_obstacle() -> str:
    """Why no cluster can be started here, as a sentence; or nothing. In CI missing packages are installed first."""
    path = os.pathsep.join([os.environ["PATH"], *SBIN])
    missing = [name for name in DAEMONS if shutil.which(name, path=path) is None]
    if missing and os.environ.get("CI") and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *PACKAGES]
        for command in (["apt-get", "update", "--quiet"], install):
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
            if done.returncode:
                return f"`{' '.join(command)}` failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
        missing = [name for name in DAEMONS if shutil.which(name, path=path) is None]
    if missing:
        return f"no {', '.join(missing)} here; as root, `apt-get install {' '.join(PACKAGES)}` brings them"
    return ""


class Slurm:
    """The cluster; its commands find it by the environment variable SLURM_CONF.

    Args:
        folder: for its files; a short path, since a socket's may have 100 characters only.
        cpus: that the node says it has, and as many GPUs, which are empty files.
    """

    def __init__(self, folder: Path, cpus: int = 4):
        self.folder = folder
        self.environment = {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": os.pathsep.join([str(folder / "bin"), sysconfig.get_path("scripts"), os.environ["PATH"], *SBIN]),
        }
        # Jobs of Snakemake's plugin lose the variable; a cluster whose configuration stands in /etc does not need it.
        (folder / "bin").mkdir()
        srun = folder / "bin" / "srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
        srun.chmod(0o755)
        for name in ("munge", "state", "spool"):
            (folder / name).mkdir(mode=0o700, parents=True)
        key = folder / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        for number in range(cpus):
            (folder / f"gpu{number}").touch()
        (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-{cpus - 1}]\n")
        configuration = CONFIGURATION.format(
            folder=folder,
            host=socket.gethostname().split(".")[0],
            user=getpass.getuser(),
            cpus=cpus,
            controller_port=_free_port(),
            node_port=_free_port(),
        )
        (folder / "slurm.conf").write_text(configuration)

    def start(self) -> None:
        """Start the three daemons and wait until the node takes jobs."""
        munge = self.folder / "munge"
        files = [f"--{name}-file={munge / name}" for name in ("key", "pid", "log", "seed")]
        self.run("munged", "--force", f"--socket={munge / 'socket'}", *files)
        self.run("slurmctld")
        self.run("slurmd")
        end = time.monotonic() + 30
        while self.run("sinfo", "--noheader", "--format=%t", "--partition=batch").strip() != "idle":
            if time.monotonic() > end:
                logs = "".join(path.read_text()[-2000:] for path in sorted(self.folder.glob("*.log")))
                raise RuntimeError(f"the node takes no jobs:\n{logs}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Cancel all jobs and end the daemons that were started."""
        subprocess.run(["scancel", "--user", getpass.getuser()], env=os.environ | self.environment, check=False)
        for name in ("slurmd.pid", "slurmctld.pid", "munge/pid"):
            path = self.folder / name
            if path.exists():
                os.kill(int(path.read_text()), signal.SIGTERM)

    def run(self, *command: str) -> str:
        """Run a command of Slurm's and return what it prints."""
        done = subprocess.run(
            command, env=os.environ | self.environment, capture_output=True, text=True, timeout=60, cwd=self.folder
        )
        assert done.returncode == 0, f"{command} ended with {done.returncode}: {done.stderr}"
        return done.stdout

    def jobs(self, *options: str) -> list[dict[str, str]]:
        """The jobs of the queue and those that ended, each as id, state, restarts, memory and comment."""
        fields = {"id": "JobID", "state": "State", "restarts": "RestartCnt", "memory": "MinMemory", "rule": "Comment"}
        form = ",".join(f"{field}:200" for field in fields.values())
        lines = self.run("squeue", "--states=all", "--noheader", f"--Format={form}", *options).splitlines()
        rows = ([line[at : at + 200].strip() for at in range(0, 1000, 200)] for line in lines)
        return [dict(zip(fields, row, strict=True)) for row in rows]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
