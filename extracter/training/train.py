"""Training: with the reconstruction loss alone, then with all losses from there (sections 3.5 and 3.6).

A step is a function of the parameters, the weights and its number: batches, augmentation and the gradient penalty draw
from generators seeded by it. So a run that was killed and resumed equals one that was not, bit for bit.
"""

import io
import json
import math
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from extracter.data.datasets import TrainingPairs
from extracter.device import choose_device, configure_torch
from extracter.errors import UserError
from extracter.families import schedule_of
from extracter.files import atomic_path, read_json, sha256, write_csv, write_json
from extracter.image_tensors import to_signed
from extracter.memory import malloc_reuse
from extracter.metrics import psnr_of, squared_error_y
from extracter.models.checkpoint import build_model, load_model, read_torch, save_model
from extracter.models.matcher import Matcher
from extracter.models.refsr import RefSR
from extracter.presets import Loss, Model, Search, Train
from extracter.progress import track
from extracter.projection import pick, train_keys, weight_keys
from extracter.training import distributed
from extracter.training.objective import TERMS, losses_of
from extracter.training.step import Learner

Phase = Literal["rec", "full"]
_REMEDY = "lower `train.lr` or the loss weights"
LOG_COLUMNS = ["step", "loss", "rec", *TERMS, "critic", "validation_psnr"]


def train(
    family: str,
    pairs_folder: Path,
    out: Path,
    state_path: Path,
    seed: int,
    model_params: Model,
    search: Search,
    weights: Loss | None,
    params: Train,
    *,
    phase: Phase,
    start: Path | None,
    matcher: Path | None = None,
    timings: Path | None = None,
    device: str,
) -> None:
    """Train one network and write the checkpoint that was best on the validation pairs.

    Args:
        family: a key of `FAMILIES`.
        pairs_folder: prepared training pairs.
        out: checkpoint folder to write.
        state_path: file that a killed run resumes from. Once complete it holds the best weights alone, and the same
            run writes its checkpoint from it at once: Snakemake and DVC remove a checkpoint whose completion they did
            not see, such as one that was finished after they were killed.
        seed: of the weights, the batches and the gradient penalty.
        model_params: the network.
        search: its search.
        weights: of the losses; None for a phase whose losses are the family's own.
        params: optimiser, schedule and length. Of these four blocks only the keys of the family and the phase need
            be there, see `extracter.projection`.
        phase: rec, with the reconstruction loss alone, or full, with all losses.
        start: checkpoint of a -rec model to continue from, which all losses need; None for first weights from `seed`.
        matcher: checkpoint of a trained matcher, for -rec models of families that have one; None for the matcher's
            first weights.
        timings: JSON with the seconds that the training took; None: not written.
        device: auto, cpu, cuda, cuda:N or mps.

    Raises:
        UserError: the data, `start` or the device do not fit, or the loss is no longer finite.
        KeyboardInterrupt: SIGINT or SIGTERM came; the state is saved first.
    """
    target = choose_device(device)
    configure_torch(seed, deterministic=params.deterministic, tf32=params.tf32)
    malloc_reuse()  # each step needs what the one before it freed
    pairs = TrainingPairs(pairs_folder)
    distributed.check_batch(params.batch, params.devices, params.nodes)
    fabric = distributed.launch(target, params.devices, params.nodes, params.precision)
    params = schedule_of(family, params)
    steps = params.rec_steps if phase == "rec" else params.full_steps
    name = f"{family} {phase}"

    network = build_model(family, model_params, search)
    if start is None:
        network.initialise(model_params.vgg_weights, seed)
        if matcher is not None:
            _take_matcher(matcher, network, model_params)
    else:
        _continue_from(start, network, family, model_params)
    network = distributed.share_statistics(network, fabric.device)
    size = pairs.size if phase == "full" else None
    terms = losses_of(family, phase, weights)
    learner = Learner(fabric, network, model_params, terms, params, steps=steps, seed=seed, size=size)

    keys = train_keys(family, phase)
    training = {
        "family": family,
        "phase": phase,
        "seed": seed,
        "vgg_weights": model_params.vgg_weights,
        **pick(keys, model=model_params, search=search, loss=weights, train=params),
        "pairs_sha256": sha256(pairs_folder / "manifest.json"),
        "matcher_sha256": None if matcher is None else sha256(matcher / "model.safetensors"),
        "start_sha256": None if start is None else sha256(start / "model.safetensors"),
    }
    run = json.dumps(training, sort_keys=True)  # a state is resumed only by the run that saved it
    progress = load_state(state_path, run, learner.parts, steps) or {
        "step": 0, "seconds": 0.0, "sums": {}, "log": [], "best_step": 0, "best_psnr": -math.inf, "best_weights": {},
    }  # fmt: skip

    started = time.perf_counter() - progress["seconds"]
    unread: list[Tensor] = []  # losses of each step, left on the device: reading one would wait for its step
    with _stop_between_steps() as stop:
        todo, part = range(progress["step"], steps), distributed.part_of(params.batch)
        batches = pairs.batches(todo, params, seed, pin=target.type == "cuda", part=part)
        if distributed.process_number() == 0:
            batches = track(batches, name, total=steps, done=progress["step"])
        if _is_due(progress, params, steps):  # the run was stopped while it validated
            label = f"{name} {progress['step']}/{steps}"
            if not _validate(learner.result, pairs, fabric, params.batch, progress, label, stop):
                raise KeyboardInterrupt  # the state still is that of this step
            if _is_complete(progress, steps):
                save_state(state_path, run, {}, progress)
        for batch in batches:
            measured = learner.step(progress["step"], batch)
            unread.append(torch.stack([value.float() for value in measured.values()]))
            progress["step"] += 1
            validate, stopped = _is_due(progress, params, steps), distributed.any_process(bool(stop))
            save = progress["step"] % params.checkpoint_every == 0 or stopped
            if validate or save:
                read_losses(unread, list(measured), progress, name, _REMEDY)
                progress["seconds"] = time.perf_counter() - started
            if validate:
                label = f"{name} {progress['step']}/{steps}"
                stopped = not _validate(learner.result, pairs, fabric, params.batch, progress, label, stop)
            complete = _is_complete(progress, steps)
            if save or complete or stopped:
                save_state(state_path, run, {} if complete else learner.parts, progress)
            if stopped:
                distributed.wait_for_all()  # the first process may be writing
                raise KeyboardInterrupt
    if distributed.process_number() > 0:
        return

    training |= {"best_step": progress["best_step"], "validation_psnr": progress["best_psnr"]}
    training |= {"torch": torch.__version__, "device": _device_name(target), "threads": torch.get_num_threads()}
    training["processes"] = distributed.process_count()
    write_csv(out / "train_log.csv", progress["log"], LOG_COLUMNS)
    save_model(network, progress["best_weights"], out, training)
    if timings is not None:
        write_json(timings, {"steps": steps, "seconds": round(progress["seconds"], 1)})


