"""Table 3: Extracter-rec at test time with another kernel, in a process confined to a memory budget.

The network runs in a child process, so that running out of memory is observed and harms nothing else. Whether a run
fits is all or nothing: the first image that does not fit ends it.
"""

import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch

from extracter.confined import command_of, run_child
from extracter.data.datasets import TestSet
from extracter.device import choose_device
from extracter.errors import UserError
from extracter.evaluation.evaluate import check_checkpoint
from extracter.files import write_json
from extracter.metrics import psnr_y, ssim_y
from extracter.presets import Model, Search
from extracter.search.search import SearchConfig

_WORKER = "extracter.evaluation.kernel_sweep_worker"


def kernel_sweep(
    images: Path,
    checkpoint: Path,
    kernel: int,
    method: str,
    out: Path,
    *,
    model: Model,
    search: Search,
    budget_gib: float,
    precision: str = "32-true",
    timings: Path | None = None,
    device: str,
) -> None:
    """Measure one cell of Table 3.

    Args:
        images: folder of a prepared test set.
        checkpoint: folder of the checkpoint of Extracter-rec.
        kernel: k, a multiple of 3; stride and padding are k / 3.
        method: dense, chunked or blocks.
        out: JSON; PSNR in dB and SSIM are means over the images, null where the run did not fit.
        model, search: parameters that the checkpoint must have been trained with.
        budget_gib: GiB that the run may allocate once the network is loaded.
        precision: 32-true, or bf16-mixed for what lies outside the search, as for `evaluate`.
        timings: JSON; mean seconds an image, and the highest peak memory in MiB over the baseline, null where the run
            did not fit; None: not written.
        device: auto, cpu, cuda, cuda:N or mps.

    Raises:
        UserError: wrong arguments, a damaged test set or checkpoint, or a run that failed for another reason than
            memory.
    """
    SearchConfig.of_kernel(kernel)
    check_checkpoint("extracter-rec", checkpoint, model, search)
    test_set = TestSet(images)
    with tempfile.TemporaryDirectory(prefix="extracter-") as folder:
        job: dict[str, Any] = {
            "images": str(images),
            "checkpoint": str(checkpoint),
            "kernel": kernel,
            "method": method,
            "memory": search.memory,
            "budget_gib": budget_gib,
            "precision": precision,
            "device": str(choose_device(device)),
            "sr": folder,
            "only": None,
        }
        measured = _observe(job, len(test_set))
        result = {
            "set": test_set.name,
            "stand_in": test_set.stand_in,
            "images": len(test_set),
            "kernel": kernel,
            "method": method,
            "fits": measured["fits"],
            "psnr_y": None,
            "ssim_y": None,
            "memory_budget_gib": measured["budget_gib"],
            "precision": precision,
            "device": torch.device(job["device"]).type,
            "threads": torch.get_num_threads(),
        }
        costs: dict[str, float | None] = {"seconds": None, "peak_memory_mib": None}
        if measured["fits"]:
            # Scored out here: what the metrics themselves allocate is no part of the budget.
            scores = []
            for inputs in test_set:
                sr = np.load(Path(folder) / f"{inputs.name}.npy")
                scores.append((psnr_y(inputs.hr_pixels, sr), ssim_y(inputs.hr_pixels, sr)))
            result["psnr_y"], result["ssim_y"] = (round(mean(column), 8) for column in zip(*scores, strict=True))
            costs = {
                "seconds": round(mean(measured["seconds"]), 4),
                "peak_memory_mib": round(max(measured["peak_memory_mib"]), 1),
            }
        if timings is not None:
            write_json(timings, costs)
        write_json(out, result)


def _observe(job: dict, images: int) -> dict:
    """Run a job confined; `fits`, `budget_gib` and, where it fits, `seconds` and `peak_memory_mib` of each image.

    Libraries have errors that may mean a lack of memory or anything else. Then the image at which one came up runs once
    more without the limit: if it succeeds, the limit was the cause.
    """
    measured = run_child(command_of(_WORKER, job), images)
    if "failed" not in measured:
        return measured
    again = run_child(command_of(_WORKER, {**job, "budget_gib": None, "only": measured["image"]}), 1)
    if again.get("fits"):
        return {"fits": False, "budget_gib": measured["budget_gib"]}
    raise UserError(
        f"{Path(job['images']) / measured['image']}: kernel {job['kernel']} failed ({measured['failed']}), and "
        "the cause is not the memory budget; please report it"
    )
