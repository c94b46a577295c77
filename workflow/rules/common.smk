# What the rules share: the preset in use, the sets and networks it names, and the parameters of each command.
# The functions follow the order in which the rules use them.

import json
import os
import re
import shutil
import sys
from pathlib import Path

import reporter
from extracter import families, params, projection
from extracter.files import sha256
from extracter.presets import Preset
from snakemake.io import IOFile
from sources import SOURCES, digest
from stages import is_current

# What is in use: params.yaml and what the command line changes in it.
SETTINGS = check(params.validate, config).selected
PRESET = config["preset"]
TESTS = [name for name, test in SETTINGS.data.tests.items() if test.source != "none"]
# A set without a source is left out of every evaluation, but has empty folders: DVC's stages are the same in all presets.
ABSENT = [name for name, test in SETTINGS.data.tests.items() if test.source == "none"]
SETS = ["train", *TESTS, *ABSENT]
KERNEL_SETS = [name for name in SETTINGS.evaluation.kernel_sets if name in TESTS]
LEVEL_SETS = [name for name in SETTINGS.evaluation.level_sets if name in TESTS]
FAMILIES = SETTINGS.systems
TRAINED = families.variants_of(FAMILIES)
# The matcher that some systems share is trained where one of them is.
MATCHER = ["matcher"] if any("match" in families.FAMILIES[name].phases for name in FAMILIES) else []
VARIANTS = ["bicubic", *TRAINED, "released"]
RELEASED = "extracter/released/extracter-rec"
# What Table 4 measures: the networks trained for PSNR.
LEVELED = [*(name for name in TRAINED if name.endswith("-rec")), "released"]
METHODS = ["dense", "chunked", "blocks"]
# What changes no result is no parameter of a rule: the commands read it from here.
MIRROR = SETTINGS.data.mirror or ""
EVERY = SETTINGS.train.checkpoint_every
DEVICES, NODES = SETTINGS.train.devices, SETTINGS.train.nodes
PARTS = SETTINGS.evaluation.parts
CHECKPOINT = ["config.json", "model.safetensors", "training.json"]
TABLES = [
    "table1_metrics",
    "table2_parameters",
    "table2_modules",
    "table3_kernels",
    *(["table4_references"] if LEVEL_SETS else []),
]
PLOTS = ["training", "images", "kernel_psnr", "references"]
FIGURES = ["comparison", "training", "kernels"]
# The photographs of views that may be shown, being under CC BY: all of them, each with its most similar reference.
GALLERY = {
    "petra_DFM_4209": "petra_DFM_4210",
    "petra_DFM_4210": "petra_DFM_4209",
    "arches_ridge_JDW_9519": "arches_ridge_JDW_9518",
}
# Whose matches the report draws.
MAPPED = ["extracter-rec", "released"]

# DVC's stages stand as text: it cannot run, nor hold, a set for which there is none.
STAGED = is_current(Path("dvc.yaml").read_text(encoding="utf-8"), WRITTEN.selected)
UNSTAGED = "the stages in dvc.yaml are not those of params.yaml; run `make stages`, then this command again"
if "DVC_STAGE" in os.environ and not STAGED:
    sys.exit(UNSTAGED)


def check_folders():
    """End the run if a folder of outputs cannot be written to or is a symbolic link.

    Snakemake would end with a traceback in a folder that is read-only. DVC records nothing through a link, and says so at
    the end.
    """
    for name in (".", ".snakemake", ".dvc", "data", "results", "logs"):
        if os.path.exists(name) and not os.access(name, os.W_OK | os.X_OK):
            sys.exit(
                f"{os.path.abspath(name)}: cannot be written to; change its owner or permissions, or run a copy of the "
                "project in a folder of your own"
            )
    for name in ("data", "data/raw", "data/prepared", "results", f"results/{PRESET}"):
        if os.path.islink(name):
            sys.exit(
                f"{name}: a symbolic link, through which DVC cannot record; make it a folder (a bind mount serves, too), "
                "or put the whole project on the disk that it leads to"
            )


check_folders()
# From here on the run prints a line a job; dry runs and commands such as --unlock print what Snakemake prints.
reporter.install(workflow, PRESET, os.cpu_count() or 1)


wildcard_constraints:
    preset=re.escape(PRESET),
    set="|".join(["train", *TESTS]),
    test="|".join(TESTS),
    absent="|".join(ABSENT),
    state="raw|prepared",
    family="|".join(FAMILIES),
    variant="|".join(VARIANTS),
    kernel=r"\d+",
    method="|".join(METHODS),


