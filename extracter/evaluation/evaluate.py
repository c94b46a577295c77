"""Measuring one variant on one test set (section 4 of the paper): PSNR and SSIM; seconds and memory apart."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from extracter.data.datasets import TestImage, TestSet, with_registered
from extracter.data.degradation import SCALE, upscale
from extracter.device import choose_device, configure_torch
from extracter.errors import UserError
from extracter.evaluation.parts import COLUMNS, TIMINGS, parse_part, summarise
from extracter.evaluation.protocol import COMMON, measured_part, pad, protocol_of
from extracter.families import FAMILIES, Protocol
from extracter.files import atomic_path, read_json, write_csv, write_json
from extracter.image_tensors import to_uint8
from extracter.memory import PeakMemory, is_allocation_failure
from extracter.metrics import psnr_y, ssim_y
from extracter.models.checkpoint import load_model
from extracter.models.refsr import RefSR
from extracter.models.texture_transformer import TextureTransformer
from extracter.presets import Model, Search
from extracter.progress import track
from extracter.projection import network_keys, pick
from extracter.search.choose import SearchName, choose_search

# What `training.json` says of the checkpoint of each variant.
VARIANTS = {
    "bicubic": None,
    **{f"{family}-rec": (family, "rec") for family in FAMILIES},
    **{family: (family, "full") for family in FAMILIES},
    "released": ("extracter", "rec"),
    "converted": (None, "converted"),  # of any system
}


def evaluate(
    variant: str,
    images: Path,
    checkpoint: Path | None,
    out: Path,
    summary: Path,
    sr: Path,
    *,
    model: Model | None = None,
    search: Search | None = None,
    precision: str = "32-true",
    compiled: bool = False,
    reuse_memory: bool = False,
    common: Protocol = COMMON,
    protocol: str = "common",
    references: str | None = None,
    timings: Path | None = None,
    method: SearchName = "exact",
    part: str = "1-of-1",
    device: str,
) -> None:
    """Super-resolve a test set, keep the images, and measure them.

    Args:
        variant: a key of `VARIANTS`.
        images: folder of a prepared test set.
        checkpoint: folder of the checkpoint; None for bicubic.
        out: CSV with a row for each image: PSNR in dB, SSIM. The same run writes the same bytes.
        summary: JSON with the means.
        sr: folder for the SR images, PNG.
        model, search: parameters that the checkpoint must have been trained with; the released one needs
            `search.memory` alone, bicubic neither.
        precision: 32-true, or bf16-mixed for what lies outside the search.
        compiled: let torch.compile fuse the convolutional parts.
        common: border and padding. Pixels of the border are not measured; images are kept whole and without padding.
        protocol: `native` takes the border and the padding of the system's publication instead.
        references: which of the set's references to take, see `TestSet`; None: those it was prepared with. What a
            network does with several is said in `extracter.families`.
        reuse_memory: on the CPU keep freed memory for the next layer, which is faster; it counts in the peak.
        method: exact, as all published tables; fast or auto as of `choose_search`, to see what they cost in PSNR.
        timings: CSV with each image's seconds and peak memory in MiB over the baseline; None: not written.
        part: which part of the set, such as 2-of-8; `parts.merge` puts them together.
        device: auto, cpu, cuda, cuda:N or mps.

    Raises:
        UserError: no such variant or references, a damaged test set or checkpoint, a checkpoint of other parameters,
            or too little memory.
    """
    training = check_checkpoint(variant, checkpoint, model, search)
    target = choose_device(device)
    configure_torch(0)
    family = training.get("family")
    rules = protocol_of(family, common, protocol)
    test_set = TestSet(images, references)
    test_set.rows = dict(list(test_set.rows.items())[parse_part(part)])
    if checkpoint is None:
        super_resolve: Callable[[TestImage], np.ndarray] = enlarge
        target = torch.device("cpu")
    else:
        network = load_network(checkpoint, search, target)
        if compiled:
            network.compile_parts(dynamic=True)  # once for all sizes of images

        def super_resolve(inputs: TestImage) -> np.ndarray:
            return run_network(network, inputs, target, precision, method)

    memory = PeakMemory(target, reuse_memory)
    rows: list[dict[str, Any]] = []
    costs: list[dict[str, Any]] = []
    several = 1
    for image in track(test_set, f"{variant} on {test_set.name}", len(test_set)):
        inputs = pad(image) if rules.padding == "zeros" else image
        several = max(several, 1 + len(inputs.more))
        memory.reset()
        start = time.perf_counter()
        try:
            result = super_resolve(inputs)
        except Exception as error:
            if is_allocation_failure(error):
                raise UserError(
                    f"{images / inputs.name}: {variant} ran out of memory; set a lower `search.memory`, close other "
                    "programs, or leave the image out"
                ) from error
            raise
        size = image.hr_pixels.shape
        result = result[: size[0], : size[1]]
        seconds, peak = time.perf_counter() - start, memory.read()
        with atomic_path(sr / f"{inputs.name}.png") as temporary:
            Image.fromarray(result).save(temporary, format="PNG")
        hr, measured = (
            measured_part(pixels, size, rules.border, images / inputs.name) for pixels in (inputs.hr_pixels, result)
        )
        rows.append(
            {
                "image": inputs.name,
                "reference": inputs.reference,
                "psnr_y": round(psnr_y(hr, measured), 6),
                "ssim_y": round(ssim_y(hr, measured), 8),
            }
        )
        costs.append({"image": inputs.name, "seconds": round(seconds, 4), "peak_memory_mib": round(peak, 1)})
    write_csv(out, rows, COLUMNS)
    if timings is not None:
        write_csv(timings, costs, TIMINGS)
    sr.mkdir(parents=True, exist_ok=True)
    about = {
        "variant": variant,
        "set": test_set.name,
        "stand_in": test_set.stand_in,
        "references": test_set.references,
        "vgg_weights": training.get("vgg_weights"),
        "bicubic_skip": training.get("model", {}).get("bicubic_skip"),
        "best_step": training.get("best_step"),
        "border": rules.border,
        "padding": rules.padding,
        "several": FAMILIES[family].several if family is not None and several > 1 else None,
        "precision": precision,
        "device": target.type,
        "threads": torch.get_num_threads(),
    }
    write_json(summary, summarise(rows, about))


def check_checkpoint(variant: str, checkpoint: Path | None, model: Model | None, search: Search | None) -> dict:
    """Refuse a checkpoint that was not trained as the variant and the parameters say.

    A released one and a converted one bring parameters of their own.

    `search.memory` may differ: it is a matter of the machine, not of the weights; so may what the network is not made
    from.

    Returns:
        What training.json holds; empty for bicubic.

    Raises:
        UserError: names the first key that differs, and says what to do.
    """
    if variant not in VARIANTS:
        raise UserError(f"variant `{variant}` does not exist: allowed are {', '.join(VARIANTS)}")
    wanted = VARIANTS[variant]
    if wanted is None:
        if checkpoint is not None:
            raise UserError(f"{checkpoint}: bicubic takes no checkpoint; leave --checkpoint out")
        return {}
    if checkpoint is None:
        raise UserError(f"`{variant}` needs a checkpoint; name its folder with --checkpoint")
    where = Path(checkpoint) / "training.json"
    training = read_json(where)
    expected = {"phase": wanted[1]} if wanted[0] is None else {"family": wanted[0], "phase": wanted[1]}
    if wanted[0] is not None and variant != "released":
        for block, values in pick(network_keys(wanted[0]), model=model, search=search).items():
            expected |= {f"{block}.{key}": value for key, value in values.items()}
        expected.pop("search.memory", None)
    for path, value in expected.items():
        found = training
        for key in path.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        if found != value:
            remedy = "name the checkpoint of this variant with --checkpoint"
            if path not in ("family", "phase"):
                remedy = "set the parameter so, name another preset, or train again with `snakemake --cores all`"
            raise UserError(f"{where}: `{path}` is {found} in this checkpoint and {value} is wanted; {remedy}")
    return training


def load_network(checkpoint: Path, search: Search | None, device: torch.device) -> RefSR:
    """The network of a checkpoint on a device, with the `search.memory` of the parameters."""
    network = load_model(checkpoint)
    if network.search is not None and search is not None:
        network.search = replace(network.search, memory=search.memory)
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def enlarge(inputs: TestImage) -> np.ndarray:
    """The bicubic enlargement of LR, which is LR_up: uint8, (H, W, 3)."""
    return np.asarray(upscale(Image.fromarray(to_uint8(inputs.lr))))


@torch.inference_mode()
def run_network(
    network: RefSR,
    inputs: TestImage,
    device: torch.device,
    precision: str = "32-true",
    method: SearchName = "exact",
) -> np.ndarray:
    """SR of one image with all of its references, registered where the network wants that, rounded to what a PNG holds.

    LR_up as the only reference stands for none: it is not registered, and networks that need none do without. `method`
    is as of `evaluate`.

    Returns:
        uint8, (H, W, 3), on the CPU, so that the device has finished.
    """
    alone = not inputs.more and torch.equal(inputs.ref, inputs.lr_up)
    if network.registration and not alone:
        inputs = with_registered(inputs)
    refs, refs_du = zip((inputs.ref, inputs.ref_du), *inputs.more, strict=True)
    if alone and not network.needs_reference:
        refs, refs_du = (), ()
    if method != "exact" and isinstance(network, TextureTransformer) and network.search is not None:
        (height, width), keys = inputs.lr.shape[-2:], [(x.shape[-2] // SCALE, x.shape[-1] // SCALE) for x in refs]
        found = (network.search, method, 4 * network.dfe.width, (height, width), keys)
        network.search = choose_search(*found, device.type)
    moved = [[x.to(device) for x in images] for images in ((inputs.lr, inputs.lr_up), refs, refs_du)]
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
        places = [inputs.places] if inputs.places else []
        return to_uint8(network(*moved[0], *moved[1:], *places))
