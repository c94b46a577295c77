"""One training step of several families, by one process or two: `python one_step.py OUT PAIRS PRESET FAMILY ...`.

Run so, two processes share the batch; the first writes their gradients and losses to OUT.
"""

import sys
from pathlib import Path

import torch
from lightning_fabric import Fabric

from extracter import params
from extracter.data.datasets import TrainingPairs
from extracter.models.checkpoint import build_model
from extracter.presets import Preset
from extracter.training import distributed
from extracter.training.objective import losses_of
from extracter.training.step import Learner


def measure(fabric: Fabric, pairs_folder: Path, preset: Preset, family: str) -> dict:
    """Losses of a step with all losses, and the gradients of network and critic by name."""
    pairs = TrainingPairs(pairs_folder)
    torch.manual_seed(0)
    network = build_model(family, preset.model, preset.search)
    network.initialise("random", 3)
    terms = losses_of(family, "full", preset.loss)
    learner = Learner(fabric, network, preset.model, terms, preset.train, steps=9, seed=3, size=pairs.size)
    part = distributed.part_of(preset.train.batch)
    measured = learner.step(4, pairs.batch(4, preset.train, 3, part=part))
    losses = {name: distributed.mean_of_figures(value).item() for name, value in measured.items()}
    modules = {"network": network, "critic": learner.critic}
    named = ((f"{name}.{key}", value) for name, module in modules.items() for key, value in module.named_parameters())
    return {"losses": losses, "gradients": {name: value.grad for name, value in named if value.grad is not None}}


def main() -> None:
    out, pairs, file, *families = sys.argv[1:]
    preset = params.read(file).selected
    fabric = distributed.launch(torch.device("cpu"), 2, 1, preset.train.precision)
    measured = {family: measure(fabric, Path(pairs), preset, family) for family in families}
    if distributed.leads():
        torch.save(measured, out)


if __name__ == "__main__":
    main()
