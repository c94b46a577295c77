"""Ablations: the same short training with one part of the method changed at a time, for several seeds."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import torch
from torch import Tensor

from extracter.data import manifest
from extracter.data.datasets import TrainingPairs
from extracter.data.pair_arrays import ARRAYS, PREFIXES
from extracter.device import choose_device, configure_torch
from extracter.errors import UserError
from extracter.files import read_json, sha256, write_csv, write_json
from extracter.image_tensors import to_signed
from extracter.memory import malloc_reuse
from extracter.metrics import psnr_of, squared_error_y
from extracter.models.checkpoint import build_model, load_model
from extracter.presets import Loss, Model, Search, Train
from extracter.projection import pick, train_keys
from extracter.reporting.tables import write_markdown
from extracter.training.distributed import launch
from extracter.training.objective import losses_of
from extracter.training.step import Learner
from extracter.training.train import train


@dataclass(frozen=True)
class Ablation:
    """One change of the preset.

    Attributes:
        name: in tables.
        model, search, train: new values of these blocks.
        at_lr, elsewhere: factors of the numbers of residual blocks at LR's size and at other sizes; at least one block
            is left.
    """

    name: str
    model: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    at_lr: float = 1
    elsewhere: float = 1

    def change(self, model: Model, search: Search, train: Train) -> tuple[Model, Search, Train]:
        """The blocks of the preset with the changes."""
        blocks: dict[str, Any] = {"ife_blocks": _scale(model.ife_blocks, self.at_lr)}
        for key in ("csfi_blocks", "gde_blocks"):
            numbers = getattr(model, key)
            blocks[key] = [_scale(n, self.elsewhere if place else self.at_lr) for place, n in enumerate(numbers)]
        return (
            model.model_copy(update=blocks | dict(self.model)),
            search.model_copy(update=dict(self.search)),
            train.model_copy(update=dict(self.train)),
        )


def _scale(blocks: int, factor: float) -> int:
    return blocks if factor == 1 else max(1, round(factor * blocks))


# The first is the baseline of the others.
ABLATIONS = [
    Ablation("as the preset"),
    Ablation("u = 1", model={"textures": 1}),
    Ablation("u = 2", model={"textures": 2}),
    Ablation("u = 3", model={"textures": 3}),
    Ablation("without GDE", model={"gde_blocks": []}),
    Ablation("without gate", model={"gate": False}),
    Ablation("without alignment and gate", model={"align": False, "gate": False}),
    Ablation("with alignment", model={"align": True}),
    Ablation("with alignment and gate", model={"align": True, "gate": True}),
    Ablation("4 times the blocks at LR's size", at_lr=4),
    Ablation("4 times the blocks elsewhere", elsewhere=4),
    Ablation("features stay random", train={"dfe_lr": 0.0}),
    Ablation("no unrelated references", train={"other_reference": 0.0}),
    Ablation("no bicubic references", train={"self_reference": 0.0}),
    Ablation("direct search", search={"strategy": "direct"}),
    Ablation("two-stage search", search={"strategy": "two_stage"}),
    Ablation("kernel 3", search={"kernel": 3, "stride": 1, "padding": 1}),
    Ablation("kernel 6", search={"kernel": 6, "stride": 2, "padding": 2}),
    Ablation("kernel 12", search={"kernel": 12, "stride": 4, "padding": 4}),
]
COLUMNS = ["ablation", "seed", "steps", "relative_time", "validation_psnr", "best_step"]
_TIMED = 9  # steps whose time is measured, after two to warm up
# Each training of the table: name, pairs, blocks.
Run = tuple[str, Path, tuple[Model, Search, Train]]


def ablate(
    pairs: Path,
    work: Path,
    out: Path,
    seeds: list[int],
    steps: int,
    model: Model,
    search: Search,
    loss: Loss,
    params: Train,
    *,
    equal_time: bool = False,
    other_pairs: Path | None = None,
    only: list[str] | None = None,
    device: str,
) -> None:
    """Train Extracter-rec for each ablation and seed, and write a table of validation PSNR and gains by references.

    Finished trainings are not repeated, and interrupted ones resume. Ablations that equal the preset are left out.

    Args:
        pairs: prepared training pairs, of which the validation pairs give the PSNR.
        work: folder for the trainings.
        out: CSV to write, with a row for each training; the table of means gets the suffix .md.
        seeds: seeds of weights and batches.
        steps: number of steps of each training, or with `equal_time` of the preset's.
        model, search, loss, params: blocks of the preset, which the ablations change.
        equal_time: train each ablation for as long as the preset. Its number of steps follows from a short timing.
        other_pairs: another mixture of pairs with the same validation pairs, as one more ablation, named by its folder.
        only: names of ablations to train beside the preset; None: all.
        device: auto, cpu, cuda, cuda:N or mps.

    Raises:
        UserError: `other_pairs` has other validation pairs, or `only` names no ablation of this preset.
    """
    # Bounds of trust are chosen for trained weights, and `idle` for one number of matches.
    model = model.model_copy(update={"trust": None, "idle": None})
    runs = _chosen(_runs(pairs, other_pairs, model, search, params), only)
    kinds = list(dict.fromkeys(row["kind"] for row in TrainingPairs(pairs).rows["validation"]))
    rows: list[dict] = []
    keys = train_keys("extracter", "rec")
    for run in runs:
        name, data, (of_model, of_search, of_train) = run
        label = name.replace(" ", "-").replace("=", "is")
        share = _relative_time(work / f"{label}.time.json", run, runs[0], loss, device) if rows else 1.0
        number = max(1, round(steps / share)) if equal_time else steps
        of_steps = {"rec_steps": number, "validate_every": min(params.validate_every, number)}
        of_train = of_train.model_copy(update=of_steps)
        for seed in seeds:
            folder = work / f"{label}_seed{seed}_{number}"
            wanted = {"seed": seed, "pairs_sha256": sha256(data / manifest.NAME)}
            wanted |= pick(keys, model=of_model, search=of_search, loss=loss, train=of_train)
            if not _is_done(folder, wanted):
                state = folder.with_suffix(".state")
                settings = (seed, of_model, of_search, loss, of_train)
                train("extracter", data, folder, state, *settings, phase="rec", start=None, device=device)
                write_json(folder / "gains.json", gains_by_kind(folder, TrainingPairs(pairs), device))
                state.unlink(missing_ok=True)
            training = read_json(folder / "training.json")
            row = {"ablation": name, "seed": seed, "steps": number, "relative_time": share}
            row |= {"validation_psnr": round(training["validation_psnr"], 4), "best_step": training["best_step"]}
            rows.append(row | read_json(folder / "gains.json"))
            write_csv(out, rows, [*COLUMNS, *kinds])
    _write_table(rows, kinds, model, search, out)


def _runs(pairs: Path, other_pairs: Path | None, model: Model, search: Search, params: Train) -> list[Run]:
    """All trainings of a seed, the preset's first."""
    preset = (model, search, params)
    changed = [(ablation.name, pairs, ablation.change(*preset)) for ablation in ABLATIONS]
    runs = [run for run in changed if run[2] != preset or run is changed[0]]
    if other_pairs is not None:
        if _validation_digests(pairs) != _validation_digests(other_pairs):
            raise UserError(
                f"{other_pairs}: its validation pairs are not those of {pairs}; prepare it with the same seed"
            )
        runs.append((f"pairs of {other_pairs.name}", other_pairs, preset))
    return runs


