"""Tables of the report: read once, printed as HTML that can be sorted and as LaTeX."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        text: what is printed.
        value: by which a column is sorted; None: below all others.
        parts: the text in pieces, each with whether it is one of the best two; the pieces are joined by " / ".
    """

    text: str
    value: float | str | None = None
    parts: tuple[tuple[str, bool], ...] = ()


@dataclass(frozen=True)
class Row:
    """A row; `kind` is `measured`, `reported` or empty where a table does not tell the two apart."""

    cells: tuple[Cell, ...]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: of its file, without suffix.
        title: its heading.
        caption: what a reader must know, plain text.
        heads: of the columns.
        rows: cells in the order of `heads`.
        numeric: indices of columns of numbers, which are set right.
        aside: indices of columns that LaTeX leaves out, for they would not fit a page.
    """

    name: str
    title: str
    caption: str
    heads: tuple[str, ...]
    rows: tuple[Row, ...]
    numeric: frozenset[int] = frozenset()
    aside: frozenset[int] = field(default_factory=frozenset)


def text_cell(text: str) -> Cell:
    """A cell that is sorted by its letters."""
    return Cell(text, text.lower())


def number_cell(value: float | None, form: str = "{:,.0f}", absent: str = "–") -> Cell:
    """A cell that is sorted by its number; NaN and None are absent."""
    if value is None or value != value:
        return Cell(absent)
    return Cell(form.format(value), value)


def plain_table(name: str, title: str, caption: str, heads: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Table:
    """A table whose columns are of numbers where any of their cells holds one."""
    numeric = {n for n in range(len(heads)) if any(isinstance(row[n].value, float | int) for row in rows)}
    return Table(name, title, caption, tuple(heads), tuple(Row(tuple(row)) for row in rows), frozenset(numeric))
