"""Tell DVC that the workspace is what the parameters and sources of this revision give: rule `record`, the last one.

It has every artefact as input, so it runs only after a complete run. Where a run must not be recorded it says why.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from sources import SOURCES, digest


def main() -> None:
    """Record the workspace, or print the sentence that says why not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objection", required=True, help="why this run must not be recorded; empty if it may be")
    parser.add_argument("--version", required=True, help="digest of the sources when the workflow started")
    parser.add_argument("--stamp", type=Path, required=True, help="written to mark this run as recorded")
    parser.add_argument("artefacts", type=Path, nargs="+", help="every file and folder that this run's rules make")
    options = parser.parse_args()

    if os.environ.get("DVC_STAGE"):
        print("record: DVC runs this stage and records it by itself")
    elif options.objection:
        print(f"record: nothing is recorded in DVC, since {options.objection}")
    elif digest(SOURCES) != options.version:
        sys.exit("record: a source file was edited while the workflow ran; run `snakemake --cores all` again")
    else:
        tidy(options.stamp.parent, set(options.artefacts))
        # DVC holds the stamp too, as the output of its stage of the same name.
        options.stamp.write_text("complete\n", encoding="utf-8")
        done = subprocess.run(["dvc", "commit", "--force"], check=False, capture_output=True, text=True)
        if done.returncode:
            sys.exit(
                f"{done.stdout}{done.stderr}record: the results are complete, but `dvc commit` could not record them "
                "(its message stands above); mend that and run `snakemake --cores all` again"
            )
        print(f"record: DVC holds this run; `git add dvc.lock results` and commit to keep it{ownership()}")
    options.stamp.touch()


def ownership() -> str:
    """What to do first where git refuses the folder, since it belongs to another user; or nothing."""
    said = subprocess.run(["git", "rev-parse", "--git-dir"], check=False, capture_output=True, text=True).stderr
    return f" after `git config --global --add safe.directory {Path.cwd()}`" if "safe.directory" in said else ""


def tidy(results: Path, artefacts: set[Path]) -> None:
    """Remove what parameters of earlier runs left in the folders that DVC holds, and complete trainings' states.

    Args:
        results: the preset's folder of results.
        artefacts: what its rules make.
    """
    for folder in {path.parent for path in artefacts if path.parent.parent == results / "kernels"}:
        for path in folder.iterdir():
            if path not in artefacts:
                path.unlink()
    shutil.rmtree(results / "state", ignore_errors=True)


if __name__ == "__main__":
    main()
