"""Options that several subcommands share."""

from typing import Annotated

import typer

Params = Annotated[
    str, typer.Option("--params", help="Parameter file, or the JSON that the workflow passes.", show_default=True)
]
PresetName = Annotated[
    str | None, typer.Option("--preset", help="Preset of the parameter file; by default the one it selects.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda; auto takes a GPU where there is one.")]
Model = Annotated[
    str | None,
    typer.Option(
        "--model", help="Checkpoint folder, a file in it, or a Hugging Face hub id; by default the released model."
    ),
]
