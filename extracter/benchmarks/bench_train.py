"""`extracter bench train`: images per second, memory, and the time of each part of a training step.

Each setting runs in a child process, `python -m extracter.benchmarks.bench_train JOB` with JOB as JSON.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from extracter import params
from extracter.benchmarks.launches import count_launches
from extracter.benchmarks.timing import now, print_table
from extracter.confined import command_of, run_child, run_job, say
from extracter.data.datasets import TrainingPairs
from extracter.device import choose_device, configure_torch
from extracter.errors import UserError
from extracter.files import write_csv
from extracter.memory import PeakMemory, malloc_reuse
from extracter.models.checkpoint import build_model
from extracter.training.distributed import launch
from extracter.training.objective import losses_of
from extracter.training.step import Learner

PARTS = ["data", "search", "network", "losses", "backward", "optimiser"]
COLUMNS = [
    "setting", "phase", "batch", "size", "result", "images_per_second", "peak_memory_mib",
    *(f"share_{part}" for part in PARTS), "launches", "waits", "first_loss", "last_loss", "steps", "device", "threads",
]  # fmt: skip
# Changes to the parameters, by setting. `reference` is the way networks of this kind are usually trained.
SETTINGS: dict[str, dict[str, object]] = {
    "reference": {"precision": "32-true", "channels_last": False, "compile": False},
    "float32": {"precision": "32-true", "channels_last": True, "compile": False},
    "mixed": {"precision": "bf16-mixed", "channels_last": True, "compile": False},
    "fastest": {
        "precision": "bf16-mixed", "channels_last": True, "compile": True, "deterministic": False, "tf32": True
    },
    "preset": {},
}  # fmt: skip
NAMES = ("seed", "model", "search", "loss", "train")


def bench_train(
    pairs: Path,
    blocks: str,
    out: Path,
    *,
    full: bool,
    steps: int,
    device: str,
    settings: Sequence[str] = ("reference", "preset"),
) -> None:
    """Measure training steps of Extracter in settings of `SETTINGS`; `preset` takes the parameters as they are.

    The reference setting is float32 and contiguous, with a dense search that keeps the complete correlation for the
    backward pass, and with batches that are made while the network waits.

    Args:
        pairs: prepared training pairs.
        blocks: JSON of the parameters `NAMES`.
        out: CSV to write, with a row for each setting.
        full: train with all losses.
        steps: number of measured steps of each setting, after a warm-up of three.
        device: auto, cpu, cuda, cuda:N or mps.
        settings: keys of `SETTINGS`.

    Raises:
        UserError: no such setting, the pairs or the parameters are not valid, or a setting failed for another reason
            than memory.
    """
    for setting in settings:
        if setting not in SETTINGS:
            raise UserError(f"--setting {setting}: allowed are {', '.join(SETTINGS)}")
    job = {"pairs": str(pairs), "blocks": blocks, "full": full, "steps": steps, "device": str(choose_device(device))}
    rows = []
    for setting in settings:
        measured = run_child(command_of("extracter.benchmarks.bench_train", {**job, "setting": setting}), steps)
        result = "measured" if measured.pop("fits") else "out of memory"
        rows.append({"setting": setting, "phase": "full" if full else "rec", "result": result, **measured})
        write_csv(out, [{key: row.get(key) for key in COLUMNS} for row in rows], COLUMNS)
    lines = []
    for row in rows:
        cells = [row["result"]]
        if "steps" in row:
            cells = [f"{row['images_per_second']:.2f}", f"{row['peak_memory_mib']:,.0f}"]
            cells += ["" if row[key] is None else str(row[key]) for key in ("launches", "waits")]
        lines.append([row["setting"], *cells, *(f"{row[f'share_{part}']:.0%}" for part in PARTS if "steps" in row)])
    heads = ("setting", "images/s", "MiB", "launches", "waits", *PARTS)
    print_table("training steps, medians", heads, lines, left=("setting",))


class _Clock:
    """Measures the seconds of each part of a step. The search is not counted in the network."""

    def __init__(self, device: torch.device):
        self.device = device
        self.parts = dict.fromkeys(PARTS, 0.0)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Add the time of the block to `part`."""
        inner = self.parts["search"]
        start = now(self.device)
        yield
        self.parts[part] += now(self.device) - start - (self.parts["search"] - inner if part != "search" else 0)


def run(job: dict) -> None:
    """Measure one setting and report it to the parent."""
    blocks = params.load_keys(job["blocks"], None, *NAMES)
    seed, model, search, weights, train = (getattr(blocks, name) for name in NAMES)
    reference = job["setting"] == "reference"
    train = train.model_copy(update=SETTINGS[job["setting"]])
    device = torch.device(job["device"])
    configure_torch(seed, deterministic=train.deterministic, tf32=train.tf32)
    pairs = TrainingPairs(Path(job["pairs"]))
    network = build_model("extracter", model, search)
    network.initialise(model.vgg_weights, seed)
    if reference:
        network.search = replace(network.search, method="dense")
    fabric = launch(device, 1, 1, train.precision)
    total = job["steps"] + 3
    size = pairs.size if job["full"] else None
    terms = losses_of("extracter", "full" if job["full"] else "rec", weights)
    learner = Learner(fabric, network, model, terms, train, steps=total, seed=seed, size=size)
    memory = PeakMemory(device)
    memory.reset()
    if not reference:
        malloc_reuse()
    clock, seconds, losses = _Clock(device), [], []
    _time_search(network, clock)
    batches = None if reference else pairs.batches(range(total), train, seed, pin=device.type == "cuda")
    for step in range(total):
        if step == 3:  # the warm-up is over
            clock.parts = dict.fromkeys(PARTS, 0.0)
        start = now(device)
        with clock("data"):
            batch = pairs.batch(step, train, seed) if batches is None else next(batches)
        losses.append(learner.step(step, batch, clock)["loss"])
        if step >= 3:
            seconds.append(now(device) - start)
            say(done=len(seconds))
    spent = sum(clock.parts.values())
    say(
        **count_launches(lambda: learner.step(total, pairs.batch(0, train, seed)), device),
        fits=True, batch=train.batch, size=pairs.size, steps=job["steps"], device=device.type,
        images_per_second=round(train.batch / median(seconds), 3), peak_memory_mib=round(memory.read(), 1),
        first_loss=losses[0].item(), last_loss=losses[-1].item(), threads=torch.get_num_threads(),
        **{f"share_{part}": round(value / spent, 4) for part, value in clock.parts.items()},
    )  # fmt: skip


def _time_search(network: torch.nn.Module, clock: _Clock) -> None:
    """Measure search and transfer apart from the rest of the network."""
    running = []

    def begin(*_: object) -> None:
        running.append(clock("search"))
        running[-1].__enter__()

    def end(*_: object) -> None:
        running.pop().__exit__(None, None, None)

    network.stm.register_forward_pre_hook(begin)
    network.stm.register_forward_hook(end)


if __name__ == "__main__":
    run_job(run)
