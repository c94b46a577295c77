"""The report: what it holds, that its numbers are those of the CSV files, and that it needs nothing else."""

import csv
import re
import shutil
import subprocess

import numpy as np
import pytest
from finished_run import PARAMETERS, write_run

from extracter.errors import UserError
from extracter.files import write_csv
from extracter.reporting.examples import choose_examples
from extracter.reporting.report import read_tables
from extracter.reporting.report.draw_origins import choose_lines
from extracter.reporting.report.latex import escape, write_latex
from extracter.reporting.report.pictures import fit_into, window
from extracter.reporting.report.report import report
from extracter.reporting.squares import gain_crop

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"), ("set14",))


@pytest.fixture(scope="module")
def page(run):
    return report(**run, out=run["results"] / "report", preset="demo", parameters=PARAMETERS)


def test_the_page_needs_nothing_else(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert not re.search(r"url\((?!#)|@import", text)
    assert "default-src 'none'" in text
    assert page.stat().st_size < 25e6


def test_ids_are_unique_and_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    targets = re.findall(r'(?:href="#|url\(#)([\w.-]+)', text)
    assert targets
    assert set(targets) <= set(ids)


def test_every_chart_is_there_for_print_and_says_its_figures(page):
    text = page.read_text(encoding="utf-8")
    names = re.findall(r'<figure class="chart" id="figure-([\w-]+)"', text)
    assert {"gains", "images", "modules", "kernels", "levels", "training", "times"} == set(names)
    pictures = ["details-set14", "origins-set14-extracter-rec"]
    for name in [*names, *pictures]:
        for width in (84, 174):
            pdf = (page.parent / "figures" / f"{name}-{width}mm.pdf").read_bytes()
            box = [float(number) for number in re.search(rb"/MediaBox \[ (.*?) \]", pdf)[1].split()]
            expected = 100 if (name, width) == ("images", 174) else width
            assert box[2] == pytest.approx(expected * 72 / 25.4, abs=0.5)
    for label in re.findall(r'role="img" aria-label="([^"]+)"', text):
        assert NUMBER.search(label), label
    for alt in re.findall(r'<img src="data:[^"]+" alt="([^"]*)"', text):
        assert alt


def test_the_same_run_gives_the_same_figures(run, page, tmp_path):
    again = report(**run, out=tmp_path, preset="demo", parameters=PARAMETERS)
    assert again.read_bytes() == page.read_bytes()
    for path in (page.parent / "figures").iterdir():
        assert (tmp_path / "figures" / path.name).read_bytes() == path.read_bytes()


def test_table_1_marks_what_the_markdown_table_marks(run):
    table = read_tables.read_metrics(run["tables"] / "table1_metrics.csv")
    lines = (run["tables"] / "table1_metrics.md").read_text().splitlines()
    body = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][2:]
    assert len(body) == len(table.rows)
    for cells, row in zip(body, table.rows, strict=True):
        marked = [" / ".join(f"**{t}**" if b else t for t, b in c.parts) or c.text for c in row.cells]
        assert [cell.strip() for cell in cells[2:]] == marked[2:-1]


READERS = {
    "table1_metrics": read_tables.read_metrics,
    "table2_parameters": read_tables.read_plain,
    "table2_modules": read_tables.read_plain,
    "table3_kernels": read_tables.read_kernels,
    "table4_references": read_tables.read_plain,
}


@pytest.mark.parametrize("name", READERS)
def test_numbers_in_latex_are_those_of_the_csv(run, page, name):
    """Each number of a row is one of the same row of the CSV file, rounded; and none of a measured column is lost."""
    folder = run["results"] / "measured" if name == "table3_kernels" else run["tables"]
    with (folder / f"{name}.csv").open(newline="") as file:
        records = list(csv.DictReader(file))
    latex = (page.parent / "tables" / f"{name}.tex").read_text()
    assert latex == write_latex(READERS[name](folder / f"{name}.csv"))
    rows = [line.strip() for line in latex.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()]
    assert len(rows) == len(records)
    for row, record in zip(rows, records, strict=True):
        assert row.endswith(r"\\")
        cells = [re.sub(r"\\text(?:bf|it)\{([^}]*)\}", r"\1", cell).strip() for cell in row[:-2].split(" & ")]
        printed = [n for cell in cells[1:] for n in NUMBER.findall(cell.replace(",", "")) if "x" not in cell]
        known = [float(n) for value in record.values() for n in NUMBER.findall(value or "")]
        for number in printed:
            digits = len(number.partition(".")[2])
            assert any(abs(float(number) - value) <= 0.5001 * 10**-digits for value in known), (number, record)
        scored = [value for key, value in record.items() if key.endswith(("psnr_y", "ssim_y", "gain")) and value]
        assert len(printed) >= len(scored)


