"""Find the checkpoint that a user names: a folder, a file in it, a model on the Hugging Face hub, or none."""

import re
from pathlib import Path

from huggingface_hub import snapshot_download

from extracter.errors import UserError
from extracter.models.checkpoint import load_model
from extracter.models.refsr import RefSR

# Ships inside the package, so that `upscale` works from any folder.
RELEASED = Path(__file__).parents[1] / "released" / "extracter-rec"
_FILES = ("config.json", "model.safetensors", "training.json")
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(@[\w./-]+)?")


def model_folder(model: str | Path | None = None) -> Path:
    """Return the checkpoint folder that `model` means.

    Args:
        model: a checkpoint folder; a file in one; an id on the Hugging Face hub, `owner/name` or `owner/name@revision`,
            which is downloaded unless a local path has that name; None for the released model.

    Returns:
        A folder with config.json and model.safetensors.

    Raises:
        UserError: no such path, not a checkpoint, or a download that failed.
    """
    if model is None:
        return RELEASED
    path = Path(model)
    if path.suffix in (".pt", ".pth", ".ckpt"):
        raise UserError(f"{path}: not a checkpoint folder; convert it with `extracter convert {path} -o FOLDER`")
    if not path.exists():
        if _HUB_ID.fullmatch(str(model)):
            return _download(str(model))
        raise UserError(f"{path}: no such model; name a folder with config.json and model.safetensors, or a hub id")
    folder = path.parent if path.is_file() else path
    if not _is_model(folder):
        raise UserError(f"{path}: not a model; name a folder with config.json and model.safetensors")
    return folder


def open_model(model: str | Path | None = None) -> RefSR:
    """Load a model for inference, on the CPU.

    Args:
        model: as for `model_folder`.

    Raises:
        UserError: as `model_folder`; or a checkpoint that is damaged.
    """
    return load_model(model_folder(model))


def _download(name: str) -> Path:
    """Fetch a model from the Hugging Face hub into its cache; a model that is there already needs no network."""
    repository, _, revision = name.partition("@")
    try:
        folder = Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(_FILES)))
    except (OSError, ValueError) as error:  # the hub's own errors and those of its HTTP client are OSErrors
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{name}: no such folder here, and the Hugging Face hub gave none ({reason}); check "
            "the name and the connection, or name a folder"
        ) from None
    if not _is_model(folder):
        raise UserError(f"{name}: the repository on the Hugging Face hub holds no config.json and model.safetensors")
    return folder


def _is_model(folder: Path) -> bool:
    return all((folder / name).is_file() for name in _FILES[:2])
