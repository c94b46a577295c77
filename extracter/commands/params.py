"""`extracter params`: every key of a preset, its value and its meaning."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from extracter.commands.options import Params, PresetName
from extracter.params import select


def params(file: Params = "params.yaml", preset: PresetName = None) -> None:
    """Validate a parameter file and explain every key of a preset.

    Example: `extracter params --preset open`
    """
    checked = select(Path(file), preset)
    table = Table(title=f"{file}, preset {checked.preset}", title_justify="left", title_style="bold", box=None)
    for column in ("key", "value", "meaning"):
        table.add_column(column, overflow="fold")
    for key, value, meaning in describe(checked.selected):
        table.add_row(key, escape(value), escape(meaning), style=None if value else "bold")
    width = None if sys.stdout.isatty() else 160
    Console(width=width, highlight=False).print(table, markup=False)


def describe(block: BaseModel, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield each key below a block: its dotted path, its value as in params.yaml, its meaning.

    A nested block comes before its keys, with an empty value and the first line of its docstring as meaning.

    Args:
        block: a preset, or a block of one.
        path: path of the block, with a dot at the end; empty for a preset.
    """
    for name, field in type(block).model_fields.items():
        value: Any = getattr(block, name)
        blocks = value if isinstance(value, dict) and any(isinstance(v, BaseModel) for v in value.values()) else None
        if isinstance(value, BaseModel):
            yield f"{path}{name}", "", _summary(value)
            yield from describe(value, f"{path}{name}.")
        elif blocks is not None:
            for key, inner in blocks.items():
                yield f"{path}{name}.{key}", "", _summary(inner)
                yield from describe(inner, f"{path}{name}.{key}.")
        else:
            yield f"{path}{name}", _as_yaml(value), _meaning(field.description or "", field.annotation)


def _as_yaml(value: Any) -> str:
    """Write a value as params.yaml needs it: 1.0e-08, since YAML 1.1 reads Python's 1e-08 as text."""
    plain = value if isinstance(value, str) else json.dumps(value)
    if isinstance(value, float) and "e" in plain and "." not in plain:
        plain = plain.replace("e", ".0e")
    return plain


def _meaning(description: str, annotation: Any) -> str:
    """Append the allowed values to the description, unless it names each of them."""
    choices = get_args(annotation) if get_origin(annotation) is Literal else ()
    if all(f"{choice}:" in description for choice in choices):
        return description
    return "; ".join(filter(None, (description, f"one of {', '.join(choices)}")))


def _summary(block: BaseModel) -> str:
    return (type(block).__doc__ or "").partition("\n")[0]
