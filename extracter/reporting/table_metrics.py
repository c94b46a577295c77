"""Table 1: PSNR and SSIM of each method on each test set, measured and reported."""

from pathlib import Path

from extracter.files import write_csv
from extracter.reporting.published import DOUBTFUL, ELSEWHERE, PROTOCOLS, REMARKS, SETS, TABLE1
from extracter.reporting.tables import (
    METHODS,
    MISSING,
    NOT_REPORTED,
    print_scores,
    read_summaries,
    sort_key,
    title,
    write_markdown,
)

# Sources whose figures compete for bold type.
_RANKED = ("paper", "this run")


def table_metrics(summaries: list[Path], out: Path) -> None:
    """Write Table 1: each method on each test set, with the best two of a column in bold, as in the paper.

    Measured and reported figures are ranked together if the complete published set was measured, and separately
    otherwise. Figures published elsewhere are not ranked.

    Args:
        summaries: JSON files that `extracter evaluate` wrote.
        out: CSV to write; the Markdown table gets the suffix .md.
    """
    measured = read_summaries(summaries)
    sets = sorted({*SETS, *(name for _, name in measured)}, key=lambda name: sort_key(name, list(SETS)))
    rows = [(method, "reported", "paper", scores) for method, scores in TABLE1.items()]
    rows += [(method, "reported", source, scores) for (method, source), scores in ELSEWHERE.items()]
    for variant, method in METHODS.items():
        found = {name: measured[variant, name] for name in sets if (variant, name) in measured}
        if not found and method not in TABLE1 and variant != "bicubic":
            continue  # neither of this preset nor of the paper
        scores = {name: (summary["psnr_y"], summary["ssim_y"]) for name, summary in found.items()}
        rows.append((method, "measured", "this run", scores))
    about = {name: _about(name, [item for (_, of), item in measured.items() if of == name]) for name in sets}
    bold = {name: best_two(rows, name, apart=bool(about[name])) for name in sets}

    records, lines = [], []
    for row, (method, provenance, source, scores) in enumerate(rows):
        protocol = PROTOCOLS.get(method.removesuffix("-rec"), "")
        if provenance == "measured":
            protocol = _protocol([item for (variant, _), item in measured.items() if METHODS.get(variant) == method])
        record: dict[str, object] = {"method": method, "provenance": provenance, "source": source, "protocol": protocol}
        cells = [method, provenance if source in _RANKED else f"{provenance}, {source}"]
        for name in sets:
            absent = MISSING if provenance == "measured" else NOT_REPORTED
            images = (about[name] or "published set") if provenance == "measured" else "published set"
            psnr, ssim = scores.get(name, (None, None))
            record[f"{name}_psnr_y"] = "" if psnr is None else f"{psnr:.4f}" if provenance == "measured" else psnr
            record[f"{name}_ssim_y"] = "" if ssim is None else f"{ssim:.5f}" if provenance == "measured" else ssim
            record[f"{name}_images"] = absent if psnr is None else images
            marked = [
                f"**{text}**" if (row, i) in bold[name] else text for i, text in enumerate(print_scores(psnr, ssim))
            ]
            doubt = "†" if source == "paper" and (method, name) in DOUBTFUL else ""
            cells.append(" / ".join(marked) + doubt if marked else absent)
        records.append(record)
        lines.append(cells)
    heads = ["Method", "Provenance"]
    for name in sets:
        heads.append(f"{title(name)} (measured: {about[name]})" if about[name] else title(name))
    caption = ["PSNR (dB) / SSIM on Y, x4; best two of each column in bold.", *_notes(measured, about)]
    write_csv(out, records, list(records[0]))
    write_markdown(out, "Table 1. Metrics", " ".join(caption), heads, lines)


def _about(name: str, summaries: list[dict]) -> str:
    """Say how the measured images differ from the published set, in a few words; empty if they do not."""
    if not summaries:
        return ""
    images = summaries[0]["images"]
    if summaries[0]["stand_in"]:
        return f"stand-in, {images} images"
    if name in SETS and images != SETS[name][1]:
        return f"{images} of {SETS[name][1]} images"
    return "" if name in SETS else f"{images} images"


def _protocol(summaries: list[dict]) -> str:
    """References, border and padding of a row that was measured here."""
    if not summaries:
        return ""
    several = next((summary["several"] for summary in summaries if summary.get("several")), None)
    border, padding = summaries[0].get("border", 0), summaries[0].get("padding", "none")
    parts = [
        ", ".join(f"{title(summary['set'])} {summary['references']}" for summary in summaries),
        *([f"several references: {several}"] if several else []),
        f"{border} px of the border cut" if border else "no border cut",
        *([f"padded by {padding}"] if padding != "none" else []),
    ]
    return "; ".join(parts)


def best_two(rows: list[tuple], name: str, *, apart: bool) -> set[tuple[int, int]]:
    """Find the best two values of a column, as printed. Ties share a rank.

    Args:
        rows: method, provenance, source, and scores (PSNR, SSIM) by set, of each row.
        name: of the set.
        apart: measured and reported figures are ranked separately.

    Returns:
        Row and metric (0: PSNR, 1: SSIM) of each.
    """
    pools: dict[str, list[int]] = {}
    for row, (_, provenance, source, scores) in enumerate(rows):
        if name in scores and source in _RANKED:
            pools.setdefault(provenance if apart else "together", []).append(row)
    marks = set()
    for pool in pools.values():
        for metric in (0, 1):
            printed = {row: float(print_scores(*rows[row][3][name])[metric]) for row in pool}
            second = sorted(printed.values(), reverse=True)[:2][-1]
            marks |= {(row, metric) for row in pool if printed[row] >= second}
    return marks


def _notes(measured: dict[tuple[str, str], dict], about: dict[str, str]) -> list[str]:
    """Return what a reader must know before comparing measured with reported figures."""
    notes = []
    if any("stand-in" in text for text in about.values()):
        notes.append(
            "**Measured figures are of stand-in photographs and not comparable with the paper's**; the two are ranked "
            "separately."
        )
    elif any(about.values()):
        notes.append("For sets measured in part, measured and reported figures are ranked separately.")
    kinds = {name: summary["references"] for (_, name), summary in measured.items()}
    if kinds:
        listed = ", ".join(f"{title(name)} {kind}" for name, kind in kinds.items())
        notes.append(f"References of the measured figures: {listed}.")
    borders = sorted({summary.get("border", 0) for summary in measured.values()} - {0})
    if borders:
        notes.append(f"Some are measured without {', '.join(map(str, borders))} pixels at each edge: see `protocol`.")
    if any(summary.get("vgg_weights") == "random" for summary in measured.values()):
        notes.append("The measured networks started from random weights instead of VGG19's.")
    if any(summary.get("bicubic_skip") for summary in measured.values()):
        notes.append("They add their output to the bicubic enlargement, which the paper's do not.")
    notes.append("Reported figures of another source than the paper are not ranked.")
    notes.extend(REMARKS)
    return notes
