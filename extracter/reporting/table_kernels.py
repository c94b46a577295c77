"""Table 3: kernel size against PSNR / SSIM, memory and seconds, measured beside reported."""

from pathlib import Path

from extracter.files import write_csv
from extracter.reporting.published import TABLE3
from extracter.reporting.tables import NOT_REPORTED, print_scores, read_kernels, title, write_markdown


def table_kernels(results: list[Path], out: Path) -> None:
    """Table 3: kernel size against PSNR / SSIM, memory and seconds, for each search.

    Args:
        results: of `extracter kernel-sweep`.
        out: CSV; the Markdown table stands beside it.
    """
    records, lines = [], []
    found = read_kernels(results)
    for result in found:
        name, kernel, method, fits = (result[key] for key in ("set", "kernel", "method", "fits"))
        reported = _print_reported(kernel, name) if method == "dense" else ""
        record = {key: result[key] for key in ("set", "stand_in", "kernel", "method", "fits")}
        for key in ("psnr_y", "ssim_y", "peak_memory_mib", "seconds", "memory_budget_gib"):
            record[key] = result[key] if result[key] is not None else ""
        records.append({**record, "paper": reported})
        cells = [f"{title(name)} (stand-in)" if result["stand_in"] else title(name), f"{kernel}x{kernel}", method]
        if fits:
            cells += [" / ".join(print_scores(result["psnr_y"], result["ssim_y"])), f"{result['peak_memory_mib']:,.0f}"]
            cells += [f"{result['seconds']:.2f}"]
        else:
            cells += ["OFM", f"> {result['memory_budget_gib'] * 1024:,.0f}", NOT_REPORTED]
        lines.append([*cells, reported or NOT_REPORTED])
    budgets = " or ".join(f"{budget:g}" for budget in sorted({result["memory_budget_gib"] for result in found}))
    caption = (
        "Extracter-rec at test time; stride and padding are a third of the kernel, and the same pixels are scored for "
        f"every kernel. OFM: confined to {budgets} GiB beyond the loaded network, the run did not fit; the paper's OFM "
        "is of one 24 GB GPU. `dense` holds the whole correlation at once, as in the "
        "paper; `chunked` holds a part of it at a time; `blocks` finds the same matches at a ninth of the arithmetic."
    )
    stand_in = any(result["stand_in"] for result in found)
    if stand_in:
        caption += " **Measured on stand-in photographs, not comparable with the paper's figures.**"
    scores = "PSNR / SSIM (stand-in)" if stand_in else "PSNR / SSIM"
    heads = ["Set", "Kernel", "Search", scores, "Peak memory (MiB)", "Seconds an image", "Paper"]
    columns = ["set", "stand_in", "kernel", "method", "fits", "psnr_y", "ssim_y", "peak_memory_mib", "seconds"]
    write_csv(out, records, [*columns, "memory_budget_gib", "paper"])
    write_markdown(out, "Table 3. Kernel size", caption, heads, lines)


def _print_reported(kernel: int, name: str) -> str:
    if (kernel, name) not in TABLE3:
        return ""
    scores = TABLE3[kernel, name]
    return "OFM" if scores is None else " / ".join(print_scores(*scores))
