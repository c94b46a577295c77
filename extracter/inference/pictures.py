"""Convert between photographs and what Python programs hold images in: files, Pillow images, arrays, tensors."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from extracter.photos.photo import LUMA, Photo, rounded
from extracter.photos.read import from_pillow, read_photo
from extracter.photos.write import samples_of

Picture = Image.Image | np.ndarray | Tensor | str | Path
Restore = Callable[[Photo], Image.Image | np.ndarray | Tensor]


def to_photo(image: Picture) -> tuple[Photo, Restore]:
    """Convert an image to a photograph; also return the function that converts a result to the type of the image.

    Raises:
        UserError: the file cannot be read.
        ValueError: the array or tensor is not an image.
    """
    if isinstance(image, (str, Path)):
        photo = read_photo(Path(image))
        for note in photo.notes:
            warnings.warn(f"{image}: {note}", stacklevel=3)
        return photo, to_pillow
    if isinstance(image, Image.Image):
        return from_pillow(image), to_pillow
    if isinstance(image, Tensor):
        return of_tensor(image), lambda photo: to_tensor(photo, image)
    return of_array(image), lambda photo: to_array(photo, image)


def to_pillow(photo: Photo) -> Image.Image:
    """Convert to a Pillow image: L, LA, RGB or RGBA; I;16 for 16-bit grey. Other 16-bit images are rounded to 8 bits.

    Its `info` holds `icc_profile`, `exif`, `xmp` and `dpi` for `save`.
    """
    samples = samples_of(photo)
    if photo.deep and samples.shape[2] > 1:
        samples = rounded(samples)
    image = Image.fromarray(samples.squeeze(2) if samples.shape[2] == 1 else samples)
    found = {
        "icc_profile": photo.profile,
        "exif": photo.metadata.exif and b"Exif\0\0" + photo.metadata.exif,
        "xmp": photo.metadata.xmp,
        "dpi": photo.metadata.dpi,
    }
    image.info.update({key: value for key, value in found.items() if value})
    return image


def of_array(array: np.ndarray) -> Photo:
    """Convert an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4): uint8, uint16, or floating-point in [0, 1].

    Raises:
        ValueError: the array has another shape, type or range.
    """
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


def to_array(photo: Photo, like: np.ndarray) -> np.ndarray:
    """Convert a result to an array with the channels and type of `like`."""
    samples: np.ndarray = photo.rgb.astype(np.float32)
    if photo.grey:
        samples = (samples @ LUMA)[..., None]
    if photo.alpha is not None:
        samples = np.concatenate((samples, photo.alpha[..., None].astype(np.float32)), 2)
    samples = (samples + 1) / 2 if np.issubdtype(like.dtype, np.floating) else np.rint(samples)
    return (samples[..., 0] if like.ndim == 2 else samples).astype(like.dtype)


def of_tensor(tensor: Tensor) -> Photo:
    """Convert a tensor (C, H, W) with 1 or 3 channels, floating-point in [0, 1].

    Raises:
        ValueError: the tensor has another shape, type or range.
    """
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3) or not tensor.is_floating_point():
        raise ValueError(f"a tensor {tuple(tensor.shape)} of {tensor.dtype}; C, H, W or N, C, H, W in [0, 1] is wanted")
    return of_array(tensor.detach().float().cpu().numpy().transpose(1, 2, 0))


def to_tensor(photo: Photo, like: Tensor) -> Tensor:
    """Convert a result to a tensor with the channels, type and device of `like`."""
    shape = np.empty((1, 1, like.shape[0]), np.float32)
    return torch.from_numpy(to_array(photo, shape).transpose(2, 0, 1).copy()).to(like)
