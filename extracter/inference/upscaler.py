"""Super-resolution of photographs from Python, and what `extracter upscale` runs for each of its files."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from extracter.data.degradation import SCALE
from extracter.device import choose_device
from extracter.errors import UserError
from extracter.inference.photo_io import Photo, from_pillow, to_pillow
from extracter.inference.tiling.engine import (
    Inputs,
    Report,
    coarsen_search,
    least_needed,
    search_with_kernel,
    super_resolve,
    tile_bytes,
)
from extracter.inference.tiling.features import LEVELS
from extracter.inference.tiling.network import Margins
from extracter.inference.tiling.windows import InsufficientMemoryError, Window
from extracter.memory import GIB, MIB, available, bound_kernel_cache
from extracter.models.extracter import Extracter
from extracter.models.locate import open_model
from extracter.models.ttsr import TTSR
from extracter.search.search import Matches, SearchConfig

Picture = Image.Image | np.ndarray | Tensor | str | Path
PRECISIONS = {"32": torch.float32, "bf16": torch.bfloat16, "16": torch.float16}
# What PyTorch's libraries and Numba take when they first compute: buffers of threads, compiled kernels, and the
# compiler itself where it has not run on this machine before.
_RUNTIME = 172 * MIB
_UNITS = {"": 1, "b": 1, "k": 2**10, "m": MIB, "g": GIB, "t": 2**40}


def upscale(
    image: Picture,
    references: Picture | Sequence[Picture] = (),
    model: Extracter | TTSR | str | Path | None = None,
    *,
    kernel: int | None = None,
    memory: str | float | None = None,
    device: str = "auto",
    precision: str = "32",
) -> Image.Image | np.ndarray | Tensor:
    """Enlarge an image four times.

    Args:
        image: what to enlarge, of any size: a file, a Pillow image of any mode, an array, or a tensor. An array is
            (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8, uint16, or floating-point in [0, 1]; a tensor is
            C, H, W or N, C, H, W with 1 or 3 channels, floating-point in [0, 1].
        references: images of the same or a similar scene in higher resolution, of any size, as `image`; all are
            searched together. Without any, the image's own bicubic enlargement serves.
        model: a network, or where it lies: a folder or a file in it; None for the released one.
        kernel: side of a search patch, 3, 6, 12 or another multiple of 3, larger being faster; None takes the model's
            own, doubled until at most 2^34 pairs of patches are compared.
        memory: bytes, or text such as "4GiB", that the computation may take beyond the interpreter's; on a GPU, of its
            memory. None takes half of what is free, three quarters on a GPU.
        device: auto, cpu or cuda.
        precision: 32, bf16 or 16, of the network behind the search.

    Returns:
        What `image` is: a Pillow image (for a file too), an array, or a tensor, four times as wide and high.

    Raises:
        UserError: a file or model that cannot be read, or too little memory.
        ValueError: an array or tensor of another kind than those above.
    """
    several = references if isinstance(references, Sequence) and not isinstance(references, str) else [references]
    upscaler = Upscaler(model, kernel=kernel, memory=memory, device=device, precision=precision)
    refs = [_read(reference)[0] for reference in several]
    if isinstance(image, Tensor) and image.ndim == 4:
        rows = [_to_tensor(upscaler.run(_of_tensor(x), refs).photo, x) for x in image]
        return torch.stack(rows)
    photo, restore = _read(image)
    return restore(upscaler.run(photo, refs).photo)


@dataclass(frozen=True)
class Result:
    """What `Upscaler.run` gives.

    Attributes:
        photo: SR; of a floating-point image float32 in [-1, 1].
        inputs: the images that the network saw.
        matches: where textures came from; queries and keys are blocks of `search.stride` cells of 4 x 4 pixels.
        search: the search that was made.
    """

    photo: Photo
    inputs: Inputs
    matches: Matches
    search: SearchConfig


class Upscaler:
    """A model with everything that stays the same from one image to the next; arguments as of `upscale`."""

    def __init__(
        self,
        model: Extracter | TTSR | str | Path | None = None,
        *,
        kernel: int | None = None,
        memory: str | float | None = None,
        device: str = "auto",
        precision: str = "32",
    ):
        if precision not in PRECISIONS:
            raise UserError(f"--precision {precision}: allowed are {', '.join(PRECISIONS)}")
        self.device = choose_device(device)
        if precision == "16" and self.device.type == "cpu":
            raise UserError("--precision 16 needs a GPU; take bf16 or 32")
        bound_kernel_cache()
        self.precision = PRECISIONS[precision]
        network = model if isinstance(model, (Extracter, TTSR)) else open_model(model)
        # oneDNN and cuDNN convolve channels-last maps without laying them out again: a third of the time on a CPU.
        self.model = network.to(self.device, memory_format=torch.channels_last).eval()
        self.config = search_with_kernel(network, kernel)
        self.chosen = kernel is not None
        self.memory = parse_memory(memory) if memory is not None else _share(self.device)

    def run(self, photo: Photo, references: Sequence[Photo] = (), report: Report | None = None) -> Result:
        """Super-resolve one photograph.

        Args:
            photo: LR; 8 and 16 bits, or floating-point in [-1, 1].
            references: searched together; none means the photograph's own bicubic enlargement.
            report: called with (phase, done, total).

        Raises:
            UserError: too little memory.
        """
        lr_up = enlarge(photo.rgb)
        refs = [_whole_cells(reference.rgb) for reference in references] or [lr_up]
        inputs = Inputs(photo.rgb, lr_up, refs, [enlarge(reduce(ref)) for ref in refs])
        config = self.config
        if not self.chosen:
            config = coarsen_search(config, photo.rgb.shape[:2], [(len(x) // SCALE, x.shape[1] // SCALE) for x in refs])
        memory, held = self.memory, 0.0
        if self.device.type == "cpu":
            held = _held(self.model, lr_up.nbytes, [ref.nbytes for ref in refs])
            memory -= held
        self.model.search, own = config, self.model.search
        try:
            rgb, matches = super_resolve(
                self.model, inputs, memory=memory, precision=self.precision, report=report or (lambda *_: None)
            )
        except InsufficientMemoryError as error:
            raise UserError(
                f"--memory: {self.memory / MIB:,.0f} MiB are too little for this image and its references; the "
                f"least is {(held + error.needed) / MIB + 1:,.0f} MiB"
            ) from None
        finally:
            self.model.search = own
        alpha = None if photo.alpha is None else enlarge(photo.alpha)
        return Result(replace(photo, rgb=rgb, alpha=alpha), inputs, matches, config)


def _held(model: Extracter | TTSR, lr_up: float, refs: Sequence[float]) -> float:
    """Bytes on the CPU beside the computation: images and their copies, weights twice while they load, libraries."""
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    return 2.2 * lr_up + 3 * sum(refs) + 2 * weights + _RUNTIME


def memory_needed(model: Extracter | TTSR, side: int) -> tuple[float, float]:
    """Bytes on the CPU for an 8-bit result of `side` x `side` pixels with a reference as large.

    Returns:
        The least with which it works, and what it takes with one tile and all features of the reference kept.
    """
    cells = model.search.padded(-(-side // SCALE))
    whole = Window(0, cells, 0, cells)
    width = model.dfe.features[0].out_channels
    margins = Margins.of(model)
    held = _held(model, 3.0 * side**2, [3.0 * side**2])
    least = least_needed(model, margins, whole, [whole])
    features = 4 * cells**2 * width * sum(multiple * scale**2 for multiple, scale in LEVELS)
    return held + least, held + max(least, tile_bytes(model, margins, cells, whole) + features)


def parse_memory(text: str | float) -> float:
    """Bytes of a size such as 4GiB, 512M or 2.5e9; a unit's `i` and `B` may be left out.

    Raises:
        UserError: the text is no size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:e\d+)?)\s*([kmgt]?)i?b?\s*", str(text).lower())
    if not found or not float(found[1]):
        raise UserError(f"--memory {text}: not a size; write for example 4GiB or 800MiB")
    return float(found[1]) * _UNITS[found[2]]