def _continue_from(start: Path, network: nn.Module, family: str, model_params: Model) -> None:
    """Load the -rec weights; refuse those of another network."""
    made_with = read_json(start / "training.json")
    wanted = {"family": family, "phase": "rec"}
    wanted |= pick(weight_keys(family), model=model_params)["model"]
    found = {**made_with.get("model", {}), **{key: made_with.get(key) for key in ("family", "phase")}}
    for key, value in wanted.items():
        if found.get(key) != value:
            raise UserError(
                f"{start}: trained with {key} {found.get(key)}, but {value} is wanted; train the -rec model "
                "with the parameters in use first, or set them back"
            )
    network.load_state_dict(load_model(start).state_dict())


def read_losses(unread: list[Tensor], names: list[str], progress: dict[str, Any], label: str, remedy: str) -> None:
    """Move the losses of the last steps from the device to `progress`.

    Args:
        unread: losses of each step, in the order of `names`; emptied.
        names: of the losses.
        progress: of the training; its `step` is the last one of them.
        label: of the training, for messages.
        remedy: what to do about a loss that is not finite.

    Raises:
        UserError: one of them is not finite.
    """
    rows = distributed.mean_of_figures(torch.stack(unread)).tolist()
    unread.clear()
    for step, row in enumerate(rows, progress["step"] - len(rows) + 1):
        for key, value in zip(names, row, strict=True):
            progress["sums"].setdefault(key, []).append(value)
        if not math.isfinite(row[names.index("loss")]):
            raise UserError(f"{label}: the loss is not finite at step {step}; {remedy}")


def _take_matcher(folder: Path, network: nn.Module, model_params: Model) -> None:
    """Load the weights of a trained matcher; refuse those of another width, and networks that have none."""
    if not hasattr(network, "matcher"):
        raise UserError(f"{folder}: {type(network).__name__} has no matcher; leave --matcher out")
    trained = load_model(folder)
    if not isinstance(trained, Matcher) or trained._hub_mixin_config["width"] != model_params.dfe_width:
        raise UserError(
            f"{folder}: no matcher of `model.dfe_width: {model_params.dfe_width}`; train one with "
            "`extracter train-match`"
        )
    network.matcher.load_state_dict(trained.state_dict())


