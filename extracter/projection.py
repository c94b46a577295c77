"""Which parameters each job depends on: the projection of params.yaml by subcommand, family, phase and set.

A job of the workflow runs again when one of its keys changes, and its command receives these keys alone: a key that is
missing here ends the command with an AttributeError instead of being used unnoticed. Keys that change no result are in
no projection: `data.mirror` says where the same bytes are fetched, `train.checkpoint_every` how much work a killed
training loses, `train.devices`, `train.nodes` and `evaluation.parts` who does it. Snakemake's rules, DVC's stages, the
state of a training and the check of a checkpoint all read this table. What the networks of each family are made from
is in `extracter.families`.
"""

from collections.abc import Iterable
from typing import Any

from extracter.families import FAMILIES
from extracter.presets import TrainData

# Settings that training steps do not use, so that weights trained with other values serve as well.
_NOT_TRAINED = ("model.trust", "model.idle", "model.registration")

# What both phases of a training depend on.
_ALL_PHASES = (
    "seed",
    "search.memory",
    "model.vgg_weights",
    "train.regime",
    "train.decay_at",
    "train.batch",
    "train.lr",
    "train.dfe_lr",
    "train.beta1",
    "train.beta2",
    "train.eps",
    "train.schedule",
    "train.swap",
    "train.turn_apart",
    "train.self_reference",
    "train.other_reference",
    "train.ema",
    "train.clip",
    "train.channels_last",
    "train.compile",
    "train.deterministic",
    "train.tf32",
    "train.validate_every",
    "train.precision",
)

# And on networks that have a gate.
_GATED = ("train.gate_lr", "train.without_reference")

# The phases: the reconstruction loss alone, and all losses with the critic.
PHASES = {
    "rec": (*_ALL_PHASES, "train.rec_steps", "loss.rec"),
    "full": (
        *_ALL_PHASES,
        "model.dfe_width",  # of the VGG19 of the losses
        "train.full_steps",
        "train.critic_steps",
        "train.critic_lr",
        "train.critic_beta1",
        "train.critic_beta2",
    ),
}

# The training of the matcher, which all families that have one share.
_MATCH = (
    "seed",
    "model.dfe_width",
    "model.vgg_weights",
    "train.turn_apart",
    "train.validate_every",
    "match.teacher_steps",
    "match.student_steps",
    "match.batch",
    "match.lr",
)

# The losses of Eq. 8, for families that have none of their own.
_LOSSES = ("loss.rec", "loss.perc", "loss.grad", "loss.adv", "loss.perc_norm", "loss.gradient_penalty")

# What an evaluation depends on besides the checkpoint, whose own parameters travel with it.
_MEASUREMENT = ("evaluation.border", "evaluation.padding", "evaluation.protocol")
_EVALUATION = (
    *_MEASUREMENT,
    "search.memory",
    "evaluation.precision",
    "evaluation.compile",
    "evaluation.reuse_memory",
)
# How pairs are cropped. Where the photographs come from is what a download depends on.
_TRAIN_PAIRS = tuple(key for key in TrainData.model_fields if key != "folder")


def download_keys(name: str) -> tuple[str, ...]:
    """Keys of `extracter download NAME`; of `data.local`, which names several sets, the set's own entry counts."""
    if name == "train":
        return ("data.train.source", "data.train.folder", "data.local.train")
    block = f"data.tests.{name}"
    return (f"{block}.source", f"{block}.folder", f"data.local.{name}", "evaluation.every")


def prepare_keys(name: str, references: str | None = None) -> tuple[str, ...]:
    """Keys of `extracter prepare NAME`.

    Args:
        name: `train` or a test set.
        references: `data.tests.NAME.references`: only `random` ones are drawn from the seed. None for the keys
            whatever it is, which DVC's stages need: their text is the same for all values.
    """
    if name == "train":
        return ("seed", *(f"data.train.{key}" for key in _TRAIN_PAIRS))
    seed = ("seed",) if references in (None, "random") else ()
    return (*seed, f"data.tests.{name}.source", f"data.tests.{name}.references")


def network_keys(family: str) -> tuple[str, ...]:
    """Keys that a family's networks are made from: checkpoints trained with other values of them do not serve."""
    return tuple(sorted({*FAMILIES[family].arguments.values()}))


def weight_keys(family: str) -> tuple[str, ...]:
    """The keys of `network_keys` that a checkpoint must share with a training that starts from its weights."""
    return tuple(key for key in network_keys(family) if key not in _NOT_TRAINED)


def train_keys(family: str, phase: str) -> tuple[str, ...]:
    """Keys of `extracter train-rec FAMILY` (phase `rec`) and `extracter train-full FAMILY` (phase `full`)."""
    losses = _LOSSES if phase == "full" and FAMILIES[family].losses is None else ()
    gated = _GATED if "model.gate" in network_keys(family) else ()
    return tuple(sorted({*network_keys(family), *PHASES[phase], *losses, *gated}))


def match_keys() -> tuple[str, ...]:
    """Keys of `extracter train-match`."""
    return _MATCH


def evaluate_keys(variant: str) -> tuple[str, ...]:
    """Keys of `extracter evaluate VARIANT`: a trained network must be the one that the parameters describe.

    Bicubic depends on how it is measured alone. The released network, or any other that is not trained here, brings
    its own.
    """
    if variant == "bicubic":
        return _MEASUREMENT
    family = variant.removesuffix("-rec")
    network = network_keys(family) if family in FAMILIES else ()
    return tuple(sorted({*network, *_EVALUATION}))


def level_keys(variant: str) -> tuple[str, ...]:
    """Keys of `extracter evaluate-levels VARIANT`, which takes whole images and keeps no memory for the next one."""
    other = {*_MEASUREMENT, "evaluation.compile", "evaluation.reuse_memory"}
    return tuple(key for key in evaluate_keys(variant) if key not in other)


def kernel_keys() -> tuple[str, ...]:
    """Keys of `extracter kernel-sweep`, which runs Extracter-rec with another kernel."""
    return tuple(
        sorted({*network_keys("extracter"), "search.memory", "evaluation.precision", "evaluation.memory_budget_gib"})
    )


def pick(keys: Iterable[str], **blocks: Any) -> dict[str, dict[str, Any]]:
    """Of some blocks the values of `keys`, as plain values.

    Args:
        keys: dotted, such as `train.lr`; keys of other blocks are passed over.
        blocks: by name, such as `train`; they may hold more than the keys, and be None where none is theirs.

    Returns:
        The values by block and key, blocks in the given order, keys in that of params.yaml.
    """
    wanted = set(keys)
    return {
        name: {key: value for key, value in block.model_dump(mode="json").items() if f"{name}.{key}" in wanted}
        for name, block in blocks.items()
        if block is not None
    }