def _share(device: torch.device) -> float:
    if device.type == "cuda":
        return 0.75 * torch.cuda.mem_get_info(device)[0]
    return 0.5 * available()


def enlarge(pixels: np.ndarray) -> np.ndarray:
    """Bicubic, four times: (H, W) or (H, W, C); uint8 in the same way as for training."""
    return _resize(pixels, pixels.shape[1] * SCALE, pixels.shape[0] * SCALE)


def reduce(pixels: np.ndarray) -> np.ndarray:
    """Bicubic with antialiasing, to a quarter, at least one pixel."""
    return _resize(pixels, max(pixels.shape[1] // SCALE, 1), max(pixels.shape[0] // SCALE, 1))


def _resize(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    if pixels.dtype == np.uint8:
        image = Image.fromarray(np.ascontiguousarray(pixels))
        return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    if pixels.ndim == 3:
        result = np.empty((height, width, pixels.shape[2]), pixels.dtype)
        for channel in range(pixels.shape[2]):
            result[..., channel] = _resize(pixels[..., channel], width, height)
        return result
    plane = Image.fromarray(pixels.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    # Bicubic overshoots at edges; 8-bit images are clipped there too.
    values = np.asarray(plane).clip(*((0, 65535) if pixels.dtype == np.uint16 else (-1, 1)))
    return (np.rint(values) if pixels.dtype == np.uint16 else values).astype(pixels.dtype)


def _whole_cells(pixels: np.ndarray) -> np.ndarray:
    """A reference without the last rows and columns that no whole cell covers, as in training; at least one cell."""
    height, width = pixels.shape[:2]
    pixels = np.pad(pixels, ((0, max(0, SCALE - height)), (0, max(0, SCALE - width)), (0, 0)), mode="edge")
    return pixels[: pixels.shape[0] // SCALE * SCALE, : pixels.shape[1] // SCALE * SCALE]


def _read(image: Picture):
    """An image as a photo, and what brings a result back to the image's kind."""
    if isinstance(image, (str, Path)):
        from extracter.inference.photo_io import read_photo

        return read_photo(Path(image)), to_pillow
    if isinstance(image, Image.Image):
        return from_pillow(image), to_pillow
    if isinstance(image, Tensor):
        return _of_tensor(image), lambda photo: _to_tensor(photo, image)
    return _of_array(image), lambda photo: _to_array(photo, image)


def _of_array(array: np.ndarray) -> Photo:
    if not isinstance(array, np.ndarray) or array.ndim not in (2, 3) or 0 in array.shape:
        raise ValueError("an image is a file, a Pillow image, a tensor, or an array (H, W) or (H, W, channels)")
    samples = array[..., None] if array.ndim == 2 else array
    if samples.shape[2] not in (1, 3, 4):
        raise ValueError(f"an array of {samples.shape[2]} channels; 1, 3 and 4 are possible")
    if np.issubdtype(array.dtype, np.floating):
        samples = samples.astype(np.float32) * 2 - 1
        if not (np.abs(samples) <= 1.001).all():
            raise ValueError("floating-point pixels have to lie in [0, 1]")
    elif array.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"an array of {array.dtype}; uint8, uint16 and floating-point are possible")
    alpha = samples[..., 3] if samples.shape[2] == 4 else None
    grey = samples.shape[2] == 1
    return Photo(np.repeat(samples, 3, 2) if grey else samples[..., :3], grey, alpha)


def _to_array(photo: Photo, like: np.ndarray) -> np.ndarray:
    samples = photo.rgb.astype(np.float32)
    if photo.grey:
        samples = (samples @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    if photo.alpha is not None:
        samples = np.concatenate((samples, photo.alpha[..., None].astype(np.float32)), 2)
    samples = (samples + 1) / 2 if np.issubdtype(like.dtype, np.floating) else np.rint(samples)
    return (samples[..., 0] if like.ndim == 2 else samples).astype(like.dtype)


def _of_tensor(tensor: Tensor) -> Photo:
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3) or not tensor.is_floating_point():
        raise ValueError(f"a tensor {tuple(tensor.shape)} of {tensor.dtype}; C, H, W or N, C, H, W in [0, 1] is wanted")
    return _of_array(tensor.detach().float().cpu().numpy().transpose(1, 2, 0))


def _to_tensor(photo: Photo, like: Tensor) -> Tensor:
    shape = np.empty((1, 1, like.shape[0]), np.float32)
    return torch.from_numpy(_to_array(photo, shape).transpose(2, 0, 1).copy()).to(like)