def get_version(*rules):
    """Digest of what the commands of some rules run, as it is when the workflow starts.

    As a parameter it is what Snakemake compares next time. Checksums of input files would not do, since they are taken
    when a job ends: an edit made while the job ran with the old source would be missed.
    """
    return digest(rules)


def get_blocks(keys):
    """The parameters that a command receives, and nothing else: so nothing else can make it run again."""
    return params.dump_blocks(SETTINGS, *keys)


def get_prepare_blocks(wildcards):
    test = SETTINGS.data.tests.get(wildcards.set)
    return get_blocks(projection.prepare_keys(wildcards.set, test and test.references))


def get_supplied(wildcards):
    """Files of the user from which a set is taken: Snakemake sees a change of them as it sees one of data/."""
    data = SETTINGS.data
    source = data.train if wildcards.set == "train" else data.tests[wildcards.set]
    supplied = data.local.get(wildcards.set, source.folder)
    if supplied is None:
        return []
    from extracter.download.supplied import files_of  # takes a while to import

    return files_of(supplied)


def get_all_cores(wildcards):
    """Every core that this run may use. A function, since without --cores there is no number."""
    return workflow.cores


def get_memory(gib):
    """Memory for a job of `gib` GiB, in MB; each new attempt of a job that failed is given as much again."""
    return lambda wildcards, attempt: int(1024 * gib * attempt)


def get_runtime(hours):
    """Time limit of a job in minutes; more in each new attempt, as with memory."""
    return lambda wildcards, attempt: 60 * hours * attempt


