"""The tables of a run, read from the CSV files that the workflow wrote."""

from collections.abc import Callable
from pathlib import Path

from extracter.errors import UserError
from extracter.files import read_rows
from extracter.reporting.published import DOUBTFUL
from extracter.reporting.report.table import Cell, Row, Table, number_cell, plain_table, text_cell
from extracter.reporting.table_metrics import best_two
from extracter.reporting.table_references import HEADS as LEVELS
from extracter.reporting.tables import METHODS, MISSING, NOT_REPORTED, print_scores, title

Record = dict[str, str]
_REMEDY = "`snakemake --cores all` makes it"


def read_records(path: Path) -> list[Record]:
    """The rows of a CSV file as text.

    Raises:
        UserError: it is missing or empty.
    """
    records = read_rows(path, _REMEDY)
    if not records:
        raise UserError(f"{path}: has no rows; delete it, and {_REMEDY}")
    return records


def _column(record: Record, name: str, path: Path) -> str:
    if name not in record:
        raise UserError(f"{path}: has no column `{name}`; delete it, and {_REMEDY}")
    return record[name]


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _caption(path: Path) -> str:
    """The paragraph between heading and table of the Markdown table beside a CSV file."""
    markdown = path.with_suffix(".md")
    if not markdown.is_file():
        return ""
    lines = markdown.read_text(encoding="utf-8").splitlines()
    text = next((line for line in lines[1:] if line.strip()), "")
    return "" if text.startswith("|") else text.replace("**", "").replace("`", "")


def read_metrics(path: Path) -> Table:
    """Table 1: PSNR / SSIM of each method on each set, the best two of a column marked as `table_metrics` marks them.

    Args:
        path: CSV of `extracter table-metrics`.

    Raises:
        UserError: the file is missing or of another kind.
    """
    records = read_records(path)
    sets = [name.removesuffix("_psnr_y") for name in records[0] if name.endswith("_psnr_y")]
    rows = []
    for record in records:
        scores = {name: (_number(record[f"{name}_psnr_y"]), _number(record[f"{name}_ssim_y"])) for name in sets}
        scores = {name: pair for name, pair in scores.items() if None not in pair}
        rows.append((_column(record, "method", path), record["provenance"], record["source"], scores))
    measured = {name: _images_of(records, name) for name in sets}
    marks = {name: best_two(rows, name, apart=bool(measured[name])) for name in sets}
    body = []
    for n, (record, (method, provenance, source, scores)) in enumerate(zip(records, rows, strict=True)):
        cells = [text_cell(method), text_cell(provenance if source == "this run" else f"{provenance}, {source}")]
        for name in sets:
            if name in scores:
                psnr, ssim = print_scores(*scores[name])
                doubt = "†" if source == "paper" and (method, name) in DOUBTFUL else ""
                printed = [(text, (n, i) in marks[name]) for i, text in enumerate((psnr, ssim + doubt))]
                cells.append(Cell(" / ".join(text for text, _ in printed), scores[name][0], tuple(printed)))
            else:
                cells.append(Cell(MISSING if provenance == "measured" else NOT_REPORTED))
        cells.append(text_cell(record.get("protocol", "")))
        body.append(Row(tuple(cells), provenance))
    heads = ["Method", "Provenance", *(_head(name, measured[name]) for name in sets), "Protocol"]
    numeric = frozenset(range(2, 2 + len(sets)))
    return Table(
        path.stem, "Table 1. Metrics", _caption(path), tuple(heads), tuple(body), numeric, frozenset({len(heads) - 1})
    )


def _images_of(records: list[Record], name: str) -> str:
    """How the measured images differ from the published set; empty if they do not or nothing was measured."""
    found = {r[f"{name}_images"] for r in records if r["provenance"] == "measured"} - {MISSING, "published set"}
    return min(found, default="")


def _head(name: str, measured: str) -> str:
    return f"{title(name)} (measured: {measured})" if measured else title(name)


