"""Read state dicts as people save them: with optimisers beside them, moving averages, and prefixes of wrappers."""

import re
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from extracter.errors import UserError
from extracter.models.checkpoint import read_torch

# Keys under which programs save a state dict, in the order of preference: a moving average goes before the weights
# that it averages.
_WRAPPERS = (
    "params_ema", "model_ema", "ema_state_dict", "state_dict_ema", "ema", "params", "state_dict", "model_state_dict",
    "model_state", "model", "net", "netG", "net_g", "generator", "network", "module", "weights",
)  # fmt: skip
# Prefixes of DistributedDataParallel and torch.compile stand anywhere in a name, those of a training class before it.
_INSIDE = re.compile(r"(^|\.)(?:module|_orig_mod)\.")
_AHEAD = re.compile(r"^(?:model|net|netG|net_g|generator|network|student)\.")


def read_state(source: Path) -> dict[str, Tensor]:
    """Read the tensors of a state dict by their own names.

    Args:
        source: a file of PyTorch (`.pt`, `.pth`, `.ckpt`), of which nothing is run, or a `.safetensors` file.

    Raises:
        UserError: it cannot be read, or it holds no state dict.
    """
    try:
        content = read_torch(source)
        if content is None:
            content = load_file(source)
    except SafetensorError:
        raise UserError(
            f"{source}: not a file of weights alone, of PyTorch or safetensors, or damaged; nothing in it was run; "
            "download it again"
        ) from None
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({error.strerror or error}); name the downloaded file") from None
    while isinstance(content, dict):
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), dict) and content[key]), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, dict) or not content or not all(isinstance(x, Tensor) for x in content.values()):
        raise UserError(f"{source}: holds no state dict; name the file of the released weights")
    state: dict[str, Tensor] = {}
    for name, tensor in content.items():
        bare = bare_name(str(name))
        if bare in state:
            raise UserError(f"{source}: holds {bare} twice, once as {name}; save one network alone")
        state[bare] = tensor
    return state


def bare_name(name: str) -> str:
    """Return a key without the prefixes of wrappers."""
    while True:
        shorter = _AHEAD.sub("", _INSIDE.sub(r"\1", name))
        if shorter == name:
            return name
        name = shorter
