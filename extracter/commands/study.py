"""`extracter study-references` and `ablate`: the effect of references and of the parts of the method."""

from pathlib import Path
from typing import Annotated

import typer

from extracter import params
from extracter.commands.options import Device, Model, Params, PresetName


def study_references(
    images: Annotated[Path, typer.Argument(help="Prepared test set, such as data/prepared/open/views.")],
    model: Model = None,
    out: Annotated[
        Path, typer.Option(help="CSV to write; tables and figures get the same name with other suffixes.")
    ] = Path("references.csv"),
    variant: Annotated[str, typer.Option(help="Name of the network in tables.")] = "released",
    file: Params = "params.yaml",
    preset: PresetName = None,
    device: Device = "auto",
) -> None:
    """Measure the effect of references. Sets with levels (views, CUFED5): the gain of each level over no reference.

    Other sets: PSNR with the input's bicubic, another image, the warped original, and the original as reference.

    Example: `extracter study-references data/prepared/open/views --out views.csv`
    """
    from extracter.data.datasets import levels_of
    from extracter.device import choose_device, configure_torch
    from extracter.evaluation.levels import measure_levels
    from extracter.models.locate import open_model
    from extracter.reporting.table_references import figure_references, table_references
    from extracter.studies.reference_study import study_references

    if not levels_of(images):
        seed = params.load_keys(file, preset, "seed").seed
        study_references(model, images, out, seed=seed, device=device)
        return
    target = choose_device(device)
    configure_torch(0)
    summary = out.with_suffix(".json")
    measure_levels(open_model(model).to(target), images, out, summary, variant=variant, device=target)
    table_references([summary], out.with_name(f"{out.stem}_table.csv"))
    figure_references(out, out.with_suffix(".png"))


def ablate(
    pairs: Annotated[Path, typer.Option(help="Prepared training pairs, such as data/prepared/demo/train.")],
    work: Annotated[Path, typer.Option(help="Folder for the trainings; finished ones are not repeated.")],
    out: Annotated[Path, typer.Option(help="CSV to write; a table gets the same name with .md.")],
    steps: Annotated[int, typer.Option(min=1, help="Number of steps of each training.")] = 400,
    equal_time: Annotated[
        bool, typer.Option("--equal-time", help="Train each ablation for the time of the preset's --steps.")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, counting up from the preset's.")] = 3,
    other_pairs: Annotated[
        Path | None,
        typer.Option(
            help="Training pairs of another mixture with the same validation pairs: one more ablation, else as the "
            "preset."
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help='Train the preset and this ablation alone, such as "without gate"; repeatable.'),
    ] = None,
    file: Params = "params.yaml",
    preset: PresetName = None,
    device: Device = "auto",
) -> None:
    """Train with one part of the method changed at a time: u, GDE, gate, depth, kernel, ... Resumes if interrupted.

    Example: `extracter ablate --pairs data/prepared/demo/train --work ablations --out ablations.csv`
    """
    from extracter.studies.ablations import ablate

    blocks = params.load_keys(file, preset, "seed", "model", "search", "loss", "train")
    ablate(
        pairs, work, out, list(range(blocks.seed, blocks.seed + seeds)), steps, blocks.model, blocks.search,
        blocks.loss, blocks.train, equal_time=equal_time, other_pairs=other_pairs, only=only, device=device,
    )  # fmt: skip
