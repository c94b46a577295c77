"""Ablations: the same short training with one part of the method changed at a time, for several seeds."""

from pathlib import Path
from statistics import mean, stdev

from extracter.files import read_json, write_csv
from extracter.params import Loss, Model, Search, Train
from extracter.projection import pick, train_keys
from extracter.reporting.tables import write_markdown
from extracter.training.train import train

# Name, changes of `model`, changes of `search`. The first is the baseline of the others.
ABLATIONS: list[tuple[str, dict, dict]] = [
    ("as the preset", {}, {}),
    ("u = 1", {"textures": 1}, {}),
    ("u = 2", {"textures": 2}, {}),
    ("u = 3", {"textures": 3}, {}),
    ("without GDE", {"gde_blocks": []}, {}),
    ("direct search", {}, {"strategy": "direct"}),
    ("two-stage search", {}, {"strategy": "two_stage"}),
    ("kernel 3", {}, {"kernel": 3, "stride": 1, "padding": 1}),
    ("kernel 6", {}, {"kernel": 6, "stride": 2, "padding": 2}),
    ("kernel 12", {}, {"kernel": 12, "stride": 4, "padding": 4}),
]
COLUMNS = ["ablation", "seed", "steps", "validation_psnr", "best_step"]


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
    device: str,
) -> None:
    """Train Extracter-rec for each ablation and seed, and write a table of validation PSNR.

    Finished trainings are not repeated, and interrupted ones resume. Ablations that equal the preset are left out.

    Args:
        pairs: prepared training pairs, of which the validation pairs give the PSNR.
        work: folder for the trainings.
        out: CSV to write, with a row for each training; the table of means gets the suffix .md.
        seeds: seeds of weights and batches.
        steps: number of steps of each training.
        model, search, loss, params: blocks of the preset, which the ablations change.
        device: auto, cpu, cuda, cuda:N or mps.
    """
    params = params.model_copy(update={"rec_steps": steps, "validate_every": min(params.validate_every, steps)})
    rows: list[dict] = []
    for name, of_model, of_search in ABLATIONS:
        changed = (model.model_copy(update=of_model), search.model_copy(update=of_search))
        if changed == (model, search) and name != ABLATIONS[0][0]:
            continue
        for seed in seeds:
            folder = work / f"{name.replace(' ', '-').replace('=', 'is')}_seed{seed}_{steps}"
            keys = train_keys("extracter", "rec")
            wanted = {"seed": seed, **pick(keys, model=changed[0], search=changed[1], train=params)}
            if not _is_done(folder, wanted):
                state = folder.with_suffix(".state")
                blocks = (seed, *changed, loss, params)
                train("extracter", pairs, folder, state, *blocks, phase="rec", start=None, device=device)
                state.unlink(missing_ok=True)
            training = read_json(folder / "training.json")
            row = {"ablation": name, "seed": seed, "steps": steps}
            rows.append({**row, **{key: training[key] for key in ("validation_psnr", "best_step")}})
            write_csv(out, rows, COLUMNS)
    _write_table(rows, model, search, steps, out)


def _is_done(folder: Path, wanted: dict) -> bool:
    """Return whether `folder` has the result of a training with these parameters."""
    where = folder / "training.json"
    return where.exists() and {key: read_json(where).get(key) for key in wanted} == wanted


def _write_table(rows: list[dict], model: Model, search: Search, steps: int, out: Path) -> None:
    figures: dict[str, list[float]] = {}
    for row in rows:
        figures.setdefault(row["ablation"], []).append(row["validation_psnr"])
    base = figures[ABLATIONS[0][0]]
    cells = []
    for name, found in figures.items():
        differences = [value - other for value, other in zip(found, base, strict=True)]
        spread = f" ± {stdev(found):.3f}" if len(found) > 1 else ""
        change = "" if found is base else f"{mean(differences):+.3f}"
        if change and len(found) > 1:
            change += f" ± {stdev(differences):.3f}"
        cells.append([name, f"{mean(found):.3f}{spread}", change])
    preset = f"u = {model.textures}, kernel {search.kernel}, {search.strategy.replace('_', '-')} search, with GDE"
    caption = (
        f"PSNR on Y (dB) of the validation pairs after {steps:,} steps, mean and standard deviation over {len(base)} "
        f"seeds. The preset has {preset}. Differences are to the preset with the same seed."
    )
    write_markdown(out, "Ablations", caption, ["what differs", "validation PSNR", "difference"], cells)
