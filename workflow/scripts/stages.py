"""The stages of dvc.yaml, which have to stand as text, from params.yaml and the tables of the workflow: `make stages`.

Each stage is one call of Snakemake for the files that the stage owes. A test holds the stages against the rules.
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import yaml
from sources import ROOT, SOURCES, list_sources

sys.path[:0] = [str(ROOT)]  # this checkout's package, whichever is installed

from extracter import families, params, projection  # noqa: E402
from extracter.errors import UserError  # noqa: E402
from extracter.presets import Preset  # noqa: E402

# Of a set that no path of the user stands for: what the downloads are checked against.
PUBLISHED = "extracter/download/checksums"
RELEASED = "extracter/released/extracter-rec"
CHECKPOINT = ("config.json", "model.safetensors", "training.json")
PLOTS = ("training", "images", "kernel_psnr", "references")
TABLES = ("table1_metrics", "table2_parameters", "table2_modules", "table3_kernels", "table4_references")
FIGURES = ("comparison", "training", "kernels")
MAPPED = ("extracter-rec", "released")
RESULTS = "results/${preset}"
RAW, PREPARED = "data/raw/${preset}", "data/prepared/${preset}"


def list_stages(preset: Preset) -> dict[str, dict[str, Any]]:
    """All stages, by name, for the sets and systems of a preset."""
    tests = list(preset.data.tests)
    available = [name for name, test in preset.data.tests.items() if test.source != "none"]
    kernel_sets = [name for name in preset.evaluation.kernel_sets if name in available]
    stages = dict(_data_stages(preset, ["train", *tests]))
    if any(_has_matcher(family) for family in preset.systems):
        stages["train_match"] = _match_stage()
    for family in preset.systems:
        for phase in ("rec", "full"):
            stages[f"train_{phase}_{family}"] = _train_stage(family, phase)
    stages |= _evaluate_stages(preset.systems, available)
    level_sets = [name for name in preset.evaluation.level_sets if name in available]
    if level_sets:
        stages |= _level_stages(preset.systems, level_sets)
    stages["kernels"] = {"foreach": kernel_sets, "do": _kernel_stage()}
    stages["origins"] = {"foreach": available, "do": _origins_stage()}
    evaluated = [name for family in ("fixed", *preset.systems) for name in _variants(family)]
    kernels = [f"{RESULTS}/kernels/{name}" for name in kernel_sets]
    levels = [
        path.replace("${item}", name)
        for family in ("fixed", *preset.systems)
        for name in level_sets
        for path in _levels(family)[1:]
    ]
    stages["tables"] = _tables_stage(preset.systems, evaluated, available, kernels, levels)
    stages["figures"] = _figures_stage(preset.systems, evaluated, available, kernels)
    stages["record"] = _record_stage(stages)
    return stages


def _stage(rules: str, target: str, keys: Iterable[str], deps: Iterable[str], outs: Iterable[Any]) -> dict[str, Any]:
    """A stage that calls Snakemake for `target`; of the package it depends on what the rules run."""
    run = [rule for rule in rules.split() if rule in SOURCES]
    command = f'PATH="$DVC_ROOT/.venv/bin:$PATH" snakemake --cores all --allowed-rules {rules} -- {target}'
    phases = {"download": "data", "prepare": "data", "kernel_sweep": "evaluate"}
    first = run[0].split("_")[0]
    phase = phases.get(run[0], first if first in ("train", "evaluate") else "tables")
    named = [f"presets.${{preset}}.{key}" for key in keys]
    sources = [*list_sources(run), f"workflow/rules/{phase}.smk"]
    return {"cmd": command, "params": ["preset", *named], "deps": [*deps, *sources], "outs": list(outs)}


def _data_stages(preset: Preset, names: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    data = preset.data
    for name in names:
        source = data.train if name == "train" else data.tests[name]
        supplied = os.path.expanduser(data.local.get(name) or source.folder or PUBLISHED)
        keys = [
            key for key in projection.download_keys(name) if not key.startswith("data.local.") or name in data.local
        ]
        out = f"{RAW}/{name}"
        yield f"download_{name}", _stage("download absent", f"{out}/manifest.json", keys, [supplied], [out])
    for name in names:
        out, raw = f"{PREPARED}/{name}", f"{RAW}/{name}"
        keys = projection.prepare_keys(name)
        yield f"prepare_{name}", _stage("prepare absent", f"{out}/manifest.json", keys, [raw], [out])


def _checkpoint(variant: str, *files: str) -> list[str]:
    folder = RELEASED if variant == "released" else f"{RESULTS}/checkpoints/{variant}"
    return [f"{folder}/{name}" for name in files or CHECKPOINT]


def _has_matcher(family: str) -> bool:
    return "match" in families.FAMILIES[family].phases


def _match_stage() -> dict[str, Any]:
    outs = _checkpoint("matcher", *CHECKPOINT, "train_log.csv")
    return _stage("train_match", outs[1], projection.match_keys(), [f"{PREPARED}/train"], outs)


def _train_stage(family: str, phase: str) -> dict[str, Any]:
    rec, variant = f"{family}-rec", f"{family}-rec" if phase == "rec" else family
    start = _checkpoint(rec) if phase == "full" else _checkpoint("matcher") if _has_matcher(family) else []
    return _stage(
        f"train_{phase}",
        _checkpoint(variant)[1],
        projection.train_keys(family, phase),
        [f"{PREPARED}/train", *start],
        _checkpoint(variant, *CHECKPOINT, "train_log.csv"),
    )


def _variants(family: str) -> list[str]:
    """What is evaluated of a family; `fixed` are those that no training here changes."""
    return ["bicubic", "released"] if family == "fixed" else [f"{family}-rec", family]


def _evaluation(variant: str, name: str) -> list[str]:
    figures = f"{RESULTS}/evaluation/{variant}/{name}"
    return [f"{figures}.csv", f"{figures}.json", f"{RESULTS}/images/{variant}/{name}"]


def _evaluate_stages(systems: Iterable[str], sets: list[str]) -> dict[str, dict[str, Any]]:
    stages = {}
    for family in ("fixed", *systems):
        variants = _variants(family)
        target = " ".join(_evaluation(variant, "${item}")[1] for variant in variants)
        keys = sorted({key for variant in variants for key in projection.evaluate_keys(variant)})
        deps = [f"{PREPARED}/${{item}}"]
        deps += [path for variant in variants if variant != "bicubic" for path in _checkpoint(variant)]
        outs = [path for variant in variants for path in _evaluation(variant, "${item}")]
        stages[f"evaluate_{family}"] = {
            "foreach": sets,
            "do": _stage("evaluate evaluate_part", target, keys, deps, outs),
        }
    return stages


def _levels(family: str) -> list[str]:
    """Figures and summary of what references are worth to a family's network that is trained for PSNR."""
    variant = "released" if family == "fixed" else f"{family}-rec"
    return [f"{RESULTS}/levels/{variant}/${{item}}.{suffix}" for suffix in ("csv", "json")]


