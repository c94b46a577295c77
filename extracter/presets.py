"""The schema of params.yaml: every key with its type, allowed values and meaning.

The file holds `preset`, the name of the selected preset, and `presets`, complete blocks of parameters by name.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from extracter.families import FAMILIES

Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Weight = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


References = Literal["own", "self", "random", "level_1", "level_2", "level_3", "level_4", "level_5", "pooled"]
_LEVELS = ("level_1", "level_2", "level_3", "level_4", "level_5")
# What references of a set may be; of sets that are not named here they are own, self or random.
_REFERENCES = {
    "cufed5": ("own", "self", "random", *_LEVELS, "pooled"),
    "sun80": ("own", "self", "random", "pooled"),
    "views": (*_LEVELS, "pooled", "self"),
}


class Block(BaseModel):
    """Base of all blocks. It rejects unknown keys, strings instead of numbers, infinities and NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Mixture(Block):
    """Kinds of training pairs, as relative weights, and the photographs from which they are cropped."""

    warped: Weight = Field(description="weight of pairs of a photograph and its warped copy")
    same_scene: Weight = Field(description="weight of pairs of two photographs of the same scene")
    unrelated: Weight = Field(description="weight of pairs of two unrelated photographs")
    perspective: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        description="maximum offset of a corner of a warped copy, as a fraction of the reference's width"
    )
    long_side: Annotated[int, Field(ge=512)] = Field(
        description="longer side to which larger photographs are reduced, in pixels"
    )

    @model_validator(mode="after")
    def _check(self):
        if not self.warped + self.same_scene + self.unrelated:
            raise ValueError("`warped`, `same_scene` and `unrelated` are all 0; at least one must be positive")
        return self


class TrainData(Block):
    """Training pairs: an input and a reference."""

    source: Literal["demo", "bsd200_yang91", "photographs_and_views", "cufed", "folder"] = Field(
        description="data set of the photographs"
    )
    folder: str | None = Field(
        description="folder of photographs from which pairs are cropped; only with `source: folder`"
    )
    size: Annotated[int, Field(ge=32, multiple_of=32)] = Field(
        description="height and width of the HR input, in pixels"
    )
    ref_size: Annotated[int, Field(ge=32, multiple_of=32)] | None = Field(
        description="height and width of the reference, in pixels; null: `size`"
    )
    validation_ref_size: Annotated[int, Field(ge=32, multiple_of=32)] | None = Field(
        description="height and width of the reference of validation pairs, in pixels; null: `ref_size`"
    )
    pairs: Count | None = Field(
        description="number of pairs to crop from the photographs; null if the source publishes pairs"
    )
    validation: Count = Field(description="number of these pairs held out to select the best step")
    shift: Fraction = Field(description="maximum offset between reference and input, as a fraction of `size`")
    scale: Share = Field(
        description="maximum relative change of the reference's scale; 0.1 means 0.9 to 1.1; with `mixture`, "
        "1.0 means half to twice"
    )
    rotation: Annotated[float, Field(ge=0, le=180)] = Field(description="maximum rotation of the reference, in degrees")
    photometry: Fraction = Field(
        description="maximum relative change of the reference's gain and gamma; 0.1 means 0.9 to 1.1"
    )
    mixture: Mixture | None = Field(
        description="kinds of pairs and their weights; null: overlapping crops of one photograph"
    )

    @property
    def reference_size(self) -> int:
        """Side of the reference of a training pair, pixels."""
        return self.ref_size or self.size

    @property
    def validation_reference_size(self) -> int:
        """Side of the reference of a validation pair, pixels."""
        return self.validation_ref_size or self.reference_size

    @model_validator(mode="after")
    def _check(self):
        if self.mixture is None and (self.validation_reference_size != self.size or self.reference_size != self.size):
            raise ValueError("`ref_size` and `validation_ref_size` differ from `size` only with `mixture`")
        if self.mixture is None and self.scale == 1:
            raise ValueError("`scale` is 1: without `mixture` the reference would show a single point; lower it")
        if self.mixture is None and self.source == "photographs_and_views":
            raise ValueError("`source: photographs_and_views` needs a `mixture`")
        if self.mixture is not None and self.source not in ("photographs_and_views", "folder"):
            raise ValueError("`mixture` goes with `source: photographs_and_views` or `folder`")
        if (self.folder is not None) != (self.source == "folder"):
            raise ValueError("`folder` must be a path if `source` is `folder`, and null otherwise")
        if (self.pairs is None) != (self.source == "cufed"):
            raise ValueError(
                "`pairs` must be null if `source` is `cufed`, which publishes pairs, and a number otherwise"
            )
        return self


