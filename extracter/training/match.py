"""C2-Matching's contrastive matching network: a teacher on full resolution, then a student on the enlarged LR image.

Both are trained on an image and its copy under a random homography, so that it is known which pixels correspond. A step
is a function of the parameters, the weights and its number, as in `extracter.training.train`.
"""

import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from extracter.data.datasets import TrainingPairs
from extracter.device import choose_device, configure_torch
from extracter.files import sha256, write_csv, write_json
from extracter.image_tensors import to_signed
from extracter.memory import malloc_reuse
from extracter.models.checkpoint import save_model
from extracter.models.matcher import Matcher
from extracter.models.vgg import initialise_vgg
from extracter.presets import Match, Model, Train
from extracter.progress import track
from extracter.training.distributed import launch
from extracter.training.train import load_state, read_losses, save_state

COLUMNS = ["step", "loss", "triplet", "distillation"]
_CORNER = 1 / 16  # largest shift of a corner in sides: 10 of 160 pixels
_BORDER = 1 / 16  # correspondences closer to the border are not used
_RADIUS = 4  # feature pixels around the true match that are no negatives
_LEAST = 0.08  # of the feature pixels must have a correspondence, or the image does not count: 128 of 1,600
_MARGIN = 1.0
_TEMPERATURE = 0.15
_DISTILLATION = 15.0
_DECAY_AT = 0.967  # of the student's steps, from where on the rate is a tenth


def train_match(
    pairs_folder: Path,
    out: Path,
    state_path: Path,
    seed: int,
    model_params: Model,
    match: Match,
    params: Train,
    *,
    timings: Path | None = None,
    device: str,
) -> None:
    """Train a teacher, then a student from its correlations, and write the student's checkpoint.

    Args:
        pairs_folder: prepared training pairs, of which the inputs are used.
        out: checkpoint folder of a `Matcher`.
        state_path: file that a killed run resumes from.
        seed: of the first weights, the batches and the homographies.
        model_params: `dfe_width` and `vgg_weights`.
        match: steps, batch and learning rate.
        params: how batches are drawn, and how often to log and to save.
        timings: JSON with the seconds that the training took; None: not written.
        device: auto, cpu, cuda, cuda:N or mps.

    Raises:
        UserError: the data or the device do not fit, or the loss is no longer finite.
    """
    target = choose_device(device)
    configure_torch(seed)
    malloc_reuse()
    fabric = launch(target, 1, 1, "32-true")
    pairs = TrainingPairs(pairs_folder)
    steps = match.teacher_steps + match.student_steps
    networks = {name: _first_matcher(model_params, seed) for name in ("teacher", "student")}
    parts: dict[str, Any] = {}
    for name, network in networks.items():
        adam = torch.optim.Adam(network.parameters(), match.lr)
        parts[name], parts[f"{name} optimiser"] = fabric.setup(network, adam)
    training = {
        "family": "matcher",
        "phase": "match",
        "seed": seed,
        "model": {"dfe_width": model_params.dfe_width, "vgg_weights": model_params.vgg_weights},
        "match": match.model_dump(mode="json"),
        "pairs_sha256": sha256(pairs_folder / "manifest.json"),
    }
    run = json.dumps(training, sort_keys=True)
    # More than all steps: a complete state, too, gives its parts back.
    progress = load_state(state_path, run, parts, steps + 1) or {
        "step": 0, "seconds": 0.0, "sums": {}, "log": [],
    }  # fmt: skip
    draw = params.model_copy(update={"batch": match.batch, "swap": 0.0, "self_reference": 0.0, "other_reference": 0.0})
    started = time.perf_counter() - progress["seconds"]
    unread: list[Tensor] = []  # losses of each step, left on the device
    batches = pairs.batches(range(progress["step"], steps), draw, seed, pin=False)
    for batch in track(batches, "match", steps, progress["step"]):
        number = progress["step"]
        phase = "teacher" if number < match.teacher_steps else "student"
        optimiser = parts[f"{phase} optimiser"]
        late = number >= match.teacher_steps + _DECAY_AT * match.student_steps
        for group in optimiser.param_groups:
            group["lr"] = 0.1 * match.lr if late else match.lr
        teacher = parts["teacher"] if phase == "student" else None
        measured = _losses(fabric, parts[phase], teacher, batch, seed, number)
        optimiser.zero_grad()
        fabric.backward(measured["loss"])
        optimiser.step()
        unread.append(torch.stack([value.detach() for value in measured.values()]))
        progress["step"] += 1
        log = progress["step"] % params.validate_every == 0 or progress["step"] in (match.teacher_steps, steps)
        save = progress["step"] % params.checkpoint_every == 0 or progress["step"] == steps
        if log or save:
            read_losses(unread, list(measured), progress, "match", "lower `match.lr`")
            progress["seconds"] = time.perf_counter() - started
        if log:
            means = {key: sum(values) / len(values) for key, values in progress["sums"].items()}
            progress["log"].append({"step": progress["step"], **means})
            progress["sums"] = {}
        if save:
            save_state(state_path, run, parts, progress)
    training |= {"vgg_weights": model_params.vgg_weights, "torch": torch.__version__}
    write_csv(out / "train_log.csv", progress["log"], COLUMNS)
    save_model(networks["student"], networks["student"].state_dict(), out, training)
    if timings is not None:
        write_json(timings, {"steps": steps, "seconds": round(progress["seconds"], 1)})


