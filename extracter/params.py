"""params.yaml, typed and validated: the one place that knows its keys.

A file holds `preset`, the name of the block in use, and `presets`, complete blocks by name. Commands and Snakefile
take their parameters from here and nowhere else.
"""

import json
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from extracter.errors import UserError

Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Weight = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Block(BaseModel):
    """Base of all blocks: unknown keys, strings for numbers, infinities and NaN are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class TrainData(Block):
    """Training pairs (input, reference) of one size."""

    source: Literal["demo", "bsd200_yang91", "cufed", "folder"] = Field(description="where the photographs come from")
    folder: str | None = Field(description="photographs to cut pairs from; only with `source: folder`")
    size: Annotated[int, Field(ge=32, multiple_of=32)] = Field(description="side of input and reference, pixels")
    pairs: Count | None = Field(description="pairs cut from photographs; null where the source has its own pairs")
    validation: Count = Field(description="pairs held out to choose the best step")
    shift: Fraction = Field(description="largest offset of the reference from the input, in sides")
    scale: Fraction = Field(description="largest change of the reference's scale: 0.1 is 0.9 to 1.1")
    rotation: Annotated[float, Field(ge=0, le=180)] = Field(description="largest rotation of the reference, degrees")
    photometry: Fraction = Field(description="largest change of the reference's gain and gamma")

    @model_validator(mode="after")
    def _check(self):
        if (self.folder is not None) != (self.source == "folder"):
            raise ValueError("`folder` is a path exactly where `source` is `folder`")
        if (self.pairs is None) != (self.source == "cufed"):
            raise ValueError("`pairs` is null exactly where `source` is `cufed`, whose pairs are published")
        return self


class TestData(Block):
    """A test set and where its references come from."""

    __test__ = False  # not a test class, whatever pytest makes of the name

    source: Literal["demo", "published", "folder", "none"] = Field(description="none: the set is not available")
    folder: str | None = Field(description="photographs to test on; only with `source: folder`")
    references: Literal["own", "self", "random"] = Field(
        description="own: published with the set; self: the input's bicubic; random: another image of the set"
    )

    @model_validator(mode="after")
    def _check(self):
        if (self.folder is not None) != (self.source == "folder"):
            raise ValueError("`folder` is a path exactly where `source` is `folder`")
        if self.source == "folder" and self.references == "own":
            raise ValueError("a folder of photographs has no references of its own: allowed are self, random")
        return self


class Data(Block):
    """Where images come from."""

    mirror: str | None = Field(description="folder or http(s) address that replaces the raw host of the sources")
    local: dict[Name, str] = Field(description="folder or archive supplied by the user, by set")
    train: TrainData
    tests: dict[Name, TestData] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self):
        unknown = set(self.local) - set(self.tests) - {"train"}
        if unknown:
            allowed = ", ".join(["train", *self.tests])
            raise ValueError(f"`local` names {', '.join(sorted(unknown))}: allowed are {allowed}")
        if "train" in self.tests:
            raise ValueError("`tests` names a set `train`, which is the training set: choose another name")
        return self


class Model(Block):
    """The network of section 3; `ttsr_blocks` is the baseline's."""

    features: Annotated[int, Field(ge=4, multiple_of=2)] = Field(description="channels throughout")
    dfe_width: Count = Field(description="channels of relu1_1, doubled twice; 64 in VGG19")
    vgg_weights: Literal["imagenet", "random"] = Field(description="of the DFE at the start and of the loss")
    ife_blocks: Whole = Field(description="residual blocks of IFE and GFE; 4 in the paper")
    csfi_blocks: Annotated[list[Whole], Field(min_length=3, max_length=3)] = Field(
        description="residual blocks of CSFI's stages, each on as many scales; 16, 8, 4 in the paper"
    )
    gde_blocks: Annotated[list[Whole], Field(max_length=3)] = Field(
        description="residual blocks of GDE's levels, coarsest first; 9, 9, 9 in the paper; none: without GDE"
    )
    ttsr_blocks: Annotated[list[Whole], Field(min_length=4, max_length=4)] = Field(
        description="residual blocks of the baseline: shallow extractor and three stages; 16, 16, 8, 4 as published"
    )
    textures: Annotated[int, Field(ge=1, le=8)] = Field(description="u, matches kept per query")
    bicubic_skip: bool = Field(description="predict the difference from bicubic; not in the paper")

    @model_validator(mode="after")
    def _check(self):
        if len(self.gde_blocks) not in (0, 3):
            raise ValueError("`gde_blocks` are three numbers, one for each level, or none")
        if self.vgg_weights == "imagenet" and self.dfe_width != 64:
            raise ValueError("`vgg_weights: imagenet` needs `dfe_width: 64`, the width of VGG19")
        return self


