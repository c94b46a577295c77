"""Super-resolution of photographs: the Python API, which `extracter upscale` calls for each file."""

import copy
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from extracter.data.degradation import SCALE
from extracter.device import choose_device
from extracter.errors import UserError
from extracter.inference.pictures import Picture, of_tensor, to_photo, to_tensor
from extracter.inference.resize import enlarge, reduce, resize, to_cells, whole_cells
from extracter.inference.tiling.budget import TILE_SHARE, held_bytes, least_needed, tile_bytes
from extracter.inference.tiling.engine import Inputs, Report, super_resolve
from extracter.inference.tiling.features import LEVELS
from extracter.inference.tiling.network import Margins, Network
from extracter.inference.tiling.systems import search_of, super_resolve_tiles
from extracter.inference.tiling.windows import InsufficientMemoryError, Window
from extracter.memory import GIB, MIB, available, malloc_return
from extracter.models.locate import open_model
from extracter.models.refsr import RefSR
from extracter.photos.alpha import bleed
from extracter.photos.colour import match
from extracter.photos.photo import Photo, is_neutral, luma
from extracter.search.choose import SearchName, choose_search
from extracter.search.search import Matches, SearchConfig

if TYPE_CHECKING:
    from extracter.data.registration import Copy

PRECISIONS = {"32": torch.float32, "bf16": torch.bfloat16, "16": torch.float16}
# The precision depends on the device. With bf16, results of the released network differ from those in float32 by 0.03
# grey levels on average; one sample in a million differs by more than one level.
_AUTO = "auto"
SCALES = (1, 2, 3, 4)
# More than there are cores may be wanted for the results of another machine, but not thousands.
_MOST_THREADS = max(64, os.cpu_count() or 1)
# Memory that PyTorch's libraries and Numba allocate on first use: buffers of threads, compiled kernels, and the
# compiler itself if its results are not cached yet.
_RUNTIME = 172 * MIB
_OPENCV = 50 * MIB  # likewise, of the registration of references
_Network = TypeVar("_Network", bound=RefSR)
_UNITS = {"": 1, "b": 1, "k": 2**10, "m": MIB, "g": GIB, "t": 2**40}


