"""`extracter report`: the report of a run."""

from pathlib import Path
from typing import Annotated

import typer

from extracter import params
from extracter.commands.options import Params, PresetName
from extracter.presets import Preset


def report(
    results: Annotated[Path, typer.Option(help="Results of a preset, such as results/demo.")],
    data: Annotated[Path, typer.Option(help="Folder of the prepared sets, such as data/prepared/demo.")],
    tables: Annotated[Path, typer.Option(help="Folder of the tables.")] = Path("results/tables"),
    out: Annotated[Path | None, typer.Option(help="Folder to write; by default `report` in --results.")] = None,
    file: Params = "params.yaml",
    preset: PresetName = None,
) -> None:
    """Write report.html, which opens anywhere without network, its figures as PDF and its tables as LaTeX.

    Example: `extracter report --results results/demo --data data/prepared/demo`
    """
    from extracter.commands.params import describe
    from extracter.reporting.report.report import report

    parameters = list(describe(params.load_keys(file, preset, *Preset.model_fields)))
    page = report(
        results, data, tables, out or results / "report", preset=preset or results.name, parameters=parameters
    )
    print(f"{page}, {page.stat().st_size / 1e6:.1f} MB; figures and tables are beside it")
