"""`extracter train-rec` and `train-full`: the two phases of training."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from extracter import params
from extracter.commands.options import Device, Params, PresetName


class Family(StrEnum):
    """The networks that are trained."""

    extracter = "extracter"
    ttsr = "ttsr"


def train_rec(
    family: Annotated[Family, typer.Argument(help="Which network.")],
    pairs: Annotated[Path, typer.Option(help="Prepared training pairs.")],
    out: Annotated[Path, typer.Option(help="Folder for config.json, model.safetensors, train_log.csv.")],
    state: Annotated[Path, typer.Option(help="File to resume from; kept until training ends.")],
    start: Annotated[
        Path | None,
        typer.Option(
            help="Checkpoint folder of a -rec model of the same size to continue from, such as the released one of "
            "preset open; by default training starts from random weights."
        ),
    ] = None,
    file: Params = "params.yaml",
    preset: PresetName = None,
    device: Device = "auto",
) -> None:
    """Train a network with the reconstruction loss alone (the -rec models). Killed, it resumes where it was.

    Example: `extracter train-rec extracter --pairs data/prepared/demo/train --out my-model --state my-model.state`
    """
    from extracter.train import train

    names = ("seed", "model", "search", "loss", "train")
    blocks = params.load_blocks(file, preset, *names)
    train(family.value, pairs, out, state, *blocks, phase="rec", start=start, device=device)


def train_full(
    family: Annotated[Family, typer.Argument(help="Which network.")],
    pairs: Annotated[Path, typer.Option(help="Prepared training pairs.")],
    start: Annotated[Path, typer.Option(help="Checkpoint folder of the -rec model to continue from.")],
    out: Annotated[Path, typer.Option(help="Folder for config.json, model.safetensors, train_log.csv.")],
    state: Annotated[Path, typer.Option(help="File to resume from; kept until training ends.")],
    file: Params = "params.yaml",
    preset: PresetName = None,
    device: Device = "auto",
) -> None:
    """Train on with all losses of Eq. 8, from the -rec checkpoint. Killed, it resumes where it was.

    Example: `extracter train-full extracter --pairs data/prepared/demo/train --start my-model --out my-full-model
    --state my-full-model.state`
    """
    from extracter.train import train

    names = ("seed", "model", "search", "loss", "train")
    blocks = params.load_blocks(file, preset, *names)
    train(family.value, pairs, out, state, *blocks, phase="full", start=start, device=device)
