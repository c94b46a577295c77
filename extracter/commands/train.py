"""`extracter train-match`, `train-rec` and `train-full`: the phases of training."""

from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from extracter import params
from extracter.commands.options import Device, Params, PresetName
from extracter.families import FAMILIES
from extracter.files import alone
from extracter.projection import match_keys, train_keys

# The systems that are trained.
Family = StrEnum("Family", {name: name for name in FAMILIES})  # type: ignore[misc]
FamilyName = Annotated[Family, typer.Argument(help="Network to train.")]
Pairs = Annotated[Path, typer.Option(help="Prepared training pairs.")]
Out = Annotated[Path, typer.Option(help="Folder for config.json, model.safetensors, train_log.csv.")]
State = Annotated[
    Path,
    typer.Option(
        help="File of the saved state, from which an interrupted training resumes. It is kept at the end; delete it to "
        "train again from the start."
    ),
]
Timings = Annotated[Path | None, typer.Option(help="JSON to write, with the seconds of the training.")]
Every = Annotated[
    int | None,
    typer.Option(
        "--checkpoint-every",
        min=1,
        help="Steps between saved states; by default `train.checkpoint_every`.",
    ),
]


Devices = Annotated[
    int | None, typer.Option(min=1, help="GPUs, or processes on the CPU, on each machine; by default `train.devices`.")
]
Nodes = Annotated[int | None, typer.Option(min=1, help="Machines; by default `train.nodes`.")]


def _load(family: Family, phase: str, file: str, preset: str | None, **options: int | None) -> list[Any]:
    """Load the parameters that a phase depends on, in the order of `train`'s arguments; options come first."""
    given = {key: value for key, value in options.items() if value is not None}
    keys = [*train_keys(family.value, phase), *(f"train.{key}" for key in options if key not in given)]
    blocks = params.load_keys(file, preset, *keys)
    settings = blocks.train.model_copy(update=given)
    return [blocks.seed, blocks.model, blocks.search, getattr(blocks, "loss", None), settings]


def train_match(
    pairs: Pairs,
    out: Out,
    state: State,
    every: Every = None,
    timings: Timings = None,
    file: Params = "params.yaml",
    preset: PresetName = None,
    device: Device = "auto",
) -> None:
    """Train the matcher of C2-Matching, AMSA and DATSR, which comes before their -rec models. Resumes if interrupted.

    Example: `extracter train-match --pairs data/prepared/demo/train --out my-matcher --state my-matcher.state`
    """
    from extracter.training.match import train_match

    keys = [*match_keys(), *(["train.checkpoint_every"] if every is None else [])]
    blocks = params.load_keys(file, preset, *keys)
    settings = blocks.train if every is None else blocks.train.model_copy(update={"checkpoint_every": every})
    with alone(state):
        train_match(
            pairs, out, state, blocks.seed, blocks.model, blocks.match, settings, timings=timings, device=device
        )


def train_rec(
    family: FamilyName,
    pairs: Pairs,
    out: Out,
    state: State,
    start: Annotated[
        Path | None,
        typer.Option(
            help="Checkpoint folder of a -rec model of the same size to start from; by default random weights."
        ),
    ] = None,
    matcher: Annotated[
        Path | None,
        typer.Option(help="Checkpoint folder of `train-match`, which C2-Matching, AMSA and DATSR keep as it is."),
    ] = None,
    every: Every = None,
    devices: Devices = None,
    nodes: Nodes = None,
    timings: Timings = None,
    file: Params = "params.yaml",
    preset: PresetName = None,
    device: Device = "auto",
) -> None:
    """Train a network with the reconstruction loss alone (the -rec models). Resumes if interrupted.

    Example: `extracter train-rec extracter --pairs data/prepared/demo/train --out my-model --state my-model.state`
    """
    from extracter.training.distributed import leads
    from extracter.training.train import train

    blocks = _load(family, "rec", file, preset, checkpoint_every=every, devices=devices, nodes=nodes)
    with alone(state) if leads() else nullcontext():
        train(
            family.value, pairs, out, state, *blocks,
            phase="rec", start=start, matcher=matcher, timings=timings, device=device,
        )  # fmt: skip


def train_full(
    family: FamilyName,
    pairs: Pairs,
    start: Annotated[Path, typer.Option(help="Checkpoint folder of the -rec model to start from.")],
    out: Out,
    state: State,
    every: Every = None,
    devices: Devices = None,
    nodes: Nodes = None,
    timings: Timings = None,
    file: Params = "params.yaml",
    preset: PresetName = None,
    device: Device = "auto",
) -> None:
    """Train a -rec model further, with all losses (Extracter: Eq. 8). Resumes if interrupted.

    Example: `extracter train-full extracter --pairs data/prepared/demo/train --start my-model --out my-full-model
    --state my-full-model.state`
    """
    from extracter.training.distributed import leads
    from extracter.training.train import train

    blocks = _load(family, "full", file, preset, checkpoint_every=every, devices=devices, nodes=nodes)
    with alone(state) if leads() else nullcontext():
        train(family.value, pairs, out, state, *blocks, phase="full", start=start, timings=timings, device=device)