def _first_matcher(model: Model, seed: int) -> Matcher:
    matcher = Matcher(model.dfe_width)
    for network in (matcher.query, matcher.key):
        initialise_vgg(network, model.vgg_weights, seed, layers="vgg16")
    return matcher


def _losses(
    fabric: Fabric, network: nn.Module, teacher: nn.Module | None, batch: dict[str, Tensor], seed: int, step: int
) -> dict[str, Tensor]:
    """The loss of one step and its terms; with a teacher, `network` is the student and sees LR_up."""
    hr, lr_up = to_signed(batch["hr"]), to_signed(batch["lr_up"])
    back = homographies(len(hr), hr.shape[-1], seed, step)
    warped = fabric.to_device(warp(hr, back))
    places, counts = corresponding(back, hr.shape[-1])
    places, counts = fabric.to_device(places), fabric.to_device(counts)
    hr, lr_up = fabric.to_device(hr), fabric.to_device(lr_up)
    query, key = (x.flatten(2) for x in network(hr if teacher is None else lr_up, warped))
    measured = {"triplet": triplet_loss(query, key, places, counts)}
    measured["loss"] = measured["triplet"]
    if teacher is not None:
        with torch.no_grad():
            wanted = [x.flatten(2) for x in teacher(hr, warped)]
        measured["distillation"] = distillation_loss(query, key, *wanted)
        measured["loss"] = measured["loss"] + _DISTILLATION * measured["distillation"]
    return measured


