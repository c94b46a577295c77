"""Tables as LaTeX, for documents that load the package booktabs."""

import re

from extracter.reporting.report.table import Cell, Row, Table

_SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--",
    "×": r"$\times$", "†": r"\dag{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    ">": r"$>$", "<": r"$<$",
}  # fmt: skip


def escape(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return re.sub(r"[\\~^–×†&%$#_{}<>]", lambda match: _SPECIAL[match[0]], text)


def write_latex(table: Table) -> str:
    """A table environment with the best two of each column in bold and reported rows in italics.

    Returns:
        LaTeX; it needs `\\usepackage{booktabs}` and, for wide tables, graphicx.
    """
    shown = [n for n in range(len(table.heads)) if n not in table.aside]
    columns = "".join("r" if n in table.numeric else "l" for n in shown)
    lines = [
        f"% {table.name}: \\usepackage{{booktabs,graphicx}}",
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{escape(table.caption)}}}",
        f"  \\label{{tab:{table.name.replace('_', '-')}}}",
        r"  \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        f"  \\begin{{tabular}}{{{columns}}}",
        r"    \toprule",
        f"    {' & '.join(escape(table.heads[n]) for n in shown)} \\\\",
        r"    \midrule",
        *(f"    {_row(row, shown)} \\\\" for row in table.rows),
        r"    \bottomrule",
        r"  \end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _row(row: Row, shown: list[int]) -> str:
    cells = [_cell(row.cells[n]) for n in shown]
    if row.kind == "reported":
        cells[0] = f"\\textit{{{cells[0]}}}"
    return " & ".join(cells)


def _cell(cell: Cell) -> str:
    if not cell.parts:
        return escape(cell.text)
    return " / ".join(f"\\textbf{{{escape(text)}}}" if best else escape(text) for text, best in cell.parts)
