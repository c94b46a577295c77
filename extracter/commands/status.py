"""`extracter data status` and `verify`: what of the data is there, and whether it is whole."""

from pathlib import Path
from typing import Annotated

import typer

from extracter import params
from extracter.commands.options import Params, PresetName


def status(
    file: Params = "params.yaml",
    preset: PresetName = None,
    root: Annotated[Path, typer.Option("--data", help="Folder that holds raw/ and prepared/.")] = Path("data"),
) -> None:
    """Show which sets are there, partial, missing or corrupt, by their files' sizes.

    Example: `extracter data status --preset open`
    """
    from extracter.download.status import report

    report(*_data_of(file, preset), root, rehash=False)


def verify(
    file: Params = "params.yaml",
    preset: PresetName = None,
    root: Annotated[Path, typer.Option("--data", help="Folder that holds raw/ and prepared/.")] = Path("data"),
) -> None:
    """Read every file again and hold its SHA-256 against the manifests.

    Example: `extracter data verify --preset open`
    """
    from extracter.download.status import report

    report(*_data_of(file, preset), root, rehash=True)


def _data_of(file: str, preset: str | None) -> tuple[params.Data, str]:
    """The data block of a preset, and the preset's name."""
    read = params.select(Path(file), preset)
    return read.selected.data, read.preset
