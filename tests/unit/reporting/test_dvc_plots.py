"""The CSV that `dvc plots` draws, held against files written by hand."""

import csv
import json

import pytest
from summaries import levels

from extracter.errors import UserError
from extracter.reporting.dvc_plots import collect_plots


def rows(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.fixture
def made(tmp_path):
    """Logs of two variants with different steps, figures of two variants, and three cells of a sweep."""
    logs = {"ttsr-rec": [(50, 27.5), (100, 28.0)], "ttsr": [(20, 28.1)]}
    for variant, steps in logs.items():
        (tmp_path / variant).mkdir()
        lines = ["step,validation_psnr", *(f"{step},{psnr}" for step, psnr in steps)]
        (tmp_path / variant / "train_log.csv").write_text("\n".join(lines) + "\n")
    for variant, psnr in {"bicubic": 25.0, "ttsr": 26.0}.items():
        folder = tmp_path / "evaluation" / variant
        folder.mkdir(parents=True)
        (folder / "set14.csv").write_text(f"image,reference,psnr_y\nhr/a.png,r,{psnr}\nhr/b.png,r,{psnr + 1}\n")
    cells = [(6, "dense", True, 26.0), (6, "blocks", True, 26.0), (3, "dense", False, None)]
    for kernel, method, fits, psnr in cells:
        result = {"set": "sun80", "stand_in": False, "kernel": kernel, "method": method, "fits": fits, "psnr_y": psnr}
        result |= {"ssim_y": psnr, "memory_budget_gib": 1.0}
        (tmp_path / f"{kernel}_{method}.json").write_text(json.dumps(result))
    return tmp_path


def collect(made):
    logs = [made / variant / "train_log.csv" for variant in ("ttsr-rec", "ttsr")]
    images = [made / "evaluation" / variant / "set14.csv" for variant in ("bicubic", "ttsr")]
    gains = [levels(made, variant, "views", {"level_1": 0.5}) for variant in ("ttsr-rec", "released")]
    collect_plots(logs, images, sorted(made.glob("*_*.json")), gains, made / "plots")


def test_a_column_for_each_curve(made):
    collect(made)
    assert rows(made / "plots/training.csv") == [
        ["step", "ttsr-rec", "ttsr"],
        ["20", "", "28.1"],
        ["50", "27.5", ""],
        ["100", "28.0", ""],
    ]
    assert rows(made / "plots/images.csv") == [
        ["image", "bicubic", "ttsr"],
        ["set14/a", "25.0", "26.0"],
        ["set14/b", "26.0", "27.0"],
    ]
    assert rows(made / "plots/kernel_psnr.csv") == [
        ["kernel", "dense", "blocks"],
        ["sun80 3x3", "", ""],
        ["sun80 6x6", "26.0", "26.0"],
    ]
    assert rows(made / "plots/references.csv") == [
        ["references", "ttsr-rec", "released"],
        ["views none", "1.0", "1.0"],
        ["views level_1", "0.5", "0.5"],
    ]


def test_another_file_is_refused(made):
    (made / "ttsr" / "train_log.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"ttsr/train_log\.csv: has no column `step`"):
        collect(made)
    (made / "ttsr" / "train_log.csv").unlink()
    with pytest.raises(UserError, match=r"ttsr/train_log\.csv: no such file"):
        collect(made)
