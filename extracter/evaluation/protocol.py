"""How images are measured: at what edges, and padded how; by the parameters, or as a system's publication does it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from extracter.data.datasets import TestImage
from extracter.data.degradation import downscale, upscale
from extracter.errors import UserError
from extracter.families import FAMILIES, Protocol
from extracter.image_tensors import to_tensor, to_uint8

COMMON = Protocol()  # what Table 1 is measured by, where the parameters say nothing else
_WINDOW = 11  # side of SSIM's window


def protocol_of(family: str | None, common: Protocol, which: str) -> Protocol:
    """The protocol of an evaluation.

    Args:
        family: of the network; None for bicubic.
        common: what the parameters say.
        which: `common`, or `native` for that of the system's publication.
    """
    return FAMILIES[family].protocol if family is not None and which == "native" else common


def pad(image: TestImage) -> TestImage:
    """Input and references with zeros below and right, all of one size, and what is made of them made anew.

    `hr` and `hr_pixels` stay as they are: the result is cropped to their size.
    """
    refs = [image.ref, *(ref for ref, _ in image.more)]
    size = tuple(max(x.shape[side] for x in (image.hr, *refs)) for side in (-2, -1))
    lr, lr_up = _degrade(_extended(image.hr, size))
    (ref, ref_du), *more = (
        (to_tensor(np.asarray(x)[None]), _degrade(x)[1]) for x in (_extended(r, size) for r in refs)
    )
    return replace(image, lr=lr, lr_up=lr_up, ref=ref, ref_du=ref_du, more=tuple(more))


def _extended(image: Tensor, size: tuple[int, ...]) -> Image.Image:
    pixels = to_uint8(image)
    down, right = (side - now for side, now in zip(size, pixels.shape, strict=False))
    return Image.fromarray(np.pad(pixels, ((0, down), (0, right), (0, 0))))


def _degrade(image: Image.Image) -> tuple[Tensor, Tensor]:
    """LR and LR_up."""
    lr = downscale(image)
    return to_tensor(np.asarray(lr)[None]), to_tensor(np.asarray(upscale(lr))[None])


def measured_part(pixels: np.ndarray, size: tuple[int, ...], border: int, name: Path) -> np.ndarray:
    """The pixels of an image of `size` without padding and without a border.

    Raises:
        UserError: less than what SSIM's window covers is left.
    """
    height, width = size[:2]
    if min(height, width) - 2 * border < _WINDOW:
        raise UserError(f"{name}: {width} x {height} pixels leave nothing within a border of {border}")
    return pixels[border : height - border, border : width - border]
