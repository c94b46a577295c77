"""Released weights of SRNTT: arrays of TensorFlow in the order in which its layers were built, in pickled .npz."""

import io
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from extracter.errors import UserError
from extracter.models.convert_keys import match_keys, part_of, save_converted
from extracter.models.srntt import SRNTT, ContentExtractor, NormalisedStage, SwapScale
from extracter.models.state_files import read_state

# All that an array of arrays needs to be unpickled; anything else in the file is refused.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _ArraysAlone(pickle.Unpickler):
    """Reads numpy arrays and plain containers; runs nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is no array")
        return super().find_class(module, name)


def read_arrays(source: Path) -> list[np.ndarray]:
    """The arrays `params` of a .npz file, without running anything in it.

    Raises:
        UserError: it cannot be read, is damaged, or holds something else than arrays.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            content = io.BytesIO(archive.read("params.npy"))
        version = np.lib.format.read_magic(content)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        header(content)
        arrays = list(_ArraysAlone(content, encoding="latin1").load())
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({error.strerror or error}); name the downloaded file") from None
    except Exception as error:  # whatever arbitrary bytes lead the unpickler to
        raise UserError(
            f"{source}: no .npz file of arrays alone ({error}); nothing in it was run; download it again"
        ) from None
    if not arrays or not all(isinstance(x, np.ndarray) and x.dtype.kind == "f" for x in arrays):
        raise UserError(f"{source}: holds something else than arrays of weights; download it again")
    return arrays


def convert_srntt(source: Path, beside: list[Path], out: Path) -> dict[str, Any]:
    """Write a checkpoint folder.

    Args:
        source: `srntt.npz`, `srntt_init.npz` or `srntt_weighted.npz`.
        beside: `upscale.npz`, whose first part is the content extractor; and VGG19 of Caffe as a state dict for BGR.
        out: checkpoint folder.

    Returns:
        The configuration that was inferred from the shapes.

    Raises:
        UserError: a file is missing or does not fit.
    """
    upscale = next((path for path in beside if path.suffix == ".npz"), None)
    vgg = next((path for path in beside if path.suffix != ".npz"), None)
    if upscale is None or vgg is None:
        raise UserError(
            f"{source}: {'the content extractor' if upscale is None else 'VGG19 of Caffe'} is in another file; name "
            "upscale.npz and a state dict of Caffe's VGG19 with --with"
        )
    arrays, content = read_arrays(source), read_arrays(upscale)
    # Small, medium and large scale have n, n / 2 and n / 4 blocks of ten arrays, and 29 arrays besides them.
    blocks, rest = divmod(2 * (len(arrays) - 29), 35)
    features = arrays[0].shape[-1]
    config = {"features": features, "dfe_width": (arrays[0].shape[2] - features) // 4, "blocks": blocks, "caffe": True}
    if rest or arrays[0].ndim != 4 or min(config["features"], config["dfe_width"], blocks) < 1:
        raise UserError(f"{source}: {len(arrays)} arrays are not those of SRNTT; name srntt.npz or srntt_init.npz")
    model = SRNTT(**config)
    ours = dict(_take(content, _content_layers(model.content, "content"), upscale, rest=True))
    ours |= dict(_take(arrays, _transfer_layers(model), source))
    here = {name: x for name, x in read_state(vgg).items() if f"dfe.{name}" in model.state_dict()}
    ours |= match_keys(here, part_of(model, "dfe."), lambda name: f"dfe.{name}", vgg)
    ours["dfe.features.0.weight"] = ours["dfe.features.0.weight"].flip(1)  # reads BGR
    model.load_state_dict(ours, strict=False)
    return save_converted(model, "srntt", config, [source, *beside], out)


_OF_NORM = ("bias", "weight", "running_mean", "running_var")
# A layer by its name, the module, and whether pixels are shuffled after it.
_Layer = tuple[str, nn.Module, bool]


def _stage_layers(stage: NormalisedStage, name: str) -> Iterator[_Layer]:
    for number, block in enumerate(list(stage)[:-2]):
        for part in ("conv1", "bn1", "conv2", "bn2"):
            yield f"{name}.{number}.{part}", getattr(block, part), False
    count = len(stage)
    yield f"{name}.{count - 2}", stage[-2], False
    yield f"{name}.{count - 1}", stage[-1], False


def _content_layers(part: ContentExtractor | SwapScale, name: str) -> Iterator[_Layer]:
    yield f"{name}.head", part.head, False
    yield from _stage_layers(part.stage, f"{name}.stage")


def _transfer_layers(model: SRNTT) -> Iterator[_Layer]:
    for number, scale in enumerate(model.scales):
        yield from _content_layers(scale, f"scales.{number}")
        if number < len(model.ups):
            yield f"ups.{number}.conv", model.ups[number].conv, True
    yield "tail.0", model.tail[0], False
    yield "tail.1", model.tail[1], False


def _take(
    arrays: list[np.ndarray], layers: Iterator[_Layer], source: Path, *, rest: bool = False
) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of the layers in the order of the arrays; with `rest` there may be more arrays."""
    left = iter(arrays)
    number = -1
    for name, module, shuffled in layers:
        for key in ("weight", "bias") if isinstance(module, nn.Conv2d) else _OF_NORM:
            ours = getattr(module, key)
            if ours is None:
                continue
            array = next(left, None)
            number += 1
            if array is None:
                raise UserError(f"{source}: ends before {name}.{key}; it is another network's, or damaged")
            tensor = torch.from_numpy(np.ascontiguousarray(array)).float()
            if tensor.ndim == 4:
                tensor = tensor.permute(3, 2, 0, 1)  # from height, width, in, out
            if shuffled:
                tensor = _from_depth_to_space(tensor)
            if tensor.shape != ours.shape:
                raise UserError(
                    f"{source}: array {number} is {tuple(array.shape)}, which does not fit {name}.{key}; it is "
                    "another network's, or damaged"
                )
            yield f"{name}.{key}", tensor.contiguous()
    if not rest and next(left, None) is not None:
        raise UserError(f"{source}: {len(arrays) - number - 1} arrays too many; it is another network's")


def _from_depth_to_space(x: Tensor) -> Tensor:
    """Output channels in the order of PyTorch's pixel shuffle (channel, row, column), from (row, column, channel)."""
    return x.unflatten(0, (4, -1)).transpose(0, 1).flatten(0, 1)