class TestData(Block):
    """A test set and the source of its references."""

    __test__ = False  # pytest would collect it because of its name

    source: Literal["demo", "published", "folder", "none"] = Field(
        description="origin of the images; none: the set is left out"
    )
    folder: str | None = Field(description="folder of photographs to test on; only with `source: folder`")
    references: References = Field(
        description="own: published with the set, of several the first; self: bicubic enlargement of the input; "
        "random: another image; pooled: all that are published; of cufed5 and views also the one of a level"
    )

    @model_validator(mode="after")
    def _check(self):
        if (self.folder is not None) != (self.source == "folder"):
            raise ValueError("`folder` must be a path if `source` is `folder`, and null otherwise")
        if self.source == "folder" and self.references not in ("self", "random"):
            raise ValueError("a folder of photographs publishes no references: allowed are self, random")
        return self


class Data(Block):
    """Sources of the images."""

    mirror: str | None = Field(
        description="folder or http(s) address to use instead of the host of the pinned files; null: that host"
    )
    local: dict[Name, str] = Field(
        description="for sets that you downloaded yourself: name of the set -> folder or archive"
    )
    train: TrainData
    tests: dict[Name, TestData] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self):
        for name, test in self.tests.items():
            allowed = _REFERENCES.get(name, ("own", "self", "random"))
            if test.references not in allowed and test.source != "none":
                raise ValueError(
                    f"`tests.{name}.references: {test.references}`: of {name} allowed are {', '.join(allowed)}"
                )
        unknown = set(self.local) - set(self.tests) - {"train"}
        if unknown:
            names = ", ".join(["train", *self.tests])
            raise ValueError(f"`local` names {', '.join(sorted(unknown))}: allowed are {names}")
        if "train" in self.tests:
            raise ValueError("`tests` must not name a set `train`, which is the training set: choose another name")
        return self