def _level_stages(systems: Iterable[str], sets: list[str]) -> dict[str, dict[str, Any]]:
    stages = {}
    for family in ("fixed", *systems):
        variant = "released" if family == "fixed" else f"{family}-rec"
        outs = _levels(family)
        deps = [f"{PREPARED}/${{item}}", *_checkpoint(variant)]
        stage = _stage("evaluate_levels", outs[1], projection.level_keys(variant), deps, outs)
        stages[f"levels_{family}"] = {"foreach": sets, "do": stage}
    return stages


def _kernel_stage() -> dict[str, Any]:
    keys = [*projection.kernel_keys(), "evaluation.kernels"]
    deps = [f"{PREPARED}/${{item}}", *_checkpoint("extracter-rec")]
    return _stage("kernel_sweep swept_${item}", "swept_${item}", keys, deps, [f"{RESULTS}/kernels/${{item}}"])


def _origins_stage() -> dict[str, Any]:
    outs = [f"{RESULTS}/origins/{variant}/${{item}}.json" for variant in MAPPED]
    checkpoints = [path for variant in MAPPED for path in _checkpoint(variant)]
    figures = [_evaluation(variant, "${item}")[0] for variant in ("bicubic", "extracter-rec")]
    return _stage("map_origins", " ".join(outs), [], [f"{PREPARED}/${{item}}", *checkpoints, *figures], outs)


def _kept(*paths: str) -> list[dict[str, dict[str, bool]]]:
    """Outputs that git holds, not DVC's cache."""
    return [{path: {"cache": False}} for path in paths]


def _logs(systems: Iterable[str]) -> list[str]:
    return [path for family in systems for name in _variants(family) for path in _checkpoint(name, "train_log.csv")]


