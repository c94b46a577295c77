"""The systems of Table 1: one row each, from which training, evaluation, the workflow, tables and figures follow.

Nothing here needs PyTorch, so that Snakemake and `--help` can read it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Losses:
    """Weights of the losses after the reconstruction phase; all images in [-1, 1], VGG's input normalised.

    Attributes:
        rec: mean absolute difference.
        perc: of VGG19's features.
        perc_norm: mean absolute (`l1`) or squared (`mse`) difference, or its Euclidean norm over the batch (`norm`).
        perc_layer: relu5_1, or conv5_4 before its ReLU.
        grad: gradient density (Extracter).
        transferal: squared difference of the texture extractor's features of SR and the transferred ones (TTSR).
        texture: squared difference of their Gram matrices (SRNTT).
        adv: adversarial.
        gan: `wgan` with gradient penalty, or `relativistic` with cross entropy.
        gradient_penalty: lambda of WGAN-GP.
    """

    rec: float = 1.0
    perc: float = 0.0
    perc_norm: Literal["l1", "mse", "norm"] = "l1"
    perc_layer: Literal["relu5_1", "conv5_4"] = "relu5_1"
    grad: float = 0.0
    transferal: float = 0.0
    texture: float = 0.0
    adv: float = 0.0
    gan: Literal["wgan", "relativistic"] = "wgan"
    gradient_penalty: float = 10.0


@dataclass(frozen=True)
class Protocol:
    """How a system's publication measures PSNR and SSIM, where `evaluation.protocol: native` asks for it.

    Attributes:
        border: pixels at each edge that are left out.
        padding: `zeros`: input and references are extended by zeros below and right to one size before LR is made.
    """

    border: int = 0
    padding: Literal["none", "zeros"] = "none"


@dataclass(frozen=True)
class Family:
    """A system.

    Attributes:
        title: its name in print.
        network: module below `extracter.models` and class.
        arguments: of the class: the key of the parameters that gives each.
        losses: of its second phase; None: those of the block `loss` (Eq. 8).
        phases: of its training, in order. `match` trains the matcher that the others keep frozen.
        native: parameters of the block `train` where its own schedule is taken (`train.regime: native`).
        several: what the network does with several references.
        protocol: of its publication's figures.
    """

    title: str
    network: tuple[str, str]
    arguments: Mapping[str, str]
    losses: Losses | None = None
    phases: tuple[str, ...] = ("rec", "full")
    native: Mapping[str, Any] = field(default_factory=dict)
    several: str = "searched together"
    protocol: Protocol = Protocol()


_COMMON = {"features": "model.features"}
_VGG = {"dfe_width": "model.dfe_width", "memory": "search.memory"}
_SKIP = {"bicubic_skip": "model.bicubic_skip"}
# What TTSR's network is made from, and that of DPFSR, which exchanges two of its parts.
_TTSR = {**_COMMON, **_VGG, **_SKIP, "blocks": "model.ttsr_blocks"}
_TTSR_LOSSES = Losses(perc=1e-2, perc_norm="mse", transferal=1e-2, adv=1e-3)
_NO_SWAP = {"swap": 0.0}


def _of_c2(title: str, network: tuple[str, str], **native: Any) -> Family:
    """C2-Matching, or a system that keeps its matcher; `native` is where its own schedule differs."""
    schedule = {"rec_steps": 255_000, "full_steps": 255_000, "schedule": "steps", "decay_at": [0.284, 0.828]}
    return Family(
        title,
        network,
        {**_COMMON, **_VGG, "blocks": "model.c2_blocks"},
        # In [0, 1], as C2-Matching and MASA have their images, the reconstruction loss is half as large.
        Losses(rec=0.5, perc=1e-4, perc_norm="norm", adv=1e-6),
        ("match", "rec", "full"),
        native={**schedule, **_NO_SWAP, **native},
        several="one result each, merged by matching scores",
        protocol=Protocol(border=4, padding="zeros"),
    )


# In the order of Table 1, then the anchors that the paper does not have.
FAMILIES: dict[str, Family] = {
    "srntt": Family(
        "SRNTT",
        ("srntt", "SRNTT"),
        {**_COMMON, **_VGG, **_SKIP, "blocks": "model.srntt_blocks"},
        # Published for VGG19 on values of 0 to 255, whose features are about 58 times as large: 1e-4 58^2, 1e-4 58^4.
        Losses(perc=0.34, perc_norm="mse", texture=1.1e3, adv=1e-6),
        native={"rec_steps": 6_600, "full_steps": 132_000, "schedule": "steps", "decay_at": [0.5], **_NO_SWAP},
    ),
    "ttsr": Family(
        "TTSR",
        ("ttsr", "TTSR"),
        _TTSR,
        _TTSR_LOSSES,
        native={"rec_steps": 263_800, "full_steps": 68_600, "schedule": "constant", **_NO_SWAP},
    ),
    "ssen": Family(
        "SSEN",
        ("ssen", "SSEN"),
        {**_COMMON, "blocks": "model.ssen_blocks"},
        Losses(perc=1e-2, perc_norm="mse", adv=1e-3),
        several="aligned one by one, merged by similarity",
    ),
    "dpfsr": Family("DPFSR", ("dpfsr", "DPFSR"), _TTSR, _TTSR_LOSSES),
    "c2": _of_c2("C2-Matching", ("c2_matching", "C2Matching")),
    "extracter": Family(
        "Extracter",
        ("extracter", "Extracter"),
        {
            **_COMMON,
            **_VGG,
            **_SKIP,
            **{key: f"model.{key}" for key in ("ife_blocks", "csfi_blocks", "gde_blocks", "textures")},
            **{key: f"model.{key}" for key in ("align", "gate", "trust", "idle", "registration")},
            **{key: f"search.{key}" for key in ("kernel", "stride", "padding", "strategy")},
        },
    ),
    "masa": Family(
        "MASA",
        ("masa", "MASA"),
        {**_COMMON, "blocks": "model.masa_blocks"},
        Losses(rec=0.5, perc=1.0, perc_layer="conv5_4", adv=5e-3, gan="relativistic"),
        native={"rec_steps": 329_750, "full_steps": 65_950, "schedule": "cosine", "swap": 0.5},
        several="the best one for each block",
    ),
    "amsa": _of_c2("AMSA", ("c2_matching", "AMSA"), rec_steps=765_000, full_steps=765_000),
    "datsr": _of_c2("DATSR", ("datsr", "DATSR"), rec_steps=400_000, full_steps=400_000, decay_at=[0.181, 0.528]),
}


def variants_of(families: Iterable[str]) -> list[str]:
    """What is trained and evaluated of some families: the -rec model and the one with all losses, in that order."""
    return [name for family in families for name in (f"{family}-rec", family)]


def schedule_of(family: str, train: Any) -> Any:
    """The block `train` for a family: as it is, or with the family's own schedule where that is wanted."""
    return train.model_copy(update=dict(FAMILIES[family].native)) if train.regime == "native" else train
