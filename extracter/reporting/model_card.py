"""Release a trained checkpoint: float16 weights and a model card with measurements."""

import shutil
from pathlib import Path

import torch

from extracter.errors import UserError
from extracter.files import read_json, write_text
from extracter.models.checkpoint import load_model, save_model
from extracter.models.refsr import count_parameters
from extracter.reporting.tables import METHODS, read_summaries, title

LARGEST = 20 * 2**20  # limit of the weights, in bytes
_DROPPED = 4  # of the 10 bits of float16's fraction


def release(checkpoint: Path, summaries: list[Path], about: Path, out: Path) -> None:
    """Write a released model: config.json, model.safetensors in float16, training.json, train_log.csv, README.md.

    Args:
        checkpoint: folder that training wrote.
        summaries: JSON files that `extracter evaluate` wrote for this checkpoint and for bicubic, for the card's table.
        about: Markdown for the card: the training data and its licence, and the limits of the model.
        out: folder to write.

    Raises:
        UserError: the checkpoint is incomplete or too large, the text is missing, or a summary has no counterpart.
    """
    training = read_json(checkpoint / "training.json")
    log = checkpoint / "train_log.csv"
    if not log.is_file() or "phase" not in training:
        raise UserError(f"{checkpoint}: has no train_log.csv or no provenance; name a folder that training wrote")
    model = load_model(checkpoint)
    tensors = {name: shorten(tensor) for name, tensor in model.state_dict().items()}
    size = sum(tensor.nbytes for tensor in tensors.values())
    if size > LARGEST:
        raise UserError(
            f"{checkpoint}: {size / 2**20:.1f} MiB in float16; the limit of a release is {LARGEST // 2**20} MiB"
        )
    variant = "extracter-rec" if training["phase"] == "rec" else "extracter"
    parts = [
        f"# {METHODS[variant]}",
        f"Reference-based x4 super-resolution (EXTRACTER, arXiv 2310.01379): {count_parameters(model):,} weights in "
        f"float16, {size / 1e6:.1f} MB.",
        _read(about),
        "## Training",
        _provenance(training),
        "## Figures",
        _table(variant, summaries),
        "PSNR (dB) and SSIM on Y, x4, of this model and of bicubic interpolation.",
    ]
    save_model(model, tensors, out, training)
    shutil.copyfile(log, out / log.name)
    write_text(out / "README.md", "\n\n".join(parts) + "\n")


def shorten(tensor: torch.Tensor) -> torch.Tensor:
    """Round to float16 with 6 bits of fraction, by 1/128 at most, so that a wheel compresses weights by a quarter.

    Example:
        >>> shorten(torch.tensor([1.0, 1.01, -0.3]))
        tensor([ 1.0000,  1.0156, -0.3008], dtype=torch.float16)
    """
    bits = tensor.to(torch.float16).view(torch.int16).int()
    half = (1 << (_DROPPED - 1)) - 1 + (bits >> _DROPPED & 1)  # ties go to even
    return ((bits + half) >> _DROPPED << _DROPPED).to(torch.int16).view(torch.float16)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; name a Markdown file that describes the training data") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text") from None


def _provenance(training: dict) -> str:
    params, start = training["train"], training.get("start_sha256")
    begun = "" if start is None else f"from the weights with SHA-256 `{start[:12]}...`, "
    return (
        f"{params[training['phase'] + '_steps']:,} steps of {params['batch']} pairs, {begun}{params['precision']}, "
        f"seed {training['seed']}, on {training['device']} with PyTorch {training['torch']}. The weights are those of "
        f"step {training['best_step']:,}, the best on the validation pairs ({training['validation_psnr']:.2f} dB). "
        "`training.json` holds every parameter, `train_log.csv` losses and validation PSNR."
    )


def _table(variant: str, summaries: list[Path]) -> str:
    found = read_summaries(summaries)
    lines = ["| images | references | bicubic | this model |", "|---|---|---|---|"]
    for name in dict.fromkeys(name for _, name in found):
        cells = []
        for method in ("bicubic", variant):
            if (method, name) not in found:
                raise UserError(f"{name}: no summary of {method}; name those of bicubic and of {variant}")
            cells.append(f"{found[method, name]['psnr_y']:.2f} / {found[method, name]['ssim_y']:.4f}")
        images, references = found[variant, name]["images"], found[variant, name]["references"]
        lines.append(f"| {title(name)}, {images} images | {references} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)
