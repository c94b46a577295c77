"""The data of `dvc plots`: CSV at fixed paths with a column for each curve, which DVC compares across revisions."""

from collections.abc import Iterable
from pathlib import Path

from extracter.files import read_csv, write_csv
from extracter.reporting.tables import read_kernels, read_levels

Cells = dict[object, dict[str, object]]


def collect_plots(logs: list[Path], images: list[Path], kernels: list[Path], levels: list[Path], out: Path) -> None:
    """Gather training curves, the PSNR of each image, PSNR by kernel size, and the gain by references.

    Args:
        logs: train_log.csv of checkpoints, in folders named after the variant, for training.csv (validation PSNR in dB
            by step).
        images: CSV files VARIANT/SET.csv that `extracter evaluate` wrote, for images.csv (PSNR on Y in dB by image).
        kernels: JSON files that `extracter kernel-sweep` wrote, for kernel_psnr.csv (PSNR on Y in dB).
        levels: JSON files that `extracter evaluate-levels` wrote, for references.csv (mean gain over no reference in
            dB by level; without reference, over bicubic).
        out: folder for the four files.

    Raises:
        UserError: a file is missing or of another kind.
    """
    training: Cells = {}
    for path in logs:
        log = read_csv(path, numbers=["step"], text=["validation_psnr"]).fillna("")
        for step, psnr in zip(log["step"], log["validation_psnr"], strict=True):
            training.setdefault(step, {})[path.parent.name] = psnr
    _write(out / "training.csv", "step", dict(sorted(training.items())), [path.parent.name for path in logs])

    measured: Cells = {}
    for path in images:
        table = read_csv(path, text=["image", "psnr_y"])
        for image, psnr in zip(table["image"], table["psnr_y"], strict=True):
            measured.setdefault(f"{path.stem}/{Path(image).stem}", {})[path.parent.name] = psnr
    _write(out / "images.csv", "image", measured)

    swept: Cells = {}
    for result in read_kernels(kernels):
        value = result["psnr_y"] if result["fits"] else ""
        swept.setdefault(f"{result['set']} {result['kernel']}x{result['kernel']}", {})[result["method"]] = value
    _write(out / "kernel_psnr.csv", "kernel", swept)

    gains: Cells = {}
    for content in read_levels(levels):
        for level, figures in content["levels"].items():
            gains.setdefault(f"{content['set']} {level}", {})[content["variant"]] = figures["gain"]
    _write(out / "references.csv", "references", gains)


def _write(path: Path, index: str, cells: Cells, first: Iterable[str] = ()) -> None:
    """Write a row for each key of `cells`, with the curves `first` first. A cell without a value is empty."""
    curves = list(dict.fromkeys([*first, *(name for row in cells.values() for name in row)]))
    rows = [{index: key, **{name: row.get(name, "") for name in curves}} for key, row in cells.items()]
    write_csv(path, rows, [index, *curves])