class Model(Block):
    """The network of section 3 of the paper; `SYSTEM_blocks` are of the systems that it is compared with."""

    features: Annotated[int, Field(ge=4, multiple_of=2)] = Field(
        description="channels of all layers outside the DFE; 64 in the paper"
    )
    dfe_width: Count = Field(
        description="channels of the DFE's first level; the others have 2 and 4 times as many; 64 in VGG19"
    )
    vgg_weights: Literal["imagenet", "random"] = Field(
        description="initial weights of the DFE, and the weights of the perceptual loss"
    )
    ife_blocks: Whole = Field(description="residual blocks of IFE and of GFE; 4 in the paper")
    csfi_blocks: Annotated[list[Whole], Field(min_length=3, max_length=3)] = Field(
        description="residual blocks in CSFI's stages 1 to 3, where stage n has n scales; 16, 8, 4 in the paper"
    )
    gde_blocks: Annotated[list[Whole], Field(max_length=3)] = Field(
        description="residual blocks in GDE's levels, coarsest first; 9, 9, 9 in the paper; []: no GDE"
    )
    ttsr_blocks: Annotated[list[Whole], Field(min_length=4, max_length=4)] = Field(
        description="residual blocks of TTSR and DPFSR: extractor, then stages 1 to 3; 16, 16, 8, 4 as published"
    )
    srntt_blocks: Count = Field(
        description="residual blocks of SRNTT: extractor and small scale; the others have 1/2 and 1/4; 16 as published"
    )
    ssen_blocks: Annotated[list[Whole], Field(min_length=2, max_length=2)] = Field(
        description="residual blocks of SSEN: extractor of both images, and body; 5, 16 is our reading"
    )
    c2_blocks: Whole = Field(
        description="residual blocks of C2-Matching and AMSA: content extractor and each scale; 16 as published; a "
        "quarter of it are the transformer blocks in each group of DATSR"
    )
    masa_blocks: Annotated[list[Whole], Field(min_length=5, max_length=5)] = Field(
        description="residual blocks of MASA: encoder's and decoder's levels, then scales 1x, 2x, 4x; 4, 2, 12, 8, 4 "
        "as published"
    )
    textures: Annotated[int, Field(ge=1, le=8)] = Field(
        description="u, the number of matches whose textures are transferred to each query"
    )
    bicubic_skip: bool = Field(description="add the bicubic enlargement to the network's output; not in the paper")
    align: bool = Field(
        description="Extracter: move each match by whole pixels to where the images agree best; not in the paper"
    )
    gate: bool = Field(
        description="Extracter: weigh matches by learned trust, not by their scores; needs `align`; not in the paper"
    )
    trust: Annotated[list[Share], Field(min_length=2, max_length=2)] | None = Field(
        description="Extracter: two bounds of the gate's largest weight, averaged over 13 x 13 queries. Below the "
        "first the reference is ignored; from the second on the gate's weights apply. Not in training. Needs `gate`; "
        "not in the paper"
    )
    idle: list[Share] | None = Field(
        description="Extracter: weights of the fusion, one for each rank, where the reference is ignored; needs `trust`"
    )
    registration: bool = Field(
        description="Extracter: search a copy of each reference that is warped onto the input, too; not in the paper, "
        "and not in training"
    )

    @model_validator(mode="after")
    def _check(self):
        if len(self.gde_blocks) not in (0, 3):
            raise ValueError("`gde_blocks` must have three numbers, one for each level, or none")
        if self.vgg_weights == "imagenet" and self.dfe_width != 64:
            raise ValueError("`vgg_weights: imagenet` needs `dfe_width: 64`, the width of VGG19")
        if bool(self.trust) != bool(self.idle) or (self.trust and not self.gate):
            raise ValueError("`trust` and `idle` go together, and need `gate: true`")
        if self.trust and self.idle and (self.trust[0] >= self.trust[1] or len(self.idle) != self.textures):
            raise ValueError("`trust` takes two rising numbers, and `idle` one for each of the `textures`")
        if self.gate and not self.align:
            raise ValueError("`gate: true` needs `align: true`: it weighs matches by what alignment finds")
        return self


class Search(Block):
    """The patch search of section 3.2. Feature pixels are those of the DFE's deepest level."""

    kernel: Count = Field(description="side of a patch, in feature pixels (4 image pixels); 6 in the paper")
    stride: Count = Field(description="distance between patches, in feature pixels; 2 in the paper")
    padding: Whole = Field(
        description="width of the zero padding around the features, in feature pixels; 2 in the paper"
    )
    strategy: Literal["two_stage", "direct"] = Field(
        description="two_stage: search again among the best keys (Eq. 5); direct: the u best keys (Eq. 4)"
    )
    memory: Positive | None = Field(description="memory for tiles of scores, in MiB; null: a default for the device")

    @model_validator(mode="after")
    def _check(self):
        if self.stride > self.kernel:
            raise ValueError("`stride` is larger than `kernel`: there would be gaps between patches")
        if self.padding >= self.kernel:
            raise ValueError("`padding` is not smaller than `kernel`: some patches would hold nothing but padding")
        return self


class Loss(Block):
    """The loss of Eq. 8: weights of its terms, and their settings."""

    rec: Weight = Field(description="weight of the reconstruction loss")
    perc: Weight = Field(description="weight of the perceptual loss")
    grad: Weight = Field(description="weight of the gradient density loss")
    adv: Weight = Field(description="weight of the adversarial loss")
    perc_norm: Literal["l1", "mse"] = Field(
        description="distance between features in the perceptual loss; l1 in the paper"
    )
    gradient_penalty: Weight = Field(description="weight of WGAN-GP's gradient penalty in the critic's loss")