class Search(Block):
    """The search of section 3.2, at training time and wherever a kernel is not named."""

    kernel: Count = Field(description="side of a patch in pixels of the deepest features; 6 in the paper")
    stride: Count = Field(description="between patches, in the same pixels; 2 in the paper")
    padding: Whole = Field(description="zeros around the features, in the same pixels; 2 in the paper")
    strategy: Literal["two_stage", "direct"] = Field(
        description="two_stage: re-search of Eq. 5; direct: top-u of Eq. 4"
    )
    memory: Positive | None = Field(description="MiB for score tiles; null: sized from the device")

    @model_validator(mode="after")
    def _check(self):
        if self.stride > self.kernel:
            raise ValueError("`stride` is larger than `kernel`: patches would leave gaps")
        if self.padding >= self.kernel:
            raise ValueError("`padding` is not smaller than `kernel`: patches would see nothing but padding")
        return self


class Loss(Block):
    """Weights of Eq. 8 and settings of its terms."""

    rec: Weight = Field(description="weight of the reconstruction loss")
    perc: Weight = Field(description="weight of the perceptual loss")
    grad: Weight = Field(description="weight of the gradient density loss")
    adv: Weight = Field(description="weight of the adversarial loss")
    perc_norm: Literal["l1", "mse"] = Field(description="norm of the perceptual loss; l1 in the paper")
    gradient_penalty: Weight = Field(description="lambda of WGAN-GP")


class Train(Block):
    """Optimiser, schedule and length."""

    batch: Count = Field(description="pairs a step")
    rec_steps: Count = Field(description="steps with the reconstruction loss alone")
    full_steps: Count = Field(description="steps with all losses, from there on")
    lr: Positive = Field(description="learning rate of Adam, all but the DFE")
    dfe_lr: Weight = Field(description="0: the DFE keeps its first weights")
    beta1: Fraction = Field(description="of Adam")
    beta2: Fraction = Field(description="of Adam")
    eps: Positive = Field(description="of Adam")
    schedule: Literal["constant", "cosine"] = Field(description="of the learning rates over a phase")
    critic_steps: Count = Field(description="critic updates a generator step")
    critic_lr: Positive = Field(description="learning rate of the critic's Adam")
    critic_beta1: Fraction = Field(description="of the critic's Adam")
    critic_beta2: Fraction = Field(description="of the critic's Adam")
    swap: Share = Field(description="probability of exchanging input and reference")
    turn_apart: Share = Field(description="probability that the reference is turned and flipped apart from the input")
    self_reference: Share = Field(description="probability that the reference is the input's own bicubic")
    other_reference: Share = Field(description="probability that it is the reference of another pair")
    ema: Fraction = Field(
        description="decay of the running average of the weights that is kept, at most (1 + n) / (10 + n) after n "
        "steps; 0: the last weights"
    )
    clip: Positive | None = Field(description="largest norm of a gradient; null: any")
    channels_last: bool = Field(description="memory format of weights and images; faster on most hardware")
    compile: bool = Field(description="torch.compile of the convolutional parts; needs a C++ compiler")
    validate_every: Count = Field(description="steps")
    checkpoint_every: Count = Field(description="steps between states that a killed run resumes from")
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field(description="of Lightning Fabric")

    @model_validator(mode="after")
    def _check(self):
        if self.self_reference + self.other_reference > 1:
            raise ValueError("`self_reference` and `other_reference` are more than 1 together")
        return self


class Evaluation(Block):
    """What is measured."""

    every: Count = Field(description="evaluate every n-th image of a set")
    kernels: Annotated[list[Annotated[int, Field(ge=3, multiple_of=3)]], Field(min_length=1)] = Field(
        description="of Table 3; stride and padding are a third"
    )
    kernel_sets: Annotated[list[Name], Field(min_length=1)] = Field(description="sets of Table 3")
    precision: Literal["32-true", "bf16-mixed"] = Field(
        description="of the networks under test; the search stays exact"
    )
    compile: bool = Field(description="torch.compile of the networks under test; needs a C++ compiler")
    reuse_memory: bool = Field(
        description="on the CPU keep freed memory for the next layer: a fifth faster, up to twice the memory"
    )
    memory_budget_gib: Positive = Field(description="what a run of Table 3 may allocate; 24 in the paper")


