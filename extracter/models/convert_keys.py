"""What the converters of released weights share: strict matching of names, and the files beside the main one."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from extracter.errors import UserError
from extracter.files import sha256
from extracter.models.checkpoint import save_model
from extracter.models.refsr import RefSR


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


def build(network: type[RefSR], config: dict[str, Any], source: Path) -> RefSR:
    """A network whose configuration was told from a file.

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
    """Write the checkpoint folder and say what was told from the files."""
    files = [{"file": path.name, "sha256": sha256(path)} for path in sources]
    provenance = {"family": family, "phase": "converted", "source": files[0], "beside": files[1:], "model": config}
    save_model(model, model.state_dict(), out, provenance)
    return {"architecture": type(model).__name__, **config}
