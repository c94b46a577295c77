"""What was run: preset, data, revision, hardware and versions, as a reader must know them to trust a table."""

import os
import platform
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from extracter.files import read_json
from extracter.reporting.published import SETS
from extracter.reporting.report.table import Row, Table, number_cell, plain_table, text_cell
from extracter.reporting.tables import METHODS, sort_key, title

_PACKAGES = ("extracter", "torch", "numpy", "scikit-image", "pillow", "snakemake", "dvc")


def describe_run(preset: str, parameters: Iterable[tuple[str, str, str]]) -> list[tuple[str, str]]:
    """What holds for the whole run: a name and a value each.

    Args:
        preset: its name.
        parameters: key, value and meaning of each parameter.
    """
    values = {key: value for key, value, _ in parameters}
    return [
        ("Preset", preset),
        ("Seed", values.get("seed", "–")),
        ("Revision", find_revision()),
        ("This machine", describe_machine()),
        ("Software", ", ".join(_versions())),
    ]


def find_revision() -> str:
    """The commit of this folder, and whether files were changed since; in words where it is no git repository."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    if not commit:
        return "not in a git repository"
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return f"{commit}, with changes that are not committed" if changed else commit


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def describe_machine() -> str:
    """Processor, number of cores and system."""
    model = platform.processor() or platform.machine()
    with suppress(OSError):  # another system than Linux
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    return f"{model}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def _versions() -> list[str]:
    found = []
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return found


def data_table(folder: Path, references: dict[str, str]) -> Table:
    """The sets of a run: where they come from, how many images they have, and which references.

    Args:
        folder: of the prepared sets.
        references: what each test set was evaluated with.

    Raises:
        UserError: a manifest is damaged.
    """
    rows = []
    known = ["train", *SETS]
    for path in sorted(folder.glob("*/manifest.json"), key=lambda path: sort_key(path.parent.name, known)):
        content = read_json(path)
        if content["source"] == "none":  # a set that the preset leaves out
            continue
        name = content["set"]
        images = sum(entry["path"].startswith("lr/") for entry in content["files"])
        source = f"{content['source']}{' (stand-in)' if content['stand_in'] else ''}"
        cells = [text_cell(title(name)), text_cell(source), number_cell(images or None, absent="pairs")]
        rows.append([*cells, text_cell(references.get(name, "–"))])
    return plain_table("data", "Data", "", ["Set", "Source", "Images", "References"], rows)


def training_table(folder: Path) -> Table:
    """The networks of a run: what they were trained on and where.

    Args:
        folder: of the checkpoints.
    """
    rows = []
    for variant in METHODS:
        path = folder / variant / "training.json"
        if path.is_file():
            content = read_json(path)
            threads = content.get("threads", "–")
            device = f"{content.get('device', '–')}, {threads} thread{'s'[: threads != 1]}"
            cells = [
                number_cell(content.get("best_step")),
                number_cell(content.get("validation_psnr"), "{:.2f}"),
                text_cell(device),
                text_cell(content.get("torch", "–")),
            ]
            rows.append([text_cell(METHODS[variant]), *cells])
    heads = ["Network", "Best step", "Validation PSNR (dB)", "Trained on", "PyTorch"]
    return plain_table("networks", "Trained networks", "", heads, rows)


def parameters_table(parameters: Iterable[tuple[str, str, str]]) -> Table:
    """Every parameter of the preset."""
    rows = tuple(Row(tuple(map(text_cell, row))) for row in parameters if row[1])
    return Table("parameters", "Parameters", "", ("Key", "Value", "Meaning"), rows)