class Preset(Block):
    """Everything a run depends on."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(description="of weights, batches, reference lists, stand-ins")
    data: Data
    model: Model
    search: Search
    loss: Loss
    train: Train
    evaluation: Evaluation

    @model_validator(mode="after")
    def _check(self):
        unknown = set(self.evaluation.kernel_sets) - set(self.data.tests)
        if unknown:
            raise ValueError(
                f"`evaluation.kernel_sets` names {', '.join(sorted(unknown))}: allowed are {', '.join(self.data.tests)}"
            )
        available = [name for name, test in self.data.tests.items() if test.source != "none"]
        if not available:
            raise ValueError("`data.tests` has no set with a source: there would be nothing to measure")
        if not set(self.evaluation.kernel_sets) & set(available):
            raise ValueError(
                f"`evaluation.kernel_sets` names no set that has a source: Table 3 would be empty; available are "
                f"{', '.join(available)}"
            )
        return self


class Params(Block):
    """The whole of params.yaml."""

    preset: str
    presets: dict[Name, Preset] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self):
        if self.preset not in self.presets:
            raise ValueError(f"`preset: {self.preset}` does not exist: allowed are {', '.join(self.presets)}")
        return self

    @property
    def selected(self) -> Preset:
        """The block that `preset` names."""
        return self.presets[self.preset]


def _descend(kind: Any, part: Any) -> Any:
    """The annotation of what stands under key `part` of `kind`; None where nothing is known of it."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is dict:
        return get_args(kind)[1]
    if isinstance(kind, type) and issubclass(kind, BaseModel) and part in kind.model_fields:
        field = kind.model_fields[part]
        return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    return None


def _allowed_at(location: tuple) -> str:
    """The keys that may stand beside the last part of `location`, for an error message."""
    kind = reduce(_descend, location[:-1], Params)
    return ", ".join(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else ""


def _explain(error: ValidationError, where: str, prefix: tuple = ()) -> UserError:
    problems = []
    for item in error.errors():
        location = (*prefix, *item["loc"])
        path = ".".join(str(part) for part in location)
        given = "" if item["type"] in ("extra_forbidden", "missing") else f" (given: {item['input']!r})"
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "value_error":
            given = ""
        if item["type"] == "extra_forbidden":
            message = f"unknown key; allowed are {_allowed_at(location)}"
        elif item["type"] == "missing":
            message = "missing"
        elif item["type"] == "float_type" and isinstance(item["input"], str):
            message = "a number is wanted; write 1.0e-4, not 1e-4, which YAML 1.1 reads as text"
        problems.append(f"{path}{': ' if path else ''}{message}{given if len(given) < 80 else ''}")
    # A typo is an unknown key and a missing one: the former tells more.
    problems.sort(key=lambda problem: problem.endswith(": missing"))
    return UserError(f"{where}: " + "; ".join(problems))


def validate(config: dict, where: str = "params.yaml") -> Params:
    """Check a dictionary as read from params.yaml.

    Raises:
        UserError: names each offending key by its path and says what is allowed.
    """
    try:
        return Params.model_validate(config)
    except ValidationError as error:
        raise _explain(error, where) from None


def read(path: Path) -> Params:
    """Read and check a parameter file.

    Raises:
        UserError: the file is missing, is not YAML, or holds something that is not allowed.
    """
    try:
        config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except IsADirectoryError:
        raise UserError(f"{path}: a folder; name the parameter file in it") from None
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the project's folder or name one with --params") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(config, dict):
        raise UserError(f"{path}: holds no keys; `preset` and `presets` are wanted")
    return validate(config, str(path))


def select(path: Path, preset: str | None) -> Params:
    """Read and check a parameter file, and have another preset in use than the file says.

    Args:
        path: parameter file.
        preset: name; None for the one that the file selects.

    Raises:
        UserError: as `read`, and where there is no such preset.
    """
    checked = read(path)
    return checked if preset is None else validate({**checked.model_dump(), "preset": preset}, str(path))


def dump_blocks(preset: Preset, *names: str) -> str:
    """The named blocks as one line of JSON, for `--params`.

    Args:
        preset: the preset in use.
        names: dotted paths below the preset, such as `seed` or `data.tests.set14`.
    """
    values = preset.model_dump(mode="json")
    blocks = {}
    for name in names:
        value: Any = values
        for part in name.split("."):
            value = value[part]
        blocks[name] = value
    return json.dumps(blocks, sort_keys=True)


def load_blocks(source: str, preset: str | None, *names: str) -> list[Any]:
    """The named blocks, typed, from a parameter file or from the JSON of `dump_blocks`.

    Args:
        source: path of a parameter file, or JSON text beginning with `{`.
        preset: preset to take from a file; None for the one that the file selects.
        names: dotted paths below the preset.

    Raises:
        UserError: something is missing or not allowed; the message names it.
    """
    if not source.lstrip().startswith("{"):
        source = dump_blocks(select(Path(source), preset).selected, *names)
    try:
        values = json.loads(source)
    except json.JSONDecodeError as error:
        raise UserError(f"--params: not valid JSON ({error})") from None
    blocks = []
    for name in names:
        if name not in values:
            raise UserError(f"--params: `{name}` is missing")
        try:
            blocks.append(
                TypeAdapter(reduce(_descend, name.split("."), Preset)).validate_python(values[name], strict=True)
            )
        except ValidationError as error:
            raise _explain(error, "--params", tuple(name.split("."))) from None
    return blocks
