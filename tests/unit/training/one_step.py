"""One training step, alone or as one of several processes: `python one_step.py FOLDER PAIRS FAMILY PRESET PROCESSES`.

Process 0 writes the gradients and losses to FOLDER/FAMILY-PROCESSES.pt.
"""

import sys
from pathlib import Path

import torch

from extracter import params
from extracter.data.datasets import TrainingPairs
from extracter.models.checkpoint import build_model
from extracter.training import distributed
from extracter.training.objective import losses_of
from extracter.training.step import Learner


def main() -> None:
    folder, pairs_folder, family, file, processes = sys.argv[1:]
    preset = params.read(file).selected
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    fabric = distributed.launch(torch.device("cpu"), int(processes), 1, preset.train.precision)
    pairs = TrainingPairs(Path(pairs_folder))
    network = build_model(family, preset.model, preset.search)
    network.initialise("random", 3)
    terms = losses_of(family, "full", preset.loss)
    learner = Learner(fabric, network, preset.model, terms, preset.train, steps=9, seed=3, size=pairs.size)
    part = distributed.part_of(preset.train.batch)
    losses = learner.step(4, pairs.batch(4, preset.train, 3, part))
    gradients = {
        f"{name}.{key}": value.grad
        for name, module in (("network", network), ("critic", learner.critic))
        for key, value in module.named_parameters()
        if value.grad is not None
    }
    if distributed.process_number() == 0:
        torch.save({"losses": losses, "gradients": gradients}, Path(folder) / f"{family}-{processes}.pt")


if __name__ == "__main__":
    main()