def _tables_stage(
    systems: list[str], variants: list[str], sets: list[str], kernels: list[str], levels: list[str]
) -> dict[str, Any]:
    names = [name for name in TABLES if levels or name != "table4_references"]
    # Rule table_parameters makes table2_modules, too.
    made_by = [f"table_{name.partition('_')[2]}" for name in names if name != "table2_modules"]
    rules = " ".join(["collect_metrics collect_plots", *made_by, "tabulated"])
    figures = [path for variant in variants for name in sets for path in _evaluation(variant, name)[:2]]
    plots = [f"results/plots/{name}.csv" for name in PLOTS]
    tables = [f"results/tables/{name}.{suffix}" for name in names for suffix in ("csv", "md")]
    outs = [f"{RESULTS}/table2_parameters", *_kept(*plots, *tables)]
    stage = _stage(rules, "tabulated", [], [*_logs(systems), *figures, *kernels, *levels], outs)
    return {**stage, "metrics": _kept("results/metrics.json")}


def _figures_stage(systems: list[str], variants: list[str], sets: list[str], kernels: list[str]) -> dict[str, Any]:
    images = [_evaluation(variant, name)[2] for variant in variants for name in sets]
    deps = [*(f"{PREPARED}/{name}" for name in sets), *_logs(systems), *images, *kernels]
    outs = _kept(*(f"results/figures/{name}.png" for name in FIGURES))
    return _stage("figure_comparison figure_training figure_kernels drawn", "drawn", [], deps, outs)


def _record_stage(stages: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The last stage makes Snakemake know the files, whatever DVC took from its cache.

    As a persistent output keeps a stage out of the run cache, this one runs whenever anything changed.
    """
    deps: list[str] = []
    for stage in stages.values():
        body = stage.get("do", stage)
        outs = [out if isinstance(out, str) else next(iter(out)) for out in [*body["outs"], *body.get("metrics", [])]]
        for item in stage.get("foreach", [""]):
            deps += [out.replace("${item}", item) for out in outs]
    return {
        "cmd": 'PATH="$DVC_ROOT/.venv/bin:$PATH" python workflow/scripts/restore.py --stage',
        "params": ["preset", "presets.${preset}"],
        "deps": [*deps, *list_sources(SOURCES), "workflow/rules"],
        "outs": [{f"{RESULTS}/recorded": {"persist": True}}],
    }


def is_current(text: str, preset: Preset) -> bool:
    """Whether dvc.yaml, given as text, has the stages of a preset; it may have others of the user's."""
    written = yaml.safe_load(text)["stages"]
    return all(written.get(name) == stage for name, stage in list_stages(preset).items())


class _Dumper(yaml.SafeDumper):
    """Lists of plain paths in lines of 120 characters, a blank line before each stage."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def write_stages(text: str, preset: Preset) -> str:
    """The text of dvc.yaml with the stages of a preset; what stands before `stages:` and from `plots:` on is kept."""
    head = text[: text.index("\nstages:\n") + 1]
    plots = re.search(r"(?m)^(?:#.*\n)*plots:\n[\s\S]*", text)[0]
    written = []
    for name, stage in list_stages(preset).items():
        block = yaml.dump({name: stage}, Dumper=_Dumper, sort_keys=False, width=112, default_flow_style=None)
        written.append("".join(f"  {line}" if line.strip() else line for line in block.splitlines(keepends=True)))
    trained = [name for family in preset.systems for name in _variants(family)]
    leveled = [*(name for name in trained if name.endswith("-rec")), "released"]
    drawn = {"training": trained, "images": ["bicubic", *trained, "released"], "references": leveled}
    for path, curves in drawn.items():
        plots = re.sub(rf"(results/plots/{path}\.csv: )\[.*\]", rf"\1[{', '.join(curves)}]", plots)
    return f"{head}stages:\n" + "\n".join(written) + f"\n{plots}"


def main() -> None:
    """Bring dvc.yaml up to date with params.yaml."""
    path = ROOT / "dvc.yaml"
    try:
        preset = params.read(ROOT / "params.yaml").selected
    except UserError as error:
        raise SystemExit(f"stages: {error}") from None
    path.write_text(write_stages(path.read_text(encoding="utf-8"), preset), encoding="utf-8")


if __name__ == "__main__":
    main()
