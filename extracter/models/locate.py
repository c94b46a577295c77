"""Which model a user means: a folder, a file inside it, or by default the released one."""

import sys
from pathlib import Path

from extracter.errors import UserError
from extracter.models.checkpoint import load_model
from extracter.models.extracter import Extracter
from extracter.models.ttsr import TTSR

RELEASED = "models/extracter-rec"
TRAINED = "results/*/checkpoints/extracter*"


def find_model() -> Path:
    """The released model where there is one below the working folder, else the newest that the workflow has made.

    Raises:
        UserError: there is none; says how to get one.
    """
    found = [folder for folder in (Path(RELEASED), *Path().glob(TRAINED)) if _is_model(folder)]
    if not found:
        raise UserError(
            f"no model in {RELEASED} or {TRAINED}; name one with --model, train one with `snakemake --cores all`, or "
            "convert the authors' with `extracter convert`"
        )
    if found[0] == Path(RELEASED):
        return found[0]
    return max(found, key=lambda folder: ((folder / "model.safetensors").stat().st_mtime, folder))


def model_folder(path: Path | None) -> Path:
    """The checkpoint folder that a user means.

    Args:
        path: folder of a checkpoint, or one of the files in it; None for `find_model`'s, which is then named on stderr.

    Raises:
        UserError: there is none.
    """
    if path is None:
        path = find_model()
        print(f"extracter: model {path}", file=sys.stderr)
    path = Path(path)
    if path.suffix in (".pt", ".pth", ".ckpt"):
        raise UserError(f"{path}: not a folder; make one of it with `extracter convert {path} -o FOLDER`")
    if not path.exists():
        raise UserError(f"{path}: no such model; name a folder that holds config.json and model.safetensors")
    folder = path.parent if path.is_file() else path
    if not _is_model(folder):
        raise UserError(f"{path}: no model; name a folder that holds config.json and model.safetensors")
    return folder


def open_model(path: Path | None) -> Extracter | TTSR:
    """A model in evaluation mode on the CPU; `path` as of `model_folder`.

    Raises:
        UserError: there is none, or it is damaged.
    """
    return load_model(model_folder(path))


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() and (folder / "model.safetensors").is_file()
