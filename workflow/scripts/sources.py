"""What each rule's command runs: folders and single files of extracter/, for Snakemake's rules and for DVC's stages.

An edit anywhere in them makes the rule run again; so does another requirements.lock. What no result depends on stands
in `NO_RESULT`: commands pass values on, and those values are compared as parameters. A test holds this table against
what the commands import.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = "requirements.lock"
NO_RESULT = (
    "__init__.py",
    "cli.py",
    "commands",
    "errors.py",
    "params.py",
    "presets.py",
    "progress.py",
    "projection.py",
)

_DATA = ("files.py", "data", "photos")
_NETWORK = (
    *_DATA,
    "cgroup.py",
    "device.py",
    "families.py",
    "image_tensors.py",
    "memory.py",
    "metrics.py",
    "models",
    "search",
)
_TRAINING = (*_NETWORK, "training")
_EVALUATION = (*_NETWORK, "evaluation")
_REPORT = ("families.py", "files.py", "reporting")
SOURCES = {
    # Of data/ only what a download needs: DVC fetches all images again when one of these files changes.
    "download": (
        "files.py",
        *(
            f"data/{name}.py"
            for name in ("degradation", "images", "manifest", "pairs", "parallel", "references", "views")
        ),
        "download",
        "photos",
    ),
    "prepare": _DATA,
    "train_match": _TRAINING,
    "train_rec": _TRAINING,
    "train_full": _TRAINING,
    "evaluate": _EVALUATION,
    "evaluate_levels": _EVALUATION,
    "kernel_sweep": (*_EVALUATION, "confined.py"),
    "collect_metrics": _REPORT,
    "collect_plots": _REPORT,
    "table_metrics": _REPORT,
    "table_parameters": (*_NETWORK, "reporting"),
    "table_kernels": _REPORT,
    "table_references": _REPORT,
    "figure_comparison": (*_REPORT, *_DATA, "image_tensors.py", "metrics.py"),
    "figure_training": _REPORT,
    "figure_kernels": _REPORT,
    "map_origins": (*_NETWORK, "reporting/examples.py", "reporting/find_origins.py"),
    "report": (*_REPORT, *_DATA, "image_tensors.py", "metrics.py", "search"),
}


def list_sources(rules: Iterable[str]) -> list[str]:
    """Folders and files that some rules run, relative to the project's folder, sorted."""
    return sorted({f"extracter/{source}" for rule in rules for source in SOURCES[rule]} | {LOCK})


def digest(rules: Iterable[str]) -> str:
    """One short digest of the names and contents of all files that some rules run."""
    content = hashlib.sha256()
    for source in list_sources(rules):
        path = ROOT / source
        files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
        for file in (file for file in files if "__pycache__" not in file.parts):
            data = file.read_bytes()
            content.update(f"{file.relative_to(ROOT)} {len(data)}\n".encode() + data)
    return content.hexdigest()[:16]
