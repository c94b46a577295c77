"""`extracter study-references` and `ablate`: the effect of references and of the parts of the method."""

from pathlib import Path
from typing import Annotated

import typer

from extracter import params
from extracter.commands.options import Device, Model, Params, PresetName


def study_references(
    images: Annotated[Path, typer.Argument(help="Prepared test set, such as data/prepared/demo/set14.")],
    model: Model = None,
    out: Annotated[
        Path, typer.Option(help="CSV to write; a table and a figure get the same name with .md and .png.")
    ] = Path("references.csv"),
    file: Params = "params.yaml",
    preset: PresetName = None,
    device: Device = "auto",
) -> None:
    """Measure the effect of references: PSNR with the bicubic, another image, the warped original, the original.

    Example: `extracter study-references data/prepared/demo/set14`
    """
    from extracter.studies.reference_study import study_references

    (seed,) = params.load_blocks(file, preset, "seed")
    study_references(model, images, out, seed=seed, device=device)


def ablate(
    pairs: Annotated[Path, typer.Option(help="Prepared training pairs, such as data/prepared/demo/train.")],
    work: Annotated[Path, typer.Option(help="Folder for the trainings; finished ones are not repeated.")],
    out: Annotated[Path, typer.Option(help="CSV to write; a table gets the same name with .md.")],
    steps: Annotated[int, typer.Option(min=1, help="Number of steps of each training.")] = 400,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, counting up from the preset's.")] = 3,
    file: Params = "params.yaml",
    preset: PresetName = None,
    device: Device = "auto",
) -> None:
    """Train with one part of the method changed at a time: u, GDE, search strategy, kernel. Resumes if interrupted.

    Example: `extracter ablate --pairs data/prepared/demo/train --work ablations --out ablations.csv`
    """
    from extracter.studies.ablations import ablate

    first, *blocks = params.load_blocks(file, preset, "seed", "model", "search", "loss", "train")
    ablate(pairs, work, out, list(range(first, first + seeds)), steps, *blocks, device=device)
