"""`extracter data status` and `verify`: which data sets are complete."""

from pathlib import Path
from typing import Annotated

import typer

from extracter import params
from extracter.commands.options import Params, PresetName


def status(
    file: Params = "params.yaml",
    preset: PresetName = None,
    root: Annotated[Path, typer.Option("--data", help="Folder with raw/ and prepared/.")] = Path("data"),
) -> None:
    """Show which sets are complete, incomplete, missing or corrupt, judged by file sizes.

    Example: `extracter data status --preset open`
    """
    _report(file, preset, root, rehash=False)


def verify(
    file: Params = "params.yaml",
    preset: PresetName = None,
    root: Annotated[Path, typer.Option("--data", help="Folder with raw/ and prepared/.")] = Path("data"),
) -> None:
    """Compare the SHA-256 of every file with the manifests.

    Example: `extracter data verify --preset open`
    """
    _report(file, preset, root, rehash=True)


def _report(file: str, preset: str | None, root: Path, *, rehash: bool) -> None:
    from extracter.download.status import report

    read = params.select(Path(file), preset)
    report(read.selected.data, read.preset, root, rehash=rehash)
