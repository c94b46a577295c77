"""Common parts of the tables: read results, write and print Markdown; and metrics.json."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from extracter.errors import UserError
from extracter.families import FAMILIES
from extracter.files import read_json, write_json, write_text
from extracter.reporting.published import SETS

# Variants and their names in tables.
METHODS = {
    "bicubic": "Bicubic",
    **{
        variant: family.title + ("-rec" if variant.endswith("-rec") else "")
        for name, family in FAMILIES.items()
        for variant in (name, f"{name}-rec")
    },
    "released": "Extracter-rec, released",
}
MISSING = "not available"
NOT_REPORTED = "–"


def collect_metrics(summaries: list[Path], kernels: list[Path], levels: list[Path], out: Path) -> None:
    """Gather PSNR, SSIM and gains into one file of nested numbers, without times and memory.

    Args:
        summaries: JSON files that `extracter evaluate` wrote. They become `SET.VARIANT`, with `_` for `-`.
        kernels: JSON files that `extracter kernel-sweep` wrote. They become `kernels.SET.METHOD.kernel_K`; `fits` is 1
            or 0.
        levels: JSON files that `extracter evaluate-levels` wrote. They become `references.SET.VARIANT.LEVEL`: mean
            gain over no reference in dB, images that lose more than 0.05 dB, and worst gain; of `none` over bicubic.
        out: JSON to write. Equal figures give an equal file.
    """
    metrics: dict[str, Any] = {}
    for summary in read_summaries(summaries).values():
        of_set = metrics.setdefault(summary["set"], {})
        of_set[summary["variant"].replace("-", "_")] = _scores(summary)
    for result in read_kernels(kernels):
        cell = {"fits": int(result["fits"]), **(_scores(result) if result["fits"] else {})}
        of_method = metrics.setdefault("kernels", {}).setdefault(result["set"], {}).setdefault(result["method"], {})
        of_method[f"kernel_{result['kernel']}"] = cell
    for content in read_levels(levels):
        of_set = metrics.setdefault("references", {}).setdefault(content["set"], {})
        of_set[content["variant"].replace("-", "_")] = {
            level: {key: figures[key] for key in ("gain", "harmed", "worst") if key in figures}
            for level, figures in content["levels"].items()
        }
    write_json(out, metrics)


def _scores(result: dict) -> dict[str, float]:
    return {"psnr": round(result["psnr_y"], 4), "ssim": round(result["ssim_y"], 6)}


def read_summaries(paths: Iterable[Path]) -> dict[tuple[str, str], dict]:
    """Read summaries of `extracter evaluate`.

    Returns:
        Summaries by variant and set, in the order of `METHODS` and `SETS`.

    Raises:
        UserError: a file is missing or of another kind, or two are of the same variant and set.
    """
    keys = ("variant", "set", "stand_in", "images", "references", "psnr_y", "ssim_y")
    found: dict[tuple[str, str], dict] = {}
    for path in paths:
        summary = _read(path, keys, "evaluate")
        key = (summary["variant"], summary["set"])
        if key in found:
            raise UserError(f"{path}: {key[0]} on {key[1]} was given twice; name each summary once")
        for other in found.values():
            if other["set"] == key[1] and any(other[part] != summary[part] for part in ("stand_in", "images")):
                raise UserError(f"{path}: not of the same images of {key[1]} as the others; name summaries of one run")
        found[key] = summary
    variants, sets = list(METHODS), list(SETS)
    order = sorted(found, key=lambda key: (sort_key(key[0], variants), sort_key(key[1], sets)))
    return {key: found[key] for key in order}


def read_kernels(paths: Iterable[Path], timings: Path | None = None) -> list[dict]:
    """Read results of the kernel sweep, in the order of set, kernel and method.

    Args:
        paths: JSON files that `extracter kernel-sweep --out` wrote.
        timings: folder of the JSON files that `extracter kernel-sweep --timings` wrote, named like the results. Their
            `seconds` and `peak_memory_mib` are added; None if there are none.

    Raises:
        UserError: a file is missing or of another kind, or two are of the same set, kernel and method.
    """
    keys = ("set", "stand_in", "kernel", "method", "fits", "psnr_y", "ssim_y")
    found: dict[tuple, dict] = {}
    for path in paths:
        result = _read(path, (*keys, "memory_budget_gib"), "kernel-sweep")
        method = sort_key(result["method"], ["dense", "chunked", "blocks"])
        key = (sort_key(result["set"], list(SETS)), result["kernel"], method)
        if key in found:
            raise UserError(f"{path}: this set, kernel and method were given twice; name each result once")
        if timings is not None:
            measured = timings / path.name
            costs = read_json(measured) if measured.exists() else {}
            result |= {name: costs.get(name) for name in ("seconds", "peak_memory_mib")}
        found[key] = result
    return [found[key] for key in sorted(found)]


def read_levels(paths: Iterable[Path]) -> list[dict]:
    """Read what references of each level are worth to each variant.

    Returns:
        Summaries of `extracter evaluate-levels`, by set and variant; `levels` begin with `none`, the figures over
        bicubic.

    Raises:
        UserError: a file is missing or of another kind, or two are of the same variant and set.
    """
    found: dict[tuple, dict] = {}
    for path in paths:
        content = _read(path, ("variant", "set", "stand_in", "over_bicubic", "levels"), "evaluate-levels")
        key = (sort_key(content["set"], list(SETS)), sort_key(content["variant"], list(METHODS)))
        if key in found:
            raise UserError(f"{path}: this variant and set were given twice; name each summary once")
        found[key] = {**content, "levels": {"none": content["over_bicubic"], **content["levels"]}}
    return [found[key] for key in sorted(found)]


def _read(path: Path, keys: tuple[str, ...], command: str) -> dict:
    content = read_json(path)
    missing = [key for key in keys if key not in content] if isinstance(content, dict) else list(keys)
    if missing:
        raise UserError(
            f"{path}: `{missing[0]}` is missing, so `extracter {command}` did not write it; delete it and run "
            "`snakemake --cores all` again"
        )
    return content


def sort_key(name: str, known: list[str]) -> tuple[int, str]:
    """Return a sort key: known names in the given order, then the rest alphabetically."""
    return (known.index(name) if name in known else len(known), name)


def title(name: str) -> str:
    """Return the name of a set in print."""
    return SETS[name][0] if name in SETS else name


def print_scores(psnr: float | None, ssim: float | None) -> list[str]:
    """Format PSNR and SSIM as the paper does; empty if there are none."""
    return [] if psnr is None or ssim is None else [f"{psnr:.2f}", f"{ssim:.3f}"]


def write_markdown(out: Path, title: str, caption: str, heads: list[str], rows: list[list[str]]) -> None:
    """Write a Markdown table with aligned columns; its path is `out` with the suffix .md."""
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    table = [line(heads), line(["-" * width for width in widths]), *map(line, rows)]
    write_text(out.with_suffix(".md"), "\n".join([f"# {title}", "", caption, "", *table]) + "\n")


def show(tables: list[Path]) -> None:
    """Print tables, rendered on a terminal and as plain text elsewhere, and the paths of their files.

    Raises:
        UserError: a table is missing.
    """
    console = Console(soft_wrap=not Console().is_terminal)
    for path in tables:
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; run `snakemake --cores all` to make it") from None
        except (OSError, UnicodeDecodeError):
            raise UserError(f"{path}: not a text file; name a table such as results/tables/table1_metrics.md") from None
        console.print(Markdown(text) if console.is_terminal else text, markup=False, highlight=False)
    console.print("Files of these tables, as Markdown and CSV:", markup=False, highlight=False)
    for path in tables:
        console.print(f"  {path}  {path.with_suffix('.csv')}", markup=False, highlight=False)
