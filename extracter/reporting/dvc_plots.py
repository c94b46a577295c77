"""What `dvc plots` draws: plain CSV at fixed paths, a column for each curve, so that two revisions can be compared."""

import csv
from collections.abc import Iterable
from pathlib import Path

from extracter.errors import UserError
from extracter.files import write_csv
from extracter.reporting.tables import read_kernels

Cells = dict[object, dict[str, object]]


def collect_plots(logs: list[Path], images: list[Path], kernels: list[Path], out: Path) -> None:
    """Gather training curves, PSNR of every image, and kernel size against PSNR.

    Args:
        logs: train_log.csv of checkpoints, in folders named after the variant; they become training.csv, validation
            PSNR in dB by step.
        images: CSV of `extracter evaluate`, VARIANT/SET.csv; they become images.csv, PSNR on Y in dB by image.
        kernels: of `extracter kernel-sweep`; they become kernel_psnr.csv, in dB.
        out: folder of the three files.

    Raises:
        UserError: a file is missing or is something else.
    """
    training: Cells = {}
    for path in logs:
        for row in _rows(path, "step", "validation_psnr"):
            training.setdefault(int(row["step"]), {})[path.parent.name] = row["validation_psnr"]
    _write(out / "training.csv", "step", dict(sorted(training.items())), [path.parent.name for path in logs])

    measured: Cells = {}
    for path in images:
        for row in _rows(path, "image", "psnr_y"):
            measured.setdefault(f"{path.stem}/{Path(row['image']).stem}", {})[path.parent.name] = row["psnr_y"]
    _write(out / "images.csv", "image", measured)

    swept: Cells = {}
    for result in read_kernels(kernels):
        value = result["psnr_y"] if result["fits"] else ""
        swept.setdefault(f"{result['set']} {result['kernel']}x{result['kernel']}", {})[result["method"]] = value
    _write(out / "kernel_psnr.csv", "kernel", swept)


def _rows(path: Path, *columns: str) -> Iterable[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = set(columns) - set(reader.fieldnames or [])
            if missing:
                raise UserError(
                    f"{path}: has no column `{min(missing)}`; delete it and run `snakemake --cores all` again"
                )
            return list(reader)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run `snakemake --cores all` to make it") from None


def _write(path: Path, index: str, cells: Cells, first: Iterable[str] = ()) -> None:
    """Write a row for each key of `cells`, the curves `first` before others; empty where a curve has no value."""
    curves = list(dict.fromkeys([*first, *(name for row in cells.values() for name in row)]))
    rows = [{index: key, **{name: row.get(name, "") for name in curves}} for key, row in cells.items()]
    write_csv(path, rows, [index, *curves])
