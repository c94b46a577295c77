"""A temporary copy of the project, with a preset of seconds, driven by the real snakemake and dvc."""

import json
import os
import re
import shutil
import signal
import subprocess
import sysconfig
import time
from collections import Counter
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
COPIED = ["Snakefile", "params.yaml", "dvc.yaml", "profiles", "workflow", "extracter", ".dvc/config"]
COPIED += [".dvc/.gitignore", ".dvc/plots", ".dvcignore", ".gitignore", "requirements.lock"]

# One test set of one small photograph and one without a source, networks of a few weights, trainings of a few steps.
TINY = {
    "data": {"train": {"size": 32, "pairs": 8, "validation": 2}},
    "model": {
        "features": 8,
        "dfe_width": 8,
        "ife_blocks": 1,
        "csfi_blocks": [1, 1, 1],
        "gde_blocks": [1, 1, 1],
        "ttsr_blocks": [1, 1, 1, 1],
        "srntt_blocks": 2,
        "ssen_blocks": [1, 1],
        "c2_blocks": 1,
        "masa_blocks": [1, 1, 1, 1, 1],
    },
    "train": {"batch": 2, "lr": 1.0e-3, "rec_steps": 12, "full_steps": 2, "validate_every": 6, "checkpoint_every": 2},
    "evaluation": {"every": 4, "kernels": [6], "kernel_sets": ["set14"], "level_sets": []},
}

# What a complete run of the preset `tiny` runs after a change of the training's parameters, by subcommand.
RETRAINED = {"train-rec": 2, "train-full": 2, "evaluate": 4, "kernel-sweep": 3, "map-origins": 2}
TABLES = ["collect-metrics", "collect-plots", "table-metrics", "table-parameters", "table-kernels"]
REPORTED = dict.fromkeys([*TABLES, "figure-comparison", "figure-training", "figure-kernels"], 1)

LR = "presets.tiny.train.lr"
CHECKPOINT = "results/tiny/checkpoints/extracter/model.safetensors"

# An ordinary user may not write what is read-only; root without capabilities may not either.
ORDINARY = (
    ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 and shutil.which("setpriv") else []
)


