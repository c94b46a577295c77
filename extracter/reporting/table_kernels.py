"""Table 3: PSNR / SSIM by kernel size, measured and reported; and another table with memory and seconds."""

from pathlib import Path

from extracter.files import write_csv
from extracter.reporting.published import TABLE3
from extracter.reporting.tables import NOT_REPORTED, print_scores, read_kernels, title, write_markdown

CAPTION = (
    "Extracter-rec with other kernels at test time. Stride and padding are a third of the kernel; every kernel is "
    "scored on the same pixels. OFM (out of memory): the run did not fit into {budgets} GiB beyond the loaded network; "
    "the paper's OFM is on a GPU with 24 GB. `dense` holds the complete correlation, as in the paper; `chunked` holds "
    "a part of it at a time; `blocks` finds the same matches with a ninth of the arithmetic."
)


def table_kernels(results: list[Path], out: Path, *, timings: Path | None = None, measured: Path | None = None) -> None:
    """Write Table 3: PSNR / SSIM by kernel size and search; and another table with memory and seconds.

    Memory and seconds differ from run to run. They are in another table, so that equal results give an
    equal file in git.

    Args:
        results: JSON files that `extracter kernel-sweep --out` wrote.
        out: CSV to write; the Markdown table gets the suffix .md.
        timings: folder of the JSON files that `extracter kernel-sweep --timings` wrote.
        measured: CSV to write with memory and seconds, too. None: no second table.
    """
    _write(read_kernels(results), out, costs=False)
    if timings is not None and measured is not None:
        _write(read_kernels(results, timings), measured, costs=True)


def _write(found: list[dict], out: Path, *, costs: bool) -> None:
    records, lines = [], []
    scores = ["psnr_y", "ssim_y", *(["peak_memory_mib", "seconds"] if costs else [])]
    for result in found:
        name, kernel, method = (result[key] for key in ("set", "kernel", "method"))
        reported = _print_reported(kernel, name) if method == "dense" else ""
        record = {key: result[key] for key in ("set", "stand_in", "kernel", "method", "fits")}
        for key in (*scores, "memory_budget_gib"):
            record[key] = result[key] if result[key] is not None else ""
        records.append({**record, "paper": reported})
        cells = [f"{title(name)} (stand-in)" if result["stand_in"] else title(name), f"{kernel}x{kernel}", method]
        cells.append(" / ".join(print_scores(result["psnr_y"], result["ssim_y"])) if result["fits"] else "OFM")
        if costs:
            cells += _print_costs(result)
        lines.append([*cells, reported or NOT_REPORTED])
    budgets = " or ".join(f"{budget:g}" for budget in sorted({result["memory_budget_gib"] for result in found}))
    caption = CAPTION.format(budgets=budgets)
    stand_in = any(result["stand_in"] for result in found)
    if stand_in:
        caption += " **Measured on stand-in photographs and not comparable with the paper's figures.**"
    heads = ["Set", "Kernel", "Search", "PSNR / SSIM (stand-in)" if stand_in else "PSNR / SSIM"]
    heads += ["Peak memory (MiB)", "Seconds an image"] if costs else []
    columns = ["set", "stand_in", "kernel", "method", "fits", *scores, "memory_budget_gib", "paper"]
    write_csv(out, records, columns)
    write_markdown(out, "Table 3. Kernel size", caption, [*heads, "Paper"], lines)


def _print_costs(result: dict) -> list[str]:
    """Format memory and seconds of one cell. A run that did not fit needed more than its budget."""
    if not result["fits"]:
        return [f"> {result['memory_budget_gib'] * 1024:,.0f}", NOT_REPORTED]
    peak, seconds = result["peak_memory_mib"], result["seconds"]
    return [NOT_REPORTED if peak is None else f"{peak:,.0f}", NOT_REPORTED if seconds is None else f"{seconds:.2f}"]


def _print_reported(kernel: int, name: str) -> str:
    if (kernel, name) not in TABLE3:
        return ""
    scores = TABLE3[kernel, name]
    return "OFM" if scores is None else " / ".join(print_scores(*scores))