class Train(Block):
    """Training: length, optimiser, augmentation and precision."""

    batch: Count = Field(description="pairs per step")
    rec_steps: Count = Field(description="steps of the -rec phase, which has the reconstruction loss alone")
    full_steps: Count = Field(description="steps of the phase with all losses, which starts from the -rec weights")
    lr: Positive = Field(description="Adam's learning rate, for all weights outside the DFE")
    dfe_lr: Weight = Field(description="Adam's learning rate for the DFE; 0 freezes the DFE")
    gate_lr: Weight | None = Field(
        description="Adam's learning rate for Extracter's gate; 0 freezes the gate, and `model.trust` then holds in "
        "training, too; null: `lr`"
    )
    beta1: Fraction = Field(description="Adam's beta1: decay of the gradient's running mean")
    beta2: Fraction = Field(description="Adam's beta2: decay of the squared gradient's running mean")
    eps: Positive = Field(description="Adam's epsilon, which is added to the denominator")
    regime: Literal["common", "native"] = Field(
        description="native: steps, schedule and swap of each system's own publication where they are known"
    )
    schedule: Literal["constant", "cosine", "steps"] = Field(
        description="learning rates over a phase: constant, cosine decay to 0, or a tenth after each of `decay_at`"
    )
    decay_at: list[Share] = Field(description="shares of a phase after which `schedule: steps` takes a tenth")
    critic_steps: Count = Field(description="updates of the critic per step of the network")
    critic_lr: Positive = Field(description="learning rate of the critic's Adam")
    critic_beta1: Fraction = Field(description="beta1 of the critic's Adam")
    critic_beta2: Fraction = Field(description="beta2 of the critic's Adam")
    swap: Share = Field(
        description="probability that input and reference are exchanged; no effect where their sizes differ"
    )
    turn_apart: Share = Field(
        description="probability that the reference is flipped and rotated independently of the input"
    )
    self_reference: Share = Field(description="probability that the reference is the bicubic enlargement of the input")
    other_reference: Share = Field(description="probability that the reference is that of another pair")
    without_reference: Share = Field(
        description="share of the pairs of each step that are trained without their reference, by an Extracter with "
        "`model.trust`; other networks need references"
    )
    ema: Fraction = Field(
        description="decay of the exponential moving average of the weights, which is what is saved; after n steps at "
        "most (1 + n) / (10 + n); 0: no average"
    )
    clip: Positive | None = Field(description="gradients are scaled down to this total norm; null: no clipping")
    channels_last: bool = Field(description="channels-last memory format, which is faster on most hardware")
    compile: bool = Field(description="compile the convolutional parts with torch.compile; needs a C++ compiler")
    deterministic: bool = Field(
        description="deterministic kernels only: two runs on one machine give the same bits; false is faster on GPUs"
    )
    tf32: bool = Field(description="TensorFloat-32 for float32 products on GPUs: faster; matches may differ")
    validate_every: Count = Field(description="steps between validations")
    checkpoint_every: Count = Field(
        description="steps between saved states, from which an interrupted training resumes"
    )
    devices: Count = Field(
        description="GPUs, or processes on the CPU, that train one network together on each machine; they share "
        "`batch`, and results depend on their number by rounding alone"
    )
    nodes: Count = Field(description="machines that train one network together")
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field(
        description="float32 throughout, or autocast to bfloat16 or float16, as Lightning Fabric names it"
    )

    @model_validator(mode="after")
    def _check(self):
        if self.self_reference + self.other_reference > 1:
            raise ValueError("the sum of `self_reference` and `other_reference` is larger than 1")
        return self


class Match(Block):
    """Training of the matcher of C2-Matching, AMSA and DATSR, which comes before theirs and stays as it is in them."""

    teacher_steps: Count = Field(description="steps of the teacher, which sees HR; 5,000 as published")
    student_steps: Count = Field(description="steps of the student, which sees LR_up; 75,000 as published")
    batch: Count = Field(description="images in a step; 8 as published")
    lr: Positive = Field(description="learning rate of Adam; 1e-3 as published")


