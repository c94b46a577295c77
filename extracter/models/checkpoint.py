"""Checkpoints: folders with config.json, model.safetensors, training.json. Nothing is pickled."""

import inspect
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from extracter.errors import UserError
from extracter.families import FAMILIES
from extracter.files import atomic_path, read_json, write_json
from extracter.models.refsr import RefSR
from extracter.params import Model, Search


def network_class(family: str) -> type[RefSR]:
    """The class of a family's networks."""
    module, name = FAMILIES[family].network
    return getattr(import_module(f"extracter.models.{module}"), name)


def build_model(family: str, model: Model, search: Search) -> RefSR:
    """A network of `family`, a key of `FAMILIES`, as the parameters describe it, with fresh weights."""
    blocks = {"model": model, "search": search}
    arguments = {}
    for argument, path in FAMILIES[family].arguments.items():
        block, key = path.split(".")
        arguments[argument] = getattr(blocks[block], key)
    return network_class(family)(**arguments)


def save_model(model: RefSR, tensors: dict[str, Any], folder: Path, training: dict[str, Any]) -> None:
    """Write a checkpoint folder; `Extracter.from_pretrained` reads it too.

    Args:
        model: gives the configuration.
        tensors: the weights, by name.
        folder: made if missing; each file is replaced whole.
        training: provenance, for training.json.

    Raises:
        UserError: the disk is full or not writable; files of an earlier checkpoint stay as they were.
    """
    content = save({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()})
    with atomic_path(folder / "model.safetensors") as temporary:
        temporary.write_bytes(content)
    # The hub's mixin keeps the constructor's arguments, from which the same network is built again.
    write_json(folder / "config.json", {"architecture": type(model).__name__, **model._hub_mixin_config})
    write_json(folder / "training.json", training)


def read_torch(path: Path) -> Any:
    """What a file of PyTorch's own format holds, on the CPU, without running anything in it.

    Returns:
        Tensors and plain containers; None where the file is damaged, of another kind, or holds anything else.

    Raises:
        OSError: there is no such file, or it cannot be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pickle protocols
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except OSError:
            raise
        except Exception:  # whatever arbitrary bytes lead the unpickler to
            return None


def load_model(folder: Path) -> RefSR:
    """Read a checkpoint folder: the network with its weights, in evaluation mode, on the CPU.

    Raises:
        UserError: a file is missing, damaged, or does not fit the configuration beside it.
    """
    folder = Path(folder)
    config = read_json(folder / "config.json")
    architecture = config.pop("architecture", None) or _architecture_of(config) if isinstance(config, dict) else None
    families = {family.network[1]: name for name, family in FAMILIES.items()}
    if architecture not in families:
        raise UserError(
            f"{folder / 'config.json'}: unknown architecture {architecture!r}; known are {', '.join(families)}"
        )
    cls = network_class(families[architecture])
    unknown = ", ".join(sorted(set(config) - set(inspect.signature(cls).parameters)))
    if unknown:
        raise UserError(f"{folder / 'config.json'}: unknown keys {unknown}; copy, convert or train the model again")
    path = folder / "model.safetensors"
    try:
        model = cls(**config)
        model.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; a checkpoint folder holds it beside config.json") from None
    except SafetensorError as error:
        raise UserError(f"{path}: damaged ({error}); copy, convert or train the model again") from None
    except (RuntimeError, TypeError, ValueError) as error:
        # PyTorch's first line says that there are errors, the second names the first one.
        reason = (str(error).strip().splitlines() or [""])[:2][-1].strip()
        reason = reason if len(reason) < 200 else f"{reason[:200].rsplit(' ', 1)[0]} ..."
        raise UserError(
            f"{path}: does not fit {folder / 'config.json'} ({reason}); copy, convert or train the model again"
        ) from None
    return model.eval()


def _architecture_of(config: dict[str, Any]) -> str:
    """The class that a configuration fits which does not name it, as `save_pretrained` writes it."""
    classes = [network_class(name) for name in FAMILIES]
    parameters = {cls.__name__: set(inspect.signature(cls).parameters) for cls in classes}
    fitting = [name for name, known in parameters.items() if set(config) <= known]
    exact = [name for name in fitting if set(config) == parameters[name]]
    return (exact or fitting or ["Extracter"])[0]
