"""`extracter kernel-sweep`: the measurements of Table 3."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from extracter import params
from extracter.commands.options import Device, Params, PresetName
from extracter.projection import kernel_keys

Method = StrEnum("Method", ["chunked", "blocks", "dense"])


def kernel_sweep(
    images: Annotated[Path, typer.Option(help="Prepared test set.")],
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint folder.")],
    kernel: Annotated[int, typer.Option(help="Side of a patch; stride and padding are a third of it.")],
    method: Annotated[
        Method,
        typer.Option(
            help="dense holds the complete correlation, as in the paper, chunked a part; blocks is the fast search."
        ),
    ],
    out: Annotated[Path, typer.Option(help="JSON to write, with PSNR and SSIM, or that the run did not fit.")],
    timings: Annotated[Path | None, typer.Option(help="JSON to write, with time and memory of each image.")] = None,
    file: Params = "params.yaml",
    preset: PresetName = None,
    device: Device = "auto",
) -> None:
    """Measure one cell of Table 3, within `evaluation.memory_budget_gib` of memory.

    Example: `extracter kernel-sweep --images data/prepared/demo/sun80 --checkpoint
    results/demo/checkpoints/extracter-rec --kernel 6 --method blocks --out k6.json`
    """
    from extracter.evaluation.kernel_sweep import kernel_sweep

    blocks = params.load_keys(file, preset, *kernel_keys())
    kernel_sweep(
        images, checkpoint, kernel, method.value, out, model=blocks.model, search=blocks.search,
        budget_gib=blocks.evaluation.memory_budget_gib, precision=blocks.evaluation.precision,
        timings=timings, device=device,
    )  # fmt: skip