class Project:
    """A working copy at `folder` and the commands a user gives in it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.ran_log = folder.parent / f"{folder.name}.ran"
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(("DVC", "SNAKEMAKE"))}
        for role in ("AUTHOR", "COMMITTER"):
            self.environment |= {f"GIT_{role}_NAME": "Tester", f"GIT_{role}_EMAIL": "tester@example.org"}
        path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
        self.environment |= {"PATH": path, "RAN": str(self.ran_log)}

    def run(self, *command: str, fails: bool = False, **environment: str) -> str:
        """Run a command, assert how it ends, and return all it printed."""
        done = subprocess.run(
            [*ORDINARY, *command],
            cwd=self.folder,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1200,
        )
        assert (done.returncode != 0) == fails, f"{command} ended with {done.returncode}:\n{done.stdout[-6000:]}"
        return done.stdout

    def snakemake(self, *arguments: str, **options) -> str:
        return self.run("snakemake", "--cores", "all", *arguments, **options)

    def dvc(self, *arguments: str, **options) -> str:
        return self.run("dvc", *arguments, **options)

    def restore(self, **options) -> str:
        return self.run("python", "workflow/scripts/restore.py", **options)

    def make_stages(self) -> None:
        """What `make stages` does."""
        self.run("python", "workflow/scripts/stages.py")

    def commit(self, message: str) -> None:
        """Commit all that git does not ignore."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def set(self, key: str, value) -> None:
        """Edit one parameter of the preset in use, by its dotted path."""
        content = yaml.safe_load(self.read("params.yaml"))
        *parents, last = key.split(".")
        block = content["presets"][content["preset"]]
        for parent in parents:
            block = block[parent]
        assert last in block
        block[last] = value
        self.write("params.yaml", yaml.safe_dump(content, sort_keys=False))

    def kill(self, condition, *command: str) -> None:
        """Start a command, and kill it and all its children when `condition` holds."""
        process = subprocess.Popen(
            [*ORDINARY, *command],
            cwd=self.folder,
            env=self.environment | {"PAUSE": "2"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            wait_for(lambda: condition() or process.poll() is not None)
            assert process.poll() is None, f"{command} ended before it could be killed"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def copy(self, folder: Path) -> "Project":
        """The same working copy elsewhere, with all that git ignores."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

    def clone(self, name: str) -> "Project":
        """A fresh clone of the committed state, beside this one."""
        folder = self.folder.parent / name
        self.run("git", "clone", "--quiet", str(self.folder), str(folder))
        return Project(folder)

    def read(self, path: str) -> str:
        return (self.folder / path).read_text(encoding="utf-8")

    def write(self, path: str, text: str) -> None:
        (self.folder / path).write_text(text, encoding="utf-8")

    def results(self) -> list[str]:
        """What a run comes to: its metrics, a checkpoint, a table."""
        return [self.read(path) for path in ("results/metrics.json", CHECKPOINT, "results/tables/table1_metrics.md")]

    def ran(self) -> Counter:
        """How often each subcommand ran since this was last asked; counted by the stand-in."""
        lines = self.ran_log.read_text().splitlines() if self.ran_log.exists() else []
        self.ran_log.unlink(missing_ok=True)
        return Counter(line.split()[0] for line in lines)

    def planned(self, *arguments: str) -> Counter:
        """Jobs of each rule that a dry run announces, without `all`."""
        text = self.snakemake("--dry-run", *arguments)
        if "Nothing to be done" in text:
            return Counter()
        table = re.search(r"job +count\n[- ]+\n(.*?)\ntotal ", text, re.DOTALL)[1]
        return Counter({name: int(count) for name, count in map(str.split, table.splitlines()) if name != "all"})

    def jobs(self) -> list[dict]:
        """Rule, inputs, outputs and names of the parameters of every job, from a dry run of everything."""
        found = []
        text = self.snakemake("--dry-run", "--forceall", "--printshellcmds")
        for block in re.split(r"\n(?:local)?rule ", text)[1:]:
            job = {"rule": block.split(":")[0], "input": [], "output": [], "blocks": []}
            for kind in ("input", "output"):
                listed = re.search(rf"\n    {kind}: (.*)", block)
                job[kind] = listed[1].split(", ") if listed else []
            blocks = re.search(r"--params '(\{.*?\})'(?: |$)", block)
            job["blocks"] = sorted(json.loads(blocks[1])) if blocks else []
            if job["rule"] != "all":
                found.append(job)
        return found

    def assert_settled(self) -> None:
        """Both tools have nothing to do."""
        assert self.planned() == {}
        assert "up to date" in self.dvc("status")


def wait_for(condition, seconds: float = 120) -> None:
    """Return as soon as `condition` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def make_project(folder: Path, stand_in: bool) -> Project:
    """Copy the project, give it the preset `tiny`, and commit it."""
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    tiny = content["presets"]["demo"]
    for name, block in TINY.items():
        for key, value in block.items():
            tiny[name][key] = {**tiny[name][key], **value} if isinstance(value, dict) else value
    tiny["systems"] = ["ttsr", "extracter"]
    tiny["data"]["tests"] = {
        "sun80": {"source": "none", "folder": None, "references": "own"},
        "set14": {"source": "demo", "folder": None, "references": "self"},
    }
    content |= {"preset": "tiny", "presets": {"tiny": tiny, **content["presets"]}}
    content["presets"]["demo"] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["presets"]["demo"]
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    if stand_in:
        cli = (folder / "extracter/cli.py").read_text(encoding="utf-8")
        body = Path(__file__).with_name("stand_in.py").read_text(encoding="utf-8")
        (folder / "extracter/cli.py").write_text(f"{body}\n\n{cli}", encoding="utf-8")
    project = Project(folder)
    project.make_stages()
    project.run("git", "init", "--quiet")
    project.commit("start")
    return project
