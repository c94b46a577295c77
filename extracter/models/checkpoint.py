"""Checkpoints: folders with config.json, model.safetensors and training.json. Nothing is pickled."""

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
from extracter.presets import Model, Search


def network_class(family: str) -> type[RefSR]:
    """Return the class of a family's networks."""
    module, name = FAMILIES[family].network
    return getattr(import_module(f"extracter.models.{module}"), name)


def published_network(family: str) -> RefSR:
    """Return a family's network in its published size, on the meta device: without numbers."""
    with torch.device("meta"):
        return network_class(family)()


def build_model(family: str, model: Model, search: Search) -> RefSR:
    """Build a network of `family`, a key of `FAMILIES`, from the parameters, with new random weights."""
    blocks = {"model": model, "search": search}
    arguments = {}
    for argument, path in FAMILIES[family].arguments.items():
        block, key = path.split(".")
        arguments[argument] = getattr(blocks[block], key)
    return network_class(family)(**arguments)


def save_model(model: RefSR, tensors: dict[str, Any], folder: Path, training: dict[str, Any]) -> None:
    """Write a checkpoint folder. `Extracter.from_pretrained` reads it, too.

    Args:
        model: the network, for its configuration.
        tensors: the weights by name.
        folder: created if missing. Each file is replaced completely or not at all.
        training: provenance, for training.json.

    Raises:
        UserError: the disk is full or not writable. Files of an earlier checkpoint are unchanged.
    """
    content = save({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()})
    with atomic_path(folder / "model.safetensors") as temporary:
        temporary.write_bytes(content)
    # The hub's mixin keeps the arguments of the constructor, which are enough to build the network again.
    write_json(folder / "config.json", {"architecture": type(model).__name__, **model._hub_mixin_config})
    write_json(folder / "training.json", training)


def read_torch(path: Path) -> Any:
    """Read a file in PyTorch's format to the CPU, without running code in it.

    Returns:
        Tensors and plain containers; None if the file is damaged, of another kind, or has other content.

    Raises:
        OSError: there is no such file, or it cannot be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pickle protocols
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except OSError:
            raise
        except Exception:  # arbitrary bytes can make the unpickler raise anything
            return None


def load_model(folder: Path, unnamed: str | None = None) -> RefSR:
    """Load a network from a checkpoint folder, in evaluation mode, on the CPU.

    Args:
        folder: with config.json and model.safetensors.
        unnamed: class of a network whose configuration does not name it, as `save_pretrained` writes it; None for one
            that has the parameters of the configuration.

    Raises:
        UserError: a file is missing or damaged, or the weights do not fit the configuration.
    """
    folder = Path(folder)
    config = read_json(folder / "config.json")
    architecture = None
    if isinstance(config, dict):
        architecture = config.pop("architecture", None) or unnamed or _architecture_of(config)
    modules = {name: module for module, name in (family.network for family in FAMILIES.values())}
    modules["Matcher"] = "matcher"
    if architecture not in modules:
        raise UserError(
            f"{folder / 'config.json'}: unknown architecture {architecture!r}; known are {', '.join(modules)}"
        )
    cls = getattr(import_module(f"extracter.models.{modules[architecture]}"), architecture)
    unknown = ", ".join(sorted(set(config) - set(inspect.signature(cls).parameters)))
    if unknown:
        raise UserError(f"{folder / 'config.json'}: unknown keys {unknown}; copy, convert or train the model again")
    path = folder / "model.safetensors"
    try:
        model = cls(**config)
        model.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; a checkpoint folder has it and config.json") from None
    except SafetensorError as error:
        raise UserError(f"{path}: damaged ({error}); copy, convert or train the model again") from None
    except (RuntimeError, TypeError, ValueError) as error:
        # The first line of PyTorch's message says that there are errors; the second one names the first of them.
        reason = (str(error).strip().splitlines() or [""])[:2][-1].strip()
        reason = reason if len(reason) < 200 else f"{reason[:200].rsplit(' ', 1)[0]} ..."
        raise UserError(
            f"{path}: does not fit {folder / 'config.json'} ({reason}); copy, convert or train the model again"
        ) from None
    return model.eval()


def _architecture_of(config: dict[str, Any]) -> str:
    """Find a class that has the parameters of a configuration."""
    classes = [network_class(name) for name in FAMILIES]
    parameters = {cls.__name__: set(inspect.signature(cls).parameters) for cls in classes}
    fitting = [name for name, known in parameters.items() if set(config) <= known]
    exact = [name for name in fitting if set(config) == parameters[name]]
    return (exact or fitting or ["Extracter"])[0]