def _is_due(progress: dict[str, Any], params: Train, steps: int) -> bool:
    """Whether the last step is one to validate and has not been validated."""
    step, validated = progress["step"], progress["log"][-1]["step"] if progress["log"] else 0
    return step > validated and (step % params.validate_every == 0 or step == steps)


def _is_complete(progress: dict[str, Any], steps: int) -> bool:
    """Whether all steps are done and the last one is validated."""
    return bool(progress["log"]) and progress["log"][-1]["step"] == steps


@torch.no_grad()
def _validate(
    model: RefSR,
    pairs: TrainingPairs,
    fabric: Fabric,
    batch: int,
    progress: dict[str, Any],
    label: str,
    stop: "_Stop",
) -> bool:
    """PSNR-Y over all pixels of the validation pairs, a row of the log, and the weights if they are the best.

    One error for all pixels, not a mean of PSNRs: a pair without an error would make that infinite, whatever the others
    are. The pairs run without autocast, so that steps are compared in float32 in every training. Each process takes
    some of the batches, and all know the sum.

    Returns:
        Whether the validation is done. Once a signal came it is not, since it may take longer than there is time to
        save the state: nothing is recorded, and the resumed run begins with it.

    Raises:
        UserError: an output is not finite.
    """
    model.eval()
    number, count = distributed.process_number(), distributed.process_count()
    held_out = len(pairs.rows["validation"])
    errors, pixels = [], held_out * pairs.size**2
    for pair in pairs.validation(batch, number, count):
        if stop:
            break
        images = {key: fabric.to_device(planes) for key, planes in pair.items()}
        hr = images.pop("hr")
        sr = model(**{key: to_signed(planes) for key, planes in images.items()})
        errors.append(squared_error_y(hr, sr))
    model.train()
    if distributed.any_process(bool(stop)):
        return False
    batches = -(-held_out // batch)
    psnr = psnr_of(sum(distributed.gather_figures(errors, batches, fabric.device)) / pixels)
    if math.isnan(psnr):
        raise UserError(f"{label}: the network's output is not finite; {_REMEDY}")
    means = {key: sum(values) / len(values) for key, values in progress["sums"].items()}
    row = {"step": progress["step"], **means, "validation_psnr": psnr}
    progress["log"].append(row)
    progress["sums"] = {}
    if psnr > progress["best_psnr"]:
        weights = {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}
        progress |= {"best_psnr": psnr, "best_step": progress["step"], "best_weights": weights}
    if distributed.process_number() == 0:
        print(f"{label}: loss {means['loss']:.5f}, validation PSNR {psnr:.3f} dB", file=sys.stderr, flush=True)
    return True


def save_state(path: Path, run: str, parts: dict[str, Any], progress: dict[str, Any]) -> None:
    """Write what a killed run resumes from; only the first process of several does.

    Args:
        path: of the state, which is replaced at once or not at all.
        run: digest of the parameters and data that this state belongs to.
        parts: networks, optimisers and scaler, by name.
        progress: steps done, figures so far and the best weights.
    """
    if distributed.process_number() > 0:
        return
    buffer = io.BytesIO()
    torch.save({"run": run, "progress": progress, **{key: part.state_dict() for key, part in parts.items()}}, buffer)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_state(path: Path, run: str, parts: dict[str, Any], steps: int) -> dict[str, Any] | None:
    """Restore the parts from a state of the same run and return its progress; None where there is none.

    A complete run needs no parts.

    Raises:
        UserError: the file is damaged or no state.
    """
    if not path.exists():
        return None
    state = read_torch(path)
    if not isinstance(state, dict) or not {"run", "progress"} <= set(state):
        raise UserError(f"{path}: damaged, or no state of a training; delete it to start over")
    if state["run"] != run:
        print(f"{path}: of a run with other parameters or data; training starts over", file=sys.stderr, flush=True)
        return None
    progress = state["progress"]
    if _is_complete(progress, steps):
        print(f"{path}: complete; writing its checkpoint again without training", file=sys.stderr, flush=True)
        return progress
    if not set(parts) <= set(state):
        raise UserError(f"{path}: damaged, or no state of a training; delete it to start over")
    for key, part in parts.items():
        part.load_state_dict(state[key])
    print(f"{path}: resuming after step {progress['step']}", file=sys.stderr, flush=True)
    return progress


class _Stop:
    """True once a signal has asked for an end."""

    def __init__(self):
        self.wanted = False

    def __bool__(self) -> bool:
        return self.wanted


@contextmanager
def _stop_between_steps() -> Iterator[_Stop]:
    """Turn the first SIGINT or SIGTERM into a request, granted between two steps; the second one acts at once."""
    stop = _Stop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def request(number: int, frame: Any) -> None:
        stop.wanted = True
        signal.signal(number, signal.default_int_handler)

    for number in before:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
