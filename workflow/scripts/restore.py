"""Bring back what dvc.lock says, and leave Snakemake and DVC with nothing to do: `make restore`.

With --stage, inside DVC's last stage, only Snakemake's records are brought up to date.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

SHOWN = 5


def refuse_while_locked() -> None:
    """End where Snakemake's lock stands: it could not be told at the end that the files are up to date."""
    if any(Path(".snakemake/locks").glob("*")):
        sys.exit(
            "restore: this folder is locked by Snakemake, which runs here or was killed; wait for its end, or lift the "
            "lock with `.venv/bin/snakemake --unlock`, then run `make restore` again"
        )


def dvc(*arguments: str) -> str:
    """Run DVC and return what it printed; end with a sentence if it fails, its own message above."""
    done = subprocess.run(["dvc", *arguments], check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"restore: `dvc {' '.join(arguments)}` failed (its message stands above); nothing else was touched")
    return done.stdout


def bring_back() -> None:
    """Take from the remote, or from the cache where there is none, what dvc.lock names."""
    if not Path("dvc.lock").exists():
        sys.exit(
            "restore: there is no dvc.lock, so nothing was recorded at this revision; make the results with "
            "`snakemake --cores all`, or go to a revision that has one"
        )
    if dvc("remote", "list").strip():
        dvc("pull")
    elif subprocess.run(["dvc", "checkout"], check=False).returncode:
        sys.exit(
            "restore: `dvc checkout` failed (its message stands above), and nothing else was touched; for files that "
            "this clone's cache does not have, set a remote with `dvc remote add --default shared PATH`, or make the "
            "results with `snakemake --cores all`; files here that are recorded nowhere, delete or record first"
        )


def describe(status: dict) -> str:
    """The first differences that `dvc status --json` found, as text: stage, then what changed."""
    problems = []
    for stage, changes in status.items():
        for change in changes:
            if isinstance(change, str):
                problems.append(f"{stage}: {change}")
            else:
                for kind, paths in change.items():
                    problems += [f"{stage}: {kind} {path} ({_flatten(how)})" for path, how in paths.items()]
    return "; ".join(problems[:SHOWN] + [f"and {len(problems) - SHOWN} more"] * (len(problems) > SHOWN))


def _flatten(how: str | dict) -> str:
    return how if isinstance(how, str) else ", ".join(f"{key} {value}" for key, value in how.items())


def main() -> None:
    """Restore, check, and make Snakemake know the files; refuse where they do not match dvc.lock."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", action="store_true", help="inside DVC's stage `record`: check the others")
    options = parser.parse_args()

    others = []
    if options.stage:
        written = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
        names = [f"{name}@{item}" for name, stage in written.items() for item in stage.get("foreach", [])]
        names += [name for name, stage in written.items() if "foreach" not in stage]
        others = [name for name in names if name != os.environ["DVC_STAGE"]]
    else:
        refuse_while_locked()
        bring_back()
    problems = describe(json.loads(dvc("status", "--json", *others)))
    if problems and options.stage:
        print(f"restore: Snakemake's records are left alone, since other stages are not up to date ({problems})")
        return
    if problems:
        sys.exit(
            f"restore: the workspace is not what dvc.lock holds ({problems}); undo these changes, or make what belongs "
            "to them with `dvc repro` or `snakemake --cores all`"
        )

    preset = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))["preset"]
    stamp = Path("results", preset, "recorded")
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)  # it may be a link into DVC's cache
    stamp.write_text("complete\n", encoding="utf-8")
    touch = ["snakemake", "--cores", "1", "--touch", "--forceall", "--keep-incomplete"]
    environment = {**os.environ, "DVC_STAGE": os.environ.get("DVC_STAGE", "restore")}
    done = subprocess.run(touch, check=False, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(
            f"{done.stdout}{done.stderr}restore: Snakemake could not be told that the files are up to date; see above"
        )
    shutil.rmtree(Path("results", preset, "state"), ignore_errors=True)  # of complete trainings
    print("restore: data, checkpoints and results are those of dvc.lock")


if __name__ == "__main__":
    main()