def _numbers(form: str) -> Callable[[str], Cell]:
    return lambda text: number_cell(_number(text), form)


def _texts(text: str) -> Cell:
    return text_cell(text) if text else Cell(NOT_REPORTED)


# Tables whose columns are printed one by one: the title, and of each column its head and how its cells are printed.
_PLAIN: dict[str, tuple[str, dict[str, tuple[str, Callable[[str], Cell]]]]] = {
    "table2_parameters": (
        "Table 2. Parameters, correlation and operations",
        {
            "method": ("Method", _texts),
            "parameters": ("Parameters (measured)", _numbers("{:,.0f}")),
            "frozen_parameters": ("Frozen beside them", _numbers("{:,.0f}")),
            "paper_parameters_m": ("Paper (M)", _numbers("{:.2f}")),
            "difference_percent": ("Difference (%)", _numbers("{:+.2f}")),
            "kernel": ("Kernel", _numbers("{:.0f}")),
            "correlation_shape": ("Correlation (measured)", _texts),
            "paper_correlation_shape": ("Correlation (paper)", _texts),
            "gflop": ("GFLOP at 160 px", _numbers("{:,.0f}")),
            "correlation_gib": ("Correlation at 1024 px (GiB)", _numbers("{:g}")),
        },
    ),
    "table2_modules": (
        "Parameters by module",
        {
            "method": ("Method", _texts),
            "module": ("Module", _texts),
            "parameters": ("Parameters", _numbers("{:,.0f}")),
            "trained": ("Trained", _texts),
        },
    ),
    "table4_references": (
        "Table 4. What a reference is worth",
        {
            "set": ("Images of", lambda text: text_cell(title(text))),
            "variant": ("Method", lambda text: text_cell(METHODS.get(text, text))),
            "references": ("References", lambda text: text_cell(LEVELS.get(text, "none, over bicubic"))),
            "images": ("Images", _numbers("{:.0f}")),
            "gain": ("Mean gain (dB)", _numbers("{:+.2f}")),
            "harmed": ("Images that lose more than 0.05 dB", _numbers("{:.0f}")),
            "worst": ("Worst gain (dB)", _numbers("{:+.2f}")),
        },
    ),
}


def read_plain(path: Path) -> Table:
    """Table 2, the weights of its modules, or Table 4, by the name of the CSV file.

    Raises:
        UserError: the file is missing or of another kind.
    """
    heading, columns = _PLAIN[path.stem]
    rows = [[cell(_column(record, name, path)) for name, (_, cell) in columns.items()] for record in read_records(path)]
    return plain_table(path.stem, heading, _caption(path), [head for head, _ in columns.values()], rows)


def read_kernels(path: Path) -> Table:
    """Table 3: PSNR / SSIM by kernel and search, and memory and seconds where the file has them.

    Raises:
        UserError: the file is missing or of another kind.
    """
    records = read_records(path)
    costs = "peak_memory_mib" in records[0]
    rows = []
    for record in records:
        psnr, ssim = _number(_column(record, "psnr_y", path)), _number(record["ssim_y"])
        kernel = record["kernel"]
        stand_in = " (stand-in)" if record["stand_in"] == "True" else ""
        cells = [text_cell(title(record["set"]) + stand_in), Cell(f"{kernel}x{kernel}", float(kernel))]
        cells.append(text_cell(record["method"]))
        cells.append(Cell("OFM") if psnr is None else Cell(" / ".join(print_scores(psnr, ssim)), psnr))
        if costs:
            cells += [
                number_cell(_number(record["peak_memory_mib"])),
                number_cell(_number(record["seconds"]), "{:.2f}"),
            ]
        rows.append([*cells, _texts(record["paper"])])
    extra = ["Peak memory (MiB)", "Seconds an image"] if costs else []
    heads = ["Set", "Kernel", "Search", "PSNR / SSIM", *extra, "Paper"]
    return plain_table("table3_kernels", "Table 3. Kernel size and search", _caption(path), heads, rows)