def test_latex_escapes_what_it_would_read_as_commands():
    assert escape(r"a_b 5% {x} #1 & $ ~ ^ \ – <") == (
        r"a\_b 5\% \{x\} \#1 \& \$ \textasciitilde{} \textasciicircum{} \textbackslash{} -- $<$"
    )


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here: `pdflatex` is not installed")
def test_latex_compiles(page, tmp_path):
    tables = sorted((page.parent / "tables").glob("*.tex"))
    assert len(tables) == len(READERS)
    inputs = "\n".join(f"\\input{{{path.stem}}}" for path in tables)
    head = "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}"
    (tmp_path / "all.tex").write_text(f"{head}\n{inputs}\n\\end{{document}}\n")
    for path in tables:
        shutil.copy(path, tmp_path)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in (tmp_path / "all.log").read_text(errors="replace")


def figures(path, **psnr):
    write_csv(path, [{"image": name, "psnr_y": value} for name, value in psnr.items()], ["image", "psnr_y"])
    return path


@pytest.mark.parametrize(
    ("gains", "chosen"),
    [
        ({"a": 1, "b": -1, "c": 0.5, "d": 0.1}, {"largest gain": "a", "median gain": "d", "largest loss": "b"}),
        ({"a": 1, "b": 2, "c": 3}, {"largest gain": "c", "median gain": "b", "smallest gain": "a"}),
        ({"a": 1, "b": 2}, {"largest gain": "b", "median gain": "a"}),
        ({"a": 1}, {"largest gain": "a"}),
    ],
)
def test_examples_are_chosen_by_their_gains(tmp_path, gains, chosen):
    before = figures(tmp_path / "bicubic.csv", **dict.fromkeys(gains, 20))
    after = figures(tmp_path / "after.csv", **{name: 20 + gain for name, gain in gains.items()})
    assert choose_examples(before, after) == chosen


def test_details_lie_where_the_error_falls_most_and_least():
    hr = np.zeros((200, 400, 3), np.uint8)
    before, after = np.full_like(hr, 40), np.full_like(hr, 40)
    after[0:96, 0:96] = 0
    after[100:196, 300:396] = 90
    assert gain_crop(hr, before, after, "largest gain") == (0, 0, 96)
    assert gain_crop(hr, before, after, "largest loss") == (100, 300, 96)
    top, left, _ = gain_crop(hr, before, after, "median gain")
    cut = np.s_[top : top + 96, left : left + 96]
    gain = (before[cut].astype(float) ** 2 - after[cut].astype(float) ** 2).sum()
    assert abs(gain) < 0.5 * 96 * 96 * 40**2 * 3


def test_lines_lead_from_a_patch_to_its_key():
    scores = np.zeros((8, 12))
    scores[3, 5] = 1
    indices = np.arange(96).reshape(8, 12)
    lines = choose_lines(indices, scores, (8, 12), 8)
    assert len(lines) == 24
    assert ((5.5 * 8, 3.5 * 8), (5.5 * 8, 3.5 * 8)) in lines


def test_windows_lie_in_the_image():
    assert window(100, 80, (0, 79), 40) == (slice(0, 40), slice(40, 80))
    assert window(30, 80, (10, 40), 40) == (slice(0, 30), slice(20, 60))


def test_pictures_are_made_smaller_until_they_fit():
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    sides = []

    def make(side):
        sides.append(side)
        yield "a", noise[:side, :side]

    found = fit_into(10_000, (256, 128, 64, 32), make)
    assert sides == [256, 64], "a side that cannot do is not tried"
    assert len(found["a"]) <= 10_000


def test_a_table_of_another_run_is_left_out(run, page, tmp_path):
    without = [*PARAMETERS, ("evaluation.level_sets", "[]", "")]
    other = report(**run, out=tmp_path, preset="demo", parameters=without).read_text(encoding="utf-8")
    assert 'id="levels"' in page.read_text(encoding="utf-8")
    assert 'id="levels"' not in other


def test_what_is_missing_is_said_in_one_sentence(run, tmp_path):
    with pytest.raises(UserError, match=r"table1_metrics\.csv: no such file; `snakemake --cores all` makes it"):
        report(run["results"], run["data"], tmp_path, tmp_path, preset="demo", parameters=PARAMETERS)
    with pytest.raises(UserError, match="no evaluation of the sets"):
        report(tmp_path, run["data"], run["tables"], tmp_path, preset="demo", parameters=PARAMETERS)