def upscale(
    image: Picture,
    references: Picture | Sequence[Picture] | None = None,
    model: RefSR | str | Path | None = None,
    *,
    scale: int = SCALE,
    search: SearchName = "auto",
    kernel: int | None = None,
    memory: str | float | None = None,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> Image.Image | np.ndarray | Tensor:
    """Enlarge an image.

    Args:
        image: the image, of any size: a file, a Pillow image of any mode, an array, or a tensor. An array is
            (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8, uint16, or floating-point in [0, 1]; a tensor is
            C, H, W or N, C, H, W with 1 or 3 channels, floating-point in [0, 1].
        references: images of the same or a similar scene in higher resolution, of any size and of the same types as
            `image`; all are searched together. With None, the released model copies no textures; for networks that
            need a reference the image's own bicubic enlargement takes their place.
        model: a network, which is not modified; or its location: a folder, a file in it, or an id on the Hugging Face
            hub; None for the released one.
        scale: 4; 3 or 2 for the x4 result, reduced with antialiasing; or 1, for which the image is first reduced to a
            quarter, so that detail from the references is restored at the same size.
        search: exact compares all pairs of patches; fast finds nearly the same matches at a cost that grows with the
            number of pixels, not with its square; auto is exact as long as that takes a second or two.
        kernel: side of a search patch, 3, 6, 12 or another multiple of 3 up to 48; larger ones are coarser and, in an
            exact search, faster. None for that of the model.
        memory: limit in bytes, or text such as "4GiB", for the memory of the computation beyond the interpreter; on a
            GPU, for GPU memory. None for half of the free memory, three quarters on a GPU.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: 32, bf16 or 16, for the network after the search; auto is bf16 on processors that support it, which
            takes three fifths of the time and changes results by 0.03 grey levels on average, and 32 on a GPU.
        threads: number of CPU cores, for the whole process; None for PyTorch's default.

    Returns:
        An image of the same type as `image` (a Pillow image for a file), `scale` times as wide and high.

    Raises:
        UserError: a file or the model cannot be read, or the memory is too small.
        ValueError: an array or tensor is not of the kinds above.

    Example:
        >>> from extracter import upscale
        >>> upscale("small.jpg", "sharp.jpg").save("large.png")
    """
    if references is None:
        references = []
    several = references if isinstance(references, Sequence) and not isinstance(references, str) else [references]
    upscaler = Upscaler(
        model,
        scale=scale,
        search=search,
        kernel=kernel,
        memory=memory,
        device=device,
        precision=precision,
        threads=threads,
    )
    refs = [to_photo(reference)[0] for reference in several]
    if isinstance(image, Tensor) and image.ndim == 4:
        rows = [to_tensor(upscaler.run(of_tensor(x), refs).photo, x) for x in image]
        return torch.stack(rows)
    photo, restore = to_photo(image)
    return restore(upscaler.run(photo, refs).photo)


@dataclass(frozen=True)
class Result:
    """The result of `Upscaler.run`.

    Attributes:
        photo: the result; float32 in [-1, 1] for a floating-point image.
        sr: the output of the network, four times the size of `inputs.lr`.
        inputs: the input images of the network.
        matches: where textures come from; queries and keys are blocks of `search.stride` cells of 4 x 4 pixels. None
            where there was no reference to search.
        search: the configuration of the search.
        copies: how many of `inputs.refs`, the last ones, are registered copies of those before.
    """

    photo: Photo
    sr: np.ndarray
    inputs: Inputs
    matches: Matches | None
    search: SearchConfig
    copies: int = 0


class Upscaler:
    """A model with the settings that apply to all images; for the arguments see `upscale`.

    `reuse` saves a third of the network's time on the CPU, by a setting of the C library that applies to the whole
    process while the network runs (see `super_resolve`).

    It is safe to use several of them, or one from several threads, at the same time.
    """

    def __init__(
        self,
        model: RefSR | str | Path | None = None,
        *,
        scale: int = SCALE,
        search: SearchName = "auto",
        kernel: int | None = None,
        memory: str | float | None = None,
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        reuse: bool = False,
    ):
        if precision not in (_AUTO, *PRECISIONS):
            raise _refused("precision", precision, (_AUTO, *PRECISIONS))
        if search not in get_args(SearchName):
            raise _refused("search", search, get_args(SearchName))
        if scale not in SCALES:
            raise _refused("scale", scale, SCALES)
        if threads is not None:
            if not 1 <= threads <= _MOST_THREADS:
                raise UserError(f"--threads {threads}: allowed are 1 to {_MOST_THREADS}")
            torch.set_num_threads(threads)
        self.device = choose_device(device)
        if precision == "16" and self.device.type == "cpu":
            raise UserError("--precision 16 needs a GPU; take bf16 or 32")
        self.scale = scale
        self.precision = _choose_precision(self.device) if precision == _AUTO else PRECISIONS[precision]
        network = model if isinstance(model, RefSR) else open_model(model)
        self.config = search_of(network, search, kernel)
        # Channels-last saves oneDNN and cuDNN the conversion of feature maps, a third of the time on a CPU.
        self.model = _own_copy(network, self.device).eval()
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.search, self.reuse = search, reuse
        self.memory = parse_memory(memory) if memory is not None else _share(self.device)

    def run(self, photo: Photo, references: Sequence[Photo] = (), report: Report | None = None) -> Result:
        """Super-resolve one photograph.

        Args:
            photo: LR image of 8 or 16 bits, or floating-point in [-1, 1].
            references: searched together, after conversion to the colour space of the photograph, and with copies that
                are registered to it where the model has `registration`; without any, its own bicubic enlargement is the
                reference of a model that needs one.
            report: called with (phase, done, total).

        Raises:
            UserError: too little memory.
        """
        height, width = photo.rgb.shape[:2]
        lr = _visible(photo)
        neutral = photo.grey or is_neutral(lr)
        if self.scale == 1:
            lr = reduce(to_cells(lr))
        lr_up = enlarge(lr)
        refs = [whole_cells(_visible(match(reference, photo))) for reference in references]
        if not refs and self.model.needs_reference:
            refs = [lr_up]
        refs_du = [enlarge(reduce(ref)) for ref in refs]
        copies = _registered(lr_up, refs, refs_du) if references and self.model.registration else []
        places = [*(None for _ in refs), *(copy.place for copy in copies)] if copies else []
        refs += [copy.pixels for copy in copies]
        refs_du += [enlarge(reduce(copy.pixels)) for copy in copies]
        inputs = Inputs(lr, lr_up, refs, refs_du, places)
        config = self.config
        if isinstance(self.model, Network):
            channels = 4 * self.model.dfe.width
            sizes = [(len(ref) // SCALE, ref.shape[1] // SCALE) for ref in refs]
            config = choose_search(config, self.search, channels, lr.shape[:2], sizes, self.device.type)
        sr, matches = self._super_resolve(inputs, config, report)
        if neutral:
            sr[:] = luma(sr)[..., None]
        if self.scale == 1:
            rgb = sr[:height, :width]
        else:
            rgb = resize(sr, self.scale * width, self.scale * height)
        alpha = None if photo.alpha is None else resize(photo.alpha, self.scale * width, self.scale * height)
        return Result(replace(photo, rgb=rgb, alpha=alpha), sr, inputs, matches, config, len(copies))

    def _super_resolve(
        self, inputs: Inputs, config: SearchConfig, report: Report | None
    ) -> tuple[np.ndarray, Matches | None]:
        memory, held = self.memory, 0.0
        if self.device.type == "cpu":
            held = _held(self.model, inputs.lr_up.nbytes, [ref.nbytes for ref in inputs.refs])
            memory -= held
        report = report or (lambda *_: None)
        try:
            if not isinstance(self.model, Network):
                return super_resolve_tiles(self.model, inputs, memory=memory, precision=self.precision, report=report)
            model = _own_copy(self.model, self.device)  # the original may run meanwhile
            model.search = config
            return super_resolve(
                model, inputs, memory=memory, precision=self.precision, reuse=self.reuse, report=report
            )
        except InsufficientMemoryError as error:
            least = f"{(held + error.needed) / MIB + 1:,.0f} MiB"
            if isinstance(self.model, Network):
                whole = held + _whole_needed(self.model, inputs.lr.shape[:2], self.precision)
                if whole > held + error.needed:
                    least += (
                        f", which takes very long; at {whole / MIB + 1:,.0f} MiB the image is enlarged in one piece"
                    )
            raise UserError(
                f"--memory: {self.memory / MIB:,.0f} MiB is too little for this image and its references; the "
                f"minimum is {least}"
            ) from None
        finally:
            if self.reuse:
                malloc_return()


def _refused(argument: str, given: object, allowed: Sequence[object]) -> UserError:
    """The error for an argument of the Python API; the command's own options are checked before."""
    return UserError(f"{argument}={given!r}: allowed are {', '.join(map(repr, allowed))}")


def _choose_precision(device: torch.device) -> torch.dtype:
    """bfloat16 on a CPU with instructions for it, else float32."""
    on_cpu = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if on_cpu else torch.float32


def _own_copy(network: _Network, device: torch.device) -> _Network:
    """A copy of a network on a device; weights that are already there are shared, not copied.

    Changes to the copy (its mode, search, device) do not affect the caller's network.
    """
    tensors = [*network.parameters(), *network.buffers()]
    shared = {
        id(x): nn.Parameter(x.detach().to(device), requires_grad=False) if isinstance(x, nn.Parameter) else x.to(device)
        for x in tensors
    }
    return copy.deepcopy(network, shared)


def _registered(lr_up: np.ndarray, refs: Sequence[np.ndarray], refs_du: Sequence[np.ndarray]) -> list["Copy"]:
    """Copies of those references that can be registered to LR_up."""
    from extracter.data.registration import register_copy  # OpenCV takes memory, which few need

    found = (register_copy(lr_up, ref, du) for ref, du in zip(refs, refs_du, strict=True))
    return [copy for copy in found if copy is not None]


def _visible(photo: Photo) -> np.ndarray:
    """The colours of a photograph, with those of fully transparent pixels replaced."""
    return photo.rgb if photo.alpha is None else bleed(photo.rgb, photo.alpha)


def _held(model: RefSR, lr_up: float, refs: Sequence[float]) -> float:
    """Bytes on the CPU besides the computation: images and their copies, weights (twice while loading), libraries."""
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    return 2.2 * lr_up + 3 * sum(refs) + 2 * weights + _RUNTIME + (model.registration and bool(refs)) * _OPENCV


def _whole_needed(model: Network, size: tuple[int, int], precision: torch.dtype) -> float:
    """Bytes beyond those held, so that an image of this size is one tile."""
    height, width = map(model.search.padded, size)
    whole = Window(0, height, 0, width)
    tile = tile_bytes(model, Margins.of(model), height, width, whole, precision) / TILE_SHARE
    return held_bytes(model, whole, precision) + tile


def memory_needed(model: Network, side: int) -> tuple[float, float]:
    """Bytes on the CPU for an 8-bit result of `side` x `side` pixels with a reference of the same size.

    Returns:
        The minimum, and the memory for a single tile with all features of the reference kept.
    """
    cells = model.search.padded(-(-side // SCALE))
    whole = Window(0, cells, 0, cells)
    references = 2 if model.registration else 1  # with its registered copy
    width = model.dfe.width
    margins = Margins.of(model)
    held = _held(model, 3.0 * side**2, references * [3.0 * side**2])
    least = least_needed(model, margins, whole, references * [whole])
    features = references * 4 * cells**2 * width * sum(multiple * scale**2 for multiple, scale in LEVELS)
    most = held_bytes(model, whole) + tile_bytes(model, margins, cells, cells, whole) + features
    # A tile may not take all of the memory, however little the features need.
    return held + least, held + max(least, most, _whole_needed(model, (cells, cells), torch.float32))


def parse_memory(text: str | float) -> float:
    """Convert a size such as 4GiB, 512M or 2.5e9 to bytes; `i` and `B` in units are optional.

    A number without a unit is of bytes, and refused below a MiB: 2 was meant for GiB.

    Raises:
        UserError: the text is not a size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:e\d+)?)\s*([kmgt]?)i?b?\s*", str(text).lower())
    if not found or not float(found[1]) or (not found[2] and float(found[1]) < MIB):
        raise UserError(f"--memory {text}: not a size; write for example 4GiB or 800MiB")
    return float(found[1]) * _UNITS[found[2]]


def _share(device: torch.device) -> float:
    if device.type == "cuda":
        # What PyTorch keeps of earlier images' memory is free, too.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return 0.75 * (torch.cuda.mem_get_info(device)[0] + kept)
    return 0.5 * available()
