"""What the converters of released weights share: strict matching of names, and the files beside the main one."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from extracter.errors import UserError
from extracter.files import sha256
from extracter.models.checkpoint import save_model
from extracter.models.refsr import RefSR
from extracter.models.vgg import MEAN, STD, initialise_vgg

# Layers of VGG16 by their places in torchvision's `features`.
_LAYERS = {"conv1_1": 0, "conv1_2": 2, "conv2_1": 5, "conv2_2": 7, "conv3_1": 10}
_MATCHER = re.compile(r"feature_extraction_image([12])\.model\.(conv\d_\d)\.(weight|bias)")
_CONSTANT = re.compile(r"feature_extraction_image[12]\.(mean|std)")


def match_keys(
    theirs: Mapping[str, Tensor], wanted: Mapping[str, Tensor], rename: Callable[[str], str | None], source: Path
) -> dict[str, Tensor]:
    """Our tensors by our names.

    Args:
        theirs: by their names.
        wanted: ours, which have the shapes.
        rename: our name of one of theirs; None where there is none.
        source: file, for the message.

    Raises:
        UserError: names the keys that are missing, unknown, or of another shape.
    """
    ours: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    unknown = []
    for name, tensor in theirs.items():
        target = rename(name)
        if target not in wanted:
            unknown.append(name)
            continue
        ours[target], origin[target] = tensor.float(), name
    missing = [name for name in wanted if name not in ours and not name.endswith("num_batches_tracked")]
    shapes = [f"{origin[n]} {tuple(x.shape)}" for n, x in ours.items() if x.shape != wanted[n].shape]
    problems = [
        f"{len(keys)} {what} ({', '.join(keys[:8])}{', ...' if len(keys) > 8 else ''})"
        for what, keys in (("unknown keys", unknown), ("keys missing, in our names", missing), ("other shapes", shapes))
        if keys
    ]
    if problems:
        raise UserError(f"{source}: {'; '.join(problems)}; it is another network's, or damaged: download it again")
    return ours


def part_of(model: nn.Module, *prefixes: str) -> dict[str, Tensor]:
    """The tensors of a network whose names begin with one of `prefixes`."""
    return {name: tensor for name, tensor in model.state_dict().items() if name.startswith(prefixes)}


def count_numbers(names: Sequence[str], prefix: str) -> int:
    """How many numbers follow `prefix` in names such as `prefix.0.weight`."""
    return len({name[len(prefix) + 1 :].split(".")[0] for name in names if name.startswith(f"{prefix}.")})


def convert_matching(model: RefSR, beside: Mapping[Path, Mapping[str, Tensor]], source: Path) -> dict[str, Tensor]:
    """Tensors of the matcher of C2-Matching and of VGG19, which is fetched where it is not among the files.

    Args:
        model: with `matcher` and `dfe`; the latter is filled where it is fetched.
        beside: tensors by file.
        source: the main file, for the message.

    Raises:
        UserError: no file holds the matcher, or one holds other names or shapes.
    """
    ours: dict[str, Tensor] = {}
    found = set()
    for path, tensors in beside.items():
        if any(_MATCHER.fullmatch(name) for name in tensors):
            found.add("matcher")
            ours |= match_keys(_without_constants(tensors, path), part_of(model, "matcher."), _rename_matcher, path)
        elif "features.0.weight" in tensors:
            found.add("vgg")
            here = {name: x for name, x in tensors.items() if f"dfe.{name}" in model.state_dict()}
            ours |= match_keys(here, part_of(model, "dfe."), lambda name: f"dfe.{name}", path)
    if "matcher" not in found:
        raise UserError(f"{source}: the matching network is in another file; name feature_extraction.pth with --with")
    if "vgg" not in found:
        initialise_vgg(model.dfe, "imagenet", 0)
    return ours


def _rename_matcher(name: str) -> str | None:
    found = _MATCHER.fullmatch(name)
    if not found or found[2] not in _LAYERS:
        return None
    return f"matcher.{'query' if found[1] == '1' else 'key'}.features.{_LAYERS[found[2]]}.{found[3]}"


def _without_constants(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors without ImageNet's mean and deviation, which are built in.

    Raises:
        UserError: they have other values, so that our network would compute something else.
    """
    expected = {"mean": MEAN, "std": STD}
    kept = {}
    for name, tensor in tensors.items():
        found = _CONSTANT.fullmatch(name)
        if not found:
            kept[name] = tensor
        elif not torch.allclose(tensor.flatten().float(), torch.tensor(expected[found[1]]), atol=1e-4):
            raise UserError(f"{path}: {name} is not ImageNet's; download the file again")
    return kept


def build(network: type[RefSR], config: dict[str, Any], source: Path) -> RefSR:
    """A network whose configuration was inferred from a file.

    Raises:
        UserError: there is no such network.
    """
    try:
        return network(**config)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{source}: no network has these shapes ({error}); is it another model's file?") from None


def save_converted(
    model: RefSR, family: str, config: dict[str, Any], sources: Sequence[Path], out: Path
) -> dict[str, Any]:
    """Write the checkpoint folder and say what was inferred from the files."""
    files = [{"file": path.name, "sha256": sha256(path)} for path in sources]
    provenance = {"family": family, "phase": "converted", "source": files[0], "beside": files[1:], "model": config}
    save_model(model, model.state_dict(), out, provenance)
    return {"architecture": type(model).__name__, **config}