def get_training_threads(wildcards):
    """Threads of a training: its share of the cores. As many networks train side by side as there are GPUs, without one two.

    Results depend on the number of threads bit for bit, so it must not depend on which jobs happen to run together.
    Evaluations take one thread each for the same reason.
    """
    return max(1, workflow.cores // (LOCAL_GPUS or 2))


def get_matcher(wildcards):
    """Files of the matcher that a system keeps as it is; most systems have none."""
    if "match" not in families.FAMILIES[wildcards.family].phases:
        return []
    return [f"results/{wildcards.preset}/checkpoints/matcher/{name}" for name in CHECKPOINT]


def get_checkpoint(wildcards):
    """Files of the checkpoint that a variant is evaluated with; bicubic has none, and git holds the released one."""
    if wildcards.variant == "bicubic":
        return []
    made = f"results/{wildcards.preset}/checkpoints/{wildcards.variant}"
    folder = RELEASED if wildcards.variant == "released" else made
    return [f"{folder}/{name}" for name in CHECKPOINT]


def get_summaries():
    return expand("results/{preset}/evaluation/{variant}/{test}.json", preset=PRESET, variant=VARIANTS, test=TESTS)


def get_images():
    return expand("results/{preset}/images/{variant}/{test}", preset=PRESET, variant=VARIANTS, test=TESTS)


def get_image_figures():
    return expand("results/{preset}/evaluation/{variant}/{test}.csv", preset=PRESET, variant=VARIANTS, test=TESTS)


def get_logs():
    return expand("results/{preset}/checkpoints/{variant}/train_log.csv", preset=PRESET, variant=TRAINED)


def get_kernel_results(tests=KERNEL_SETS):
    return expand(
        "results/{preset}/kernels/{test}/{test}_k{kernel}_{method}.json",
        preset=PRESET,
        test=tests,
        kernel=SETTINGS.evaluation.kernels,
        method=METHODS,
    )


def get_levels(suffix):
    return expand(
        "results/{preset}/levels/{variant}/{test}.{suffix}",
        preset=PRESET,
        variant=LEVELED,
        test=LEVEL_SETS,
        suffix=suffix,
    )


def get_tabulated():
    return [
        "results/metrics.json",
        *expand("results/plots/{plot}.csv", plot=PLOTS),
        *expand("results/tables/{table}.{suffix}", table=TABLES, suffix=["csv", "md"]),
    ]


def get_drawn():
    return expand("results/figures/{figure}.png", figure=FIGURES)


def get_origins():
    return expand("results/{preset}/origins/{variant}/{test}.json", preset=PRESET, variant=MAPPED, test=TESTS)


def get_artefacts():
    """Each file or folder that a rule makes, logs and benchmarks apart."""
    return [
        *expand("data/{state}/{preset}/{set}/manifest.json", state=["raw", "prepared"], preset=PRESET, set=SETS),
        *expand(
            "results/{preset}/checkpoints/{variant}/{file}",
            preset=PRESET,
            variant=[*MATCHER, *TRAINED],
            file=CHECKPOINT,
        ),
        *expand("results/{preset}/checkpoints/{variant}/train_log.csv", preset=PRESET, variant=MATCHER),
        *get_logs(),
        *get_summaries(),
        *get_image_figures(),
        *get_images(),
        *get_kernel_results(),
        *get_levels(["csv", "json"]),
        *get_origins(),
        f"results/{PRESET}/table2_parameters",
        *get_tabulated(),
        *get_drawn(),
    ]


def get_objection():
    """Why this run must not be recorded in DVC, which knows the parameters of params.yaml and no others; or nothing."""
    if not Path(".git").exists():
        return "this folder is no git repository; `git init` makes one, and the next run is recorded"
    if shutil.which("dvc") is None:
        return "there is no `dvc` command; install requirements.lock"
    if WRITTEN.preset != PRESET:
        return (
            f"its preset `{PRESET}` is not the one that params.yaml selects (`{WRITTEN.preset}`); "
            f"write `preset: {PRESET}` there and run again to record it"
        )
    if WRITTEN.selected != SETTINGS:
        return "it has parameters from the command line; write them in params.yaml and run again to record it"
    if not STAGED:
        return UNSTAGED
    return ""


def get_known_artefacts(wildcards):
    """All artefacts, unless Snakemake does not know with which parameters one of them was made.

    Files that DVC or a copy brought here would pass for up to date whatever the parameters are; `make restore` makes
    them known where they belong to this revision. Inside a stage DVC answers for them.
    """
    artefacts = get_artefacts()
    if "DVC_STAGE" not in os.environ:
        kept_by_git = {*get_tabulated(), *get_drawn()}
        made = [path for path in artefacts if path not in kept_by_git and os.path.lexists(path)]
        # What an interrupted job left is made again whatever is known of it.
        made = sorted(set(made) - workflow.persistence._filter_incomplete_keys(made))
        unknown = [path for path in made if workflow.persistence.metadata(IOFile(path)) is None]
        if unknown and len(unknown) < len(made) and not any(map(is_foreign, unknown)):
            # Of others it has one: these were finished after a run was killed. To make them again takes seconds or
            # minutes, also of a training, whose state was kept.
            for path in unknown:
                workflow.persistence._mark_incomplete(path, None)
            more = f" and {len(unknown) - 1:,} more" if len(unknown) > 1 else ""
            print(f"{unknown[0]}{more}: left by a run that was killed, made again", file=sys.stderr)
        elif unknown:
            sys.exit(
                f"{unknown[0]}: Snakemake has no record of how it was made; `make restore` checks whether it belongs to "
                "this revision, or delete it to have it made again"
            )
    return artefacts


def is_foreign(path):
    """Whether a file is of a checkpoint that was not trained here: its training would have left a state."""
    parts = Path(path).parts
    return parts[2] == "checkpoints" and not any(Path("results", PRESET, "state").glob(f"{parts[3]}.*.pt"))


def check_data():
    """End the run if an image or array of a set is not what its manifest says; DVC checks its stages by itself."""
    folders = [f"data/{state}/{PRESET}/{name}" for state in ("raw", "prepared") for name in SETS]
    problems, damaged = [], []
    for folder in map(Path, [] if "DVC_STAGE" in os.environ else folders):
        manifest = folder / "manifest.json"
        if manifest.exists():
            try:
                files = [(folder / entry["path"], entry) for entry in json.loads(manifest.read_bytes())["files"]]
                time = manifest.stat().st_mtime
                found = [(path, get_damage(path, entry, time)) for path, entry in files]
            except (ValueError, KeyError, TypeError):
                found = [(manifest, "damaged")]
            problems += [f"{path}: {problem}" for path, problem in found if problem]
            damaged += [str(folder)] if any(problem for _, problem in found) else []
    if problems:
        more = [f"and {len(problems) - 10:,} more"] if len(problems) > 10 else []
        sys.exit("\n".join([*problems[:10], *more, f"delete {' '.join(damaged)} and run snakemake again"]))


def get_damage(path, entry, time):
    """What is wrong with a file of a set; files older than their manifest are judged by their size alone."""
    if not path.exists():
        return "missing"
    status = path.stat()
    if status.st_size != entry["size"]:
        return f"truncated or altered ({status.st_size:,} of {entry['size']:,} bytes)"
    if status.st_mtime > time and sha256(path) != entry["sha256"]:
        return "altered since the workflow made it"
    return ""


check_data()
