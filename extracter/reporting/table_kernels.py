"""Table 3: kernel size against PSNR / SSIM, measured beside reported; and, apart from it, memory and seconds."""

from pathlib import Path

from extracter.files import write_csv
from extracter.reporting.published import TABLE3
from extracter.reporting.tables import NOT_REPORTED, print_scores, read_kernels, title, write_markdown

CAPTION = (
    "Extracter-rec at test time; stride and padding are a third of the kernel, and the same pixels are scored for "
    "every kernel. OFM: confined to {budgets} GiB beyond the loaded network, the run did not fit; the paper's OFM is "
    "of one 24 GB GPU. `dense` holds the whole correlation at once, as in the paper; `chunked` holds a part at a time; "
    "`blocks` finds the same matches at a ninth of the arithmetic."
)


def table_kernels(results: list[Path], out: Path, *, timings: Path | None = None, measured: Path | None = None) -> None:
    """Table 3: kernel size against PSNR / SSIM for each search; and the same with memory and seconds.

    Memory and seconds differ from run to run. They stand in a table of their own, so that the one in git is the same
    bytes whenever the results are the same.

    Args:
        results: of `extracter kernel-sweep --out`.
        out: CSV; the Markdown table stands beside it.
        timings: folder of what `extracter kernel-sweep --timings` wrote.
        measured: CSV with memory and seconds too, from `timings`; None: not written.
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
        caption += " **Measured on stand-in photographs, not comparable with the paper's figures.**"
    heads = ["Set", "Kernel", "Search", "PSNR / SSIM (stand-in)" if stand_in else "PSNR / SSIM"]
    heads += ["Peak memory (MiB)", "Seconds an image"] if costs else []
    columns = ["set", "stand_in", "kernel", "method", "fits", *scores, "memory_budget_gib", "paper"]
    write_csv(out, records, columns)
    write_markdown(out, "Table 3. Kernel size", caption, [*heads, "Paper"], lines)


def _print_costs(result: dict) -> list[str]:
    """Memory and seconds of one cell; a run that did not fit needed more than its budget."""
    if not result["fits"]:
        return [f"> {result['memory_budget_gib'] * 1024:,.0f}", NOT_REPORTED]
    peak, seconds = result["peak_memory_mib"], result["seconds"]
    return [NOT_REPORTED if peak is None else f"{peak:,.0f}", NOT_REPORTED if seconds is None else f"{seconds:.2f}"]


def _print_reported(kernel: int, name: str) -> str:
    if (kernel, name) not in TABLE3:
        return ""
    scores = TABLE3[kernel, name]
    return "OFM" if scores is None else " / ".join(print_scores(*scores))