def homographies(count: int, side: int, seed: int, step: int) -> Tensor:
    """Random ones, N, 3, 3 in float64, that map pixels (x, y, 1) of the warped image to those of the original.

    Each corner moves inwards or outwards by up to a sixteenth of the side, a function of the seed and the step.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    last = side - 1.0
    corners = torch.tensor([[0, 0], [last, 0], [0, last], [last, last]], dtype=torch.float64)
    shift = torch.rand(count, 4, 2, generator=generator, dtype=torch.float64)
    moved = corners + (2 * shift - 1) * _CORNER * side
    # Eight unknowns, two equations a corner: x' (g x + h y + 1) = a x + b y + c, and likewise for y'.
    rows = []
    for corner, target in zip(corners, moved.unbind(1), strict=True):
        one, none = torch.ones(count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
        x, y = corner[0] * one, corner[1] * one
        for axis, known in ((0, (x, y, one, none, none, none)), (1, (none, none, none, x, y, one))):
            rows.append(torch.stack((*known, -x * target[:, axis], -y * target[:, axis]), 1))
    solved = torch.linalg.solve(torch.stack(rows, 1), moved.flatten(1).unsqueeze(2)).squeeze(2)
    return torch.cat((solved, torch.ones(count, 1, dtype=torch.float64)), 1).view(-1, 3, 3)


def warp(image: Tensor, back: Tensor) -> Tensor:
    """The image N, 3, S, S as seen through homographies; bilinear, edges repeated outside."""
    side = image.shape[-1]
    steps = torch.arange(side, dtype=torch.float64)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    places = _apply(back, torch.stack((x.flatten(), y.flatten())))  # N, 2, S S
    grid = (places.mT.view(len(image), side, side, 2) * 2 + 1) / side - 1
    return F.grid_sample(image, grid.to(image.dtype), padding_mode="border", align_corners=False)


def corresponding(back: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Where the feature pixels of the original, 4 x 4 pixels each, lie in the warped image.

    Returns:
        Feature pixel of the warped image, int64, N, P; and whether that is far enough from the border, bool, N, P.
    """
    features = side // 4
    steps = torch.arange(features, dtype=torch.float64) * 4 + 1.5  # the middles of feature pixels
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    middles = torch.stack((x.flatten(), y.flatten()))
    found = _apply(torch.linalg.inv(back), middles)  # N, 2, P
    border = _BORDER * side
    inside = ((found > border) & (found < side - 1 - border)).all(1)
    inside &= ((middles > border) & (middles < side - 1 - border)).all(0)
    column, row = ((found - 1.5) / 4).round().long().clamp(0, features - 1).unbind(1)
    return row * features + column, inside


def _apply(homography: Tensor, points: Tensor) -> Tensor:
    """Points 2, P through N homographies: N, 2, P."""
    mapped = homography @ torch.cat((points, torch.ones_like(points[:1])))
    return mapped[:, :2] / mapped[:, 2:]


def triplet_loss(query: Tensor, key: Tensor, places: Tensor, counts: Tensor) -> Tensor:
    """max(0, margin + distance of the pair - that of the hardest negative in either image), averaged.

    Args:
        query: features of length 1, N, C, P.
        key: of the warped image.
        places: N, P: the pixel of `key` that corresponds to each of `query`.
        counts: N, P: whether it does.
    """
    side = math.isqrt(query.shape[2])
    matched = key.gather(2, places.unsqueeze(1).expand_as(key))  # in the order of the query
    positive = 2 - 2 * (query * matched).sum(1)
    # Negatives in the warped image are other pixels' matches; those in the original any of its pixels.
    in_key = 2 - 2 * query.mT @ matched
    in_key = in_key.masked_fill(_near(places, places, side) | ~counts.unsqueeze(1), torch.inf)
    own = torch.arange(query.shape[2], device=query.device).expand_as(places)
    in_query = (2 - 2 * matched.mT @ query).masked_fill(_near(own, own, side), torch.inf)
    negative = torch.minimum(in_key.amin(2), in_query.amin(2)).clamp(max=4.0)  # the largest distance there is
    each = F.relu(_MARGIN + positive - negative)
    used = counts & (counts.sum(1, keepdim=True) >= _LEAST * counts.shape[1])
    return (each * used).sum() / used.sum().clamp(min=1)


def _near(a: Tensor, b: Tensor, side: int) -> Tensor:
    """Which pixels of a map are within the radius of which others, N, P, P."""
    rows = (a // side).unsqueeze(2) - (b // side).unsqueeze(1)
    columns = (a % side).unsqueeze(2) - (b % side).unsqueeze(1)
    return torch.maximum(rows.abs(), columns.abs()) <= _RADIUS


def distillation_loss(query: Tensor, key: Tensor, query_wanted: Tensor, key_wanted: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the student's softmax over the warped image from the teacher's, by pixel."""
    ours = (query.mT @ key / _TEMPERATURE).log_softmax(2).flatten(0, 1)
    theirs = (query_wanted.mT @ key_wanted / _TEMPERATURE).softmax(2).flatten(0, 1)
    return F.kl_div(ours, theirs, reduction="batchmean")
