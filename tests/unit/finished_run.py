"""A small finished run: prepared sets, results of five variants and tables, as the workflow leaves them."""

import json
from pathlib import Path

import numpy as np
from evaluation_setup import write_checkpoint, write_test_set
from PIL import Image
from summaries import kernel, summary

from extracter.data.datasets import TestSet
from extracter.files import write_csv, write_text
from extracter.metrics import psnr_y, ssim_y
from extracter.reporting.find_origins import map_origins
from extracter.reporting.table_kernels import table_kernels
from extracter.reporting.table_metrics import table_metrics
from extracter.reporting.table_parameters import list_modules
from extracter.reporting.table_references import table_references

SIZES = ((64, 48), (120, 128), (52, 72), (100, 104))
# How far each variant goes from bicubic to the original, for the images of a set; the second image loses.
SHARES = {
    "bicubic": (0, 0, 0, 0),
    "ttsr-rec": (0.1, 0.0, 0.2, 0.1),
    "extracter": (0.2, -0.1, 0.1, 0.3),
    "extracter-rec": (0.3, -0.2, 0.2, 0.5),
    "released": (0.5, 0.1, 0.4, 0.6),
}
PARAMETERS = [("seed", "2310", "of everything"), ("train.lr", "5.0e-4", "learning rate")]


def write_run(folder: Path, sets: tuple[str, ...] = ("sun80", "set14")) -> dict[str, Path]:
    """Write the run; returns what `report` takes: results, data and tables."""
    results, data, tables = (folder / name for name in ("results", "data", "tables"))
    for name in sets:
        write_test_set(data / name, sizes=SIZES, name=name)
        _evaluate(results, data / name, name)
    summaries = sorted((results / "evaluation").glob("*/*.json"))
    table_metrics(summaries, tables / "table1_metrics.csv")
    _write_parameters(tables)
    kernels = [
        kernel(results / "kernels", sets[0], side, method, fits=(side, method) != (3, "dense"))
        for side in (3, 6)
        for method in ("dense", "chunked", "blocks")
    ]
    timings = {"timings": results / "kernels" / "timings", "measured": results / "measured" / "table3_kernels.csv"}
    table_kernels(kernels, tables / "table3_kernels.csv", **timings)
    _write_references(results, tables)
    for variant in list(SHARES)[1:4]:
        rows = "".join(f"{step},0.1,0.1,,,,,{25 + step / 100}\n" for step in (40, 80, 120))
        head = "step,loss,rec,perc,grad,adv,critic,validation_psnr\n"
        write_text(results / "checkpoints" / variant / "train_log.csv", head + rows)
    write_text(results / "checkpoints" / "matcher" / "train_log.csv", "step,teacher,student\n20,1.5,\n40,,0.5\n")
    for rule, seconds in (("evaluate", (1.5, 2.5)), ("train_rec", (400.0,))):
        for n, s in enumerate(seconds):
            write_text(results / "benchmarks" / rule / f"{n}.tsv", f"s\th:m:s\tmax_rss\n{s}\t0:00:01\t512.5\n")
    checkpoint = write_checkpoint(results / "checkpoints" / "extracter-rec")
    for name in sets:
        figures = [results / "evaluation" / variant / f"{name}.csv" for variant in ("bicubic", "extracter-rec")]
        out = results / "origins" / "extracter-rec" / f"{name}.json"
        map_origins(data / name, checkpoint, *figures, out, device="cpu")
    return {"results": results, "data": data, "tables": tables}


def _evaluate(results: Path, images: Path, name: str) -> None:
    test_set = TestSet(images)
    for variant, shares in SHARES.items():
        rows = []
        for share, inputs in zip(shares, test_set, strict=True):
            up = np.asarray(Image.open(images / "lr_up" / f"{inputs.name}.png"), np.float64)
            sr = np.clip(up + share * (inputs.hr_pixels - up), 0, 255).round().astype(np.uint8)
            path = results / "images" / variant / name / f"{inputs.name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(sr).save(path)
            psnr, ssim = psnr_y(inputs.hr_pixels, sr), ssim_y(inputs.hr_pixels, sr)
            rows.append({"image": inputs.name, "reference": inputs.reference, "psnr_y": psnr, "ssim_y": ssim})
        write_csv(results / "evaluation" / variant / f"{name}.csv", rows, list(rows[0]))
        means = [float(np.mean([row[key] for row in rows])) for key in ("psnr_y", "ssim_y")]
        summary(results / "evaluation", variant, name, *means, images=len(rows), references="random")


def _write_parameters(tables: Path) -> None:
    """Table 2 without its forward passes."""
    modules = [record for name in ("ttsr", "extracter") for record in list_modules(name)]
    write_csv(tables / "table2_modules.csv", modules, list(modules[0]))
    row = {"method": "Extracter", "parameters": 9315203, "frozen_parameters": 0, "paper_parameters_m": 9.31}
    row |= {"difference_percent": "0.056", "kernel": 6, "correlation_shape": "400x400", "gflop": "178"}
    row |= {"paper_correlation_shape": "800x800", "correlation_gib": "1"}
    write_csv(tables / "table2_parameters.csv", [row], list(row))


def _write_references(results: Path, tables: Path) -> None:
    levels = {
        level: {"images": 4, "gain": gain, "harmed": 1, "worst": -0.1}
        for level, gain in (("level_1", 0.65), ("level_2", 0.26), ("level_5", 0.01))
    }
    content = {"variant": "released", "set": "views", "stand_in": False, "levels": levels}
    content["over_bicubic"] = {"images": 4, "gain": 1.35, "worst": 0.2}
    path = results / "references.json"
    path.write_text(json.dumps(content))
    table_references([path], tables / "table4_references.csv")