def _chosen(runs: list[Run], only: list[str] | None) -> list[Run]:
    """The preset and the named ablations."""
    names = [run[0] for run in runs]
    unknown = sorted(set(only or ()) - set(names))
    if unknown:
        raise UserError(f"--only {unknown[0]}: allowed are {', '.join(names[1:])}")
    return runs if only is None else [run for run in runs if run[0] in (names[0], *only)]


def _relative_time(record: Path, run: Run, preset: Run, loss: Loss, device: str) -> float:
    """Time of a training step, relative to one of the preset: the median over pairs of alternating steps.

    It is measured once and kept in `record`, so that a study that is resumed keeps its numbers of steps.
    """
    target = choose_device(device)
    keys = train_keys("extracter", "rec")
    changed, unchanged = (
        pick(keys, model=model, search=search, train=train) for _, _, (model, search, train) in (run, preset)
    )
    measured_with = {"device": target.type, "changed": changed, "preset": unchanged}
    if record.exists() and (kept := read_json(record))["measured_with"] == measured_with:
        return kept["relative_time"]
    malloc_reuse()
    learners = [_learner(pairs, blocks, loss, target) for _, pairs, blocks in (run, preset)]
    ratios = []
    for step in range(_TIMED + 2):
        seconds = []
        for learner, batches in learners:
            batch = next(batches)
            start = _spent(target)
            learner.step(step, batch)
            seconds.append(_spent(target) - start)
        ratios.append(seconds[0] / seconds[1])
    found = round(median(ratios[2:]), 2)
    write_json(record, {"relative_time": found, "measured_with": measured_with})
    return found


