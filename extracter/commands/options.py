"""Options that several commands share."""

from enum import StrEnum
from typing import Annotated

import typer

Search = StrEnum("Search", ["auto", "exact", "fast"])

Params = Annotated[
    str, typer.Option("--params", help="Parameter file, or JSON as the workflow passes it.", show_default=True)
]
PresetName = Annotated[
    str | None, typer.Option("--preset", help="Preset in the parameter file; by default the one that it selects.")
]
Device = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps; auto uses a GPU if there is one.")
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model", help="Checkpoint folder, a file in it, or a Hugging Face hub id; by default the released model."
    ),
]
