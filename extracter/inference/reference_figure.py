"""`extracter figure-reference`: a figure that shows what a reference of the same scene adds to a result."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import skimage
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from extracter.data.degradation import crop_to_scale, downscale, upscale
from extracter.errors import UserError
from extracter.inference.upscaler import Upscaler
from extracter.metrics import psnr_y
from extracter.photos.photo import Photo, to_bytes
from extracter.photos.read import read_photo
from extracter.reporting.figures import CLOSE, ORANGE, save, show_image
from extracter.reporting.origins import source_square
from extracter.reporting.squares import gain_crop

if TYPE_CHECKING:
    from extracter.search.search import Matches

# A stereo pair (Middlebury 2014, `skimage.data.stereo_motorcycle`): two photographs of a scene, side by side.
_DATA = Path(skimage.__file__).parent / "data"
STEREO = (_DATA / "motorcycle_left.png", _DATA / "motorcycle_right.png")


def figure_reference(pairs: list[tuple[Path, Path]], out: Path, *, model: str | Path | None, device: str) -> None:
    """Reduce photographs by a factor of four, enlarge them without and with a reference, and draw the results.

    Each pair is a row: the original with a detail framed; then the detail in LR, in the bicubic enlargement, in the
    results without and with the reference, in the reference, and in the original. The detail is the square in which the
    reference gains most. In the reference, the square that most of its textures come from is shown.

    Args:
        pairs: files of an original and a reference of the same scene.
        out: PNG to write.
        model: see `model_folder`.
        device: auto, cpu, cuda, cuda:N or mps.

    Raises:
        UserError: `out` is no PNG, an image or the model cannot be read, or a reference is smaller than the detail.
    """
    if out.suffix.lower() != ".png":
        raise UserError(f"{out}: the figure is a PNG; name it {out.with_suffix('.png').name}")
    upscaler = Upscaler(model, device=device)
    figure = Figure(figsize=(15, 2.3 * len(pairs) + 0.1), layout=CLOSE)
    grid = figure.subplots(len(pairs), 7, width_ratios=[1.5, *[1.0] * 6], squeeze=False)
    for (original, reference), axes in zip(pairs, grid, strict=True):
        _draw_row(axes, original, reference, upscaler)
    save(figure, out)


def _draw_row(axes: np.ndarray, original: Path, reference: Path, upscaler: Upscaler) -> None:
    image = crop_to_scale(Image.fromarray(to_bytes(read_photo(original).rgb)))
    hr, lr, ref = np.asarray(image), np.asarray(downscale(image)), to_bytes(read_photo(reference).rgb)
    guided = upscaler.run(Photo(lr), [Photo(ref)])
    results = {
        "bicubic": np.asarray(upscale(downscale(image))),
        "without reference": upscaler.run(Photo(lr)).photo.rgb,
        "with reference": guided.photo.rgb,
    }
    top, left, side = gain_crop(hr, results["without reference"], results["with reference"])
    if min(ref.shape[:2]) < side:
        raise UserError(f"{reference}: smaller than the detail of {side} x {side} pixels; choose a larger reference")
    detail = np.s_[top : top + side, left : left + side]
    show_image(axes[0], hr, f"original, {hr.shape[1]} x {hr.shape[0]}")
    axes[0].add_patch(Rectangle((left - 0.5, top - 0.5), side, side, fill=False, edgecolor=ORANGE, linewidth=2))
    show_image(axes[1], lr[top // 4 : (top + side) // 4, left // 4 : (left + side) // 4], "LR")
    for panel, (label, result) in zip(axes[2:5], results.items(), strict=True):
        show_image(panel, result[detail], f"{label}\n{psnr_y(hr, result):.2f} dB")
    searched = [(image.shape[0], image.shape[1]) for image in (guided.inputs.lr, *guided.inputs.refs)]
    matches = cast("Matches", guided.matches)  # there is a reference
    number, source = source_square(matches, searched[0], searched[1:], guided.search, (top, left, side))
    down, right, side = source
    label = "reference" if number == 0 else "reference, registered"
    show_image(axes[5], guided.inputs.refs[number][down : down + side, right : right + side], label)
    show_image(axes[6], hr[detail], "original")