class Evaluation(Block):
    """What is measured, and how."""

    every: Count = Field(description="n: evaluate every n-th image of a set; 1: all")
    border: Whole = Field(
        description="pixels at each edge that PSNR and SSIM leave out; 4 in the papers of C2-Matching, AMSA and DATSR"
    )
    padding: Literal["none", "zeros"] = Field(
        description="zeros: input and references are extended by zeros below and right to one size before LR is made, "
        "as in the code of C2-Matching, AMSA and DATSR"
    )
    protocol: Literal["common", "native"] = Field(
        description="common: `border` and `padding` for all systems; native: each system's own, where it has a "
        "publication"
    )
    kernels: Annotated[list[Annotated[int, Field(ge=3, le=48, multiple_of=3)]], Field(min_length=1)] = Field(
        description="kernels of Table 3; stride and padding are a third of the kernel"
    )
    kernel_sets: Annotated[list[Name], Field(min_length=1)] = Field(description="test sets of Table 3")
    level_sets: list[Name] = Field(
        description="test sets of Table 4, whose references have levels: views, and cufed5 with references of its own"
    )
    precision: Literal["32-true", "bf16-mixed"] = Field(
        description="precision of the networks under test; features and search are always float32"
    )
    compile: bool = Field(description="compile the networks under test with torch.compile; needs a C++ compiler")
    reuse_memory: bool = Field(
        description="on the CPU, keep freed memory for the next layer: a fifth less time, up to twice the memory"
    )
    parts: Count = Field(
        description="jobs among which each test set is divided, for clusters; the figures are the same bytes"
    )
    memory_budget_gib: Positive = Field(description="memory limit of a run of Table 3, in GiB; 24 in the paper")


class Preset(Block):
    """Every parameter of a run."""

    systems: Annotated[list[Literal[tuple(FAMILIES)]], Field(min_length=1)] = Field(  # type: ignore[valid-type]
        description="systems that the workflow trains and Table 1 measures; Extracter must be among them"
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        description="seed of initial weights, batches, random references and stand-ins"
    )
    data: Data
    model: Model
    search: Search
    loss: Loss
    train: Train
    match: Match
    evaluation: Evaluation

    @model_validator(mode="after")
    def _check(self):
        if "extracter" not in self.systems:
            raise ValueError("`systems` must have `extracter` among them, whose tables these are")
        if len(set(self.systems)) < len(self.systems):
            raise ValueError("`systems` names one twice")
        for key in ("kernel_sets", "level_sets"):
            unknown = set(getattr(self.evaluation, key)) - set(self.data.tests)
            if unknown:
                raise ValueError(
                    f"`evaluation.{key}` names {', '.join(sorted(unknown))}: allowed are {', '.join(self.data.tests)}"
                )
        available = [name for name, test in self.data.tests.items() if test.source != "none"]
        if not available:
            raise ValueError("`data.tests` has no set with a source: nothing would be measured")
        if not set(self.evaluation.kernel_sets) & set(available):
            raise ValueError(
                f"`evaluation.kernel_sets` names no set that has a source: Table 3 would be empty; available are "
                f"{', '.join(available)}"
            )
        if self.train.without_reference and self.model.trust is None:
            raise ValueError("`train.without_reference` needs `model.trust`: without it a network needs references")
        for name in set(self.evaluation.level_sets) & set(available):
            if name != "views" and (name != "cufed5" or self.data.tests[name].references in ("self", "random")):
                raise ValueError(
                    f"`evaluation.level_sets` names {name}, whose references have no levels: allowed are views, and "
                    "cufed5 with references of its own"
                )
        return self


class Params(Block):
    """The content of params.yaml."""

    preset: str
    presets: dict[Name, Preset] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self):
        if self.preset not in self.presets:
            raise ValueError(f"`preset: {self.preset}` does not exist: allowed are {', '.join(self.presets)}")
        return self

    @property
    def selected(self) -> Preset:
        """The preset that `preset` names."""
        return self.presets[self.preset]