def _learner(
    pairs: Path, blocks: tuple[Model, Search, Train], loss: Loss, device: torch.device
) -> tuple[Learner, Iterator[dict[str, Tensor]]]:
    """A network at the beginning of its training, and batches for it."""
    model, search, params = blocks
    configure_torch(0, deterministic=params.deterministic, tf32=params.tf32)
    network = build_model("extracter", model, search)
    network.initialise(model.vgg_weights, 0)
    terms, fabric = losses_of("extracter", "rec", loss), launch(device, 1, 1, params.precision)
    learner = Learner(fabric, network, model, terms, params, steps=_TIMED + 2, seed=0)
    training = TrainingPairs(pairs)
    return learner, (training.batch(step, params, 0) for step in range(_TIMED + 2))


def _spent(device: torch.device) -> float:
    """Seconds so far. On a CPU they are this process's processor time, which other processes do not lengthen."""
    if device.type == "cpu":
        return time.process_time()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _validation_digests(pairs: Path) -> list[str]:
    files = {entry["path"]: entry["sha256"] for entry in manifest.read(pairs)["files"]}
    return [files[f"{PREFIXES['validation']}{name}.npy"] for name in ARRAYS]


@torch.inference_mode()
def gains_by_kind(checkpoint: Path, pairs: TrainingPairs, device: str) -> dict[str, float]:
    """PSNR with the references of each kind of validation pair less PSNR without reference, over all their pixels.

    "Without" means with the input's own bicubic enlargement as reference.

    Args:
        checkpoint: folder of the network.
        pairs: whose validation pairs are taken.
        device: auto, cpu, cuda, cuda:N or mps.

    Returns:
        dB by kind, in the order of the pairs.
    """
    network = load_model(checkpoint).to(choose_device(device))
    where = next(network.parameters()).device
    errors: dict[str, list[float]] = {}
    for row, planes in zip(pairs.rows["validation"], pairs.validation(), strict=True):
        images = {key: to_signed(image.to(where)) for key, image in planes.items() if key != "hr"}
        alone = images | {"ref": images["lr_up"], "ref_du": images["lr_up"]}
        found = [float(squared_error_y(planes["hr"].to(where), network(**given))) for given in (images, alone)]
        sums = errors.setdefault(row["kind"], [0.0, 0.0])
        errors[row["kind"]] = [total + error for total, error in zip(sums, found, strict=True)]
    return {
        kind: round(psnr_of(with_reference) - psnr_of(alone), 4) for kind, (with_reference, alone) in errors.items()
    }


def _is_done(folder: Path, wanted: dict) -> bool:
    """Return whether `folder` has the result of a training with these parameters."""
    where = folder / "training.json"
    if not where.exists() or not (folder / "gains.json").exists():
        return False
    return {key: read_json(where).get(key) for key in wanted} == wanted


def _write_table(rows: list[dict], kinds: list[str], model: Model, search: Search, out: Path) -> None:
    by_name: dict[str, list[dict]] = {}
    for row in rows:
        by_name.setdefault(row["ablation"], []).append(row)
    base = by_name[ABLATIONS[0].name]
    cells = []
    for name, found in by_name.items():
        figures = [row["validation_psnr"] for row in found]
        differences = [
            row["validation_psnr"] - other["validation_psnr"] for row, other in zip(found, base, strict=True)
        ]
        gains = [_with_spread([row[kind] for row in found], "+.3f") for kind in kinds]
        change = "" if found is base else _with_spread(differences, "+.3f")
        cells.append([name, f"{found[0]['steps']:,}", f"{found[0]['relative_time']:.2f}"])
        cells[-1] += [_with_spread(figures, ".3f"), change, *gains]
    parts = [name for name, on in (("GDE", model.gde_blocks), ("alignment", model.align), ("gate", model.gate)) if on]
    preset = f"u = {model.textures}, kernel {search.kernel}, {search.strategy.replace('_', '-')} search"
    caption = (
        f"PSNR on Y (dB) of the validation pairs, mean and standard deviation over {len(base)} seeds. The preset has "
        f"{preset}, {', '.join(parts) or 'no GDE'}. Differences are to the preset with the same seed. Gain: PSNR with "
        "the pairs' references less PSNR with the input's own bicubic as reference. The time of a step is relative to "
        "the preset's."
    )
    header = [
        "what differs",
        "steps",
        "time of a step",
        "validation PSNR",
        "difference",
        *(f"gain, {kind.replace('_', ' ')}" for kind in kinds),
    ]
    write_markdown(out, "Ablations", caption, header, cells)


def _with_spread(figures: list[float], form: str) -> str:
    """Mean and, of several figures, standard deviation."""
    spread = f" ± {stdev(figures):.3f}" if len(figures) > 1 else ""
    return f"{mean(figures):{form}}{spread}"
