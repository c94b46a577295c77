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


FamilyName = Annotated[Family, typer.Argument(help="Which network.")]
Pairs = Annotated[Path, typer.Option(help="Prepared training pairs.")]
Out = Annotated[Path, typer.Option(help="Folder for config.json, model.safetensors, train_log.csv.")]
State = Annotated[Path, typer.Option(help="File to resume from; kept until training ends.")]
# Blocks of the parameters that training depends on, in the order of `train`'s arguments.
_BLOCKS = ("seed", "model", "search", "loss", "train")


def train_rec(
    family: FamilyName,
    pairs: Pairs,
    out: Out,
    state: State,
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
    from extracter.training.train import train

    blocks = params.load_blocks(file, preset, *_BLOCKS)
    train(family.value, pairs, out, state, *blocks, phase="rec", start=start, device=device)


def train_full(
    family: FamilyName,
    pairs: Pairs,
    start: Annotated[Path, typer.Option(help="Checkpoint folder of the -rec model to continue from.")],
    out: Out,
    state: State,
    file: Params = "params.yaml",
    preset: PresetName = None,
    device: Device = "auto",
) -> None:
    """Train on with all losses of Eq. 8, from the -rec checkpoint. Killed, it resumes where it was.

    Example: `extracter train-full extracter --pairs data/prepared/demo/train --start my-model --out my-full-model
    --state my-full-model.state`
    """
    from extracter.training.train import train

    blocks = params.load_blocks(file, preset, *_BLOCKS)
    train(family.value, pairs, out, state, *blocks, phase="full", start=start, device=device)
