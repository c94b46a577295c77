"""What each search is worth: PSNR of whole results, for one photograph or for the pairs of the test set `views`."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import mean

import numpy as np
from PIL import Image

from extracter.benchmarks.timing import MULTIPLY_ADDS, nearness, rounded, timed
from extracter.data import manifest, views
from extracter.data.degradation import SCALE, downscale, upscale
from extracter.errors import UserError
from extracter.files import write_csv
from extracter.inference.pictures import to_photo
from extracter.inference.upscaler import Upscaler
from extracter.metrics import psnr_y
from extracter.models.locate import open_model
from extracter.models.texture_transformer import TextureTransformer
from extracter.search.choose import SearchName

# Ways to search, each with the side of its patches: exactly or approximately; exactly with larger patches; and in the
# photograph's own bicubic enlargement in place of a reference.
METHODS = {"exact": 3, "fast": 3, "kernel6": 6, "kernel12": 12, "none": 3}
COLUMNS = ["image", "reference", "level", "size", "crop", "bicubic", *METHODS, "recall", "loss"]
_LARGE_ENOUGH = 0.95  # of the wanted side; a photograph that is smaller would have to be enlarged


def resized(image: Image.Image, factor: float) -> Image.Image:
    """An image enlarged or reduced by Lanczos, then cropped to multiples of 4."""
    image = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS)
    return image.crop((0, 0, image.width // SCALE * SCALE, image.height // SCALE * SCALE))


def is_affordable(images: Sequence[Image.Image], channels: int, kernel: int, limit: float) -> bool:
    """Whether an exact search takes less than `limit` CPU seconds, as predicted from its multiply-adds."""
    stride = kernel // 3
    queries, keys = (image.width * image.height / (SCALE * stride) ** 2 for image in images)
    return queries * keys * channels * stride**2 / MULTIPLY_ADDS <= limit


def compare_searches(
    network: TextureTransformer, photo: Image.Image, reference: Image.Image, methods: Iterable[str], limit: float
) -> Iterator[dict]:
    """Reduce a photograph to a quarter, super-resolve it as `extracter upscale` does, with each search.

    Args:
        network: the model.
        photo: the original; its sides are multiples of 4.
        reference: of any size.
        methods: of `METHODS`.
        limit: CPU seconds; an exact search that is predicted to take longer is left out.

    Yields:
        method, kernel, seconds, cpu_seconds and psnr_y; for `fast`, after `exact`, recall and loss too.
    """
    original, small = np.asarray(photo), to_photo(downscale(photo))[0]
    exact = None
    for method in methods:
        kernel = METHODS[method]
        approximate = method in ("fast", "none")
        if not approximate and not is_affordable((photo, reference), 4 * network.dfe.width, kernel, limit):
            continue
        search: SearchName = "fast" if approximate else "exact"
        upscaler = Upscaler(network, search=search, kernel=kernel, memory="3GiB", reuse=True)
        refs = [] if method == "none" else [to_photo(reference)[0]]
        result, spent = timed(partial(upscaler.run, small, refs))
        found = {"method": method, "kernel": kernel, **spent, "psnr_y": psnr_y(original, result.photo.rgb)}
        if method == "exact":
            exact = result.matches
        if method == "fast" and exact is not None:
            found |= nearness(result.matches, exact)
        yield found


def bicubic_psnr(photo: Image.Image) -> float:
    """PSNR on Y of the bicubic enlargement."""
    return psnr_y(np.asarray(photo), np.asarray(upscale(downscale(photo))))


def bench_views(
    raw: Path,
    out: Path,
    *,
    size: int,
    crop: int | None = None,
    methods: Sequence[str] = tuple(METHODS),
    unrelated: bool = True,
    model: str | Path | None = None,
    limit: float = 300.0,
) -> None:
    """Compare searches on the pairs of `views`: each input with the most similar reference and with an unrelated one.

    Args:
        raw: folder of the downloaded set.
        out: CSV file to write, with a row for each pair.
        size: long side to which input and reference are reduced; pairs with a smaller photograph are left out.
        crop: long side of the part of the input that is super-resolved, its middle; the reference stays whole. None
            takes the whole input.
        methods: of `METHODS`.
        unrelated: whether to measure references of another scene, too.
        model: as for `model_folder`.
        limit: as of `compare_searches`.

    Raises:
        UserError: a method that does not exist, a set or model that cannot be read, or no pair of that size.
    """
    if wrong := set(methods) - set(METHODS):
        raise UserError(f"--method {', '.join(sorted(wrong))}: allowed are {', '.join(METHODS)}")
    network = open_model(model)
    entries = {entry["path"]: entry for entry in manifest.read(raw)["files"]}
    rows: list[dict] = []
    for image, reference, level in _chosen_pairs(entries, unrelated):
        photos = [manifest.read_image(raw, entries[path]) for path in (image, reference)]
        if min(max(photo.size) for photo in photos) < _LARGE_ENOUGH * size:
            continue
        photo, ref = (resized(photo, min(1, size / max(photo.size))) for photo in photos)
        photo = _middle(photo, crop)
        row = {"image": image, "reference": reference, "level": level, "size": size, "crop": crop or size}
        row["bicubic"] = bicubic_psnr(photo)
        for found in compare_searches(network, photo, ref, methods, limit):
            row[found["method"]] = found["psnr_y"]
            row |= {key: found[key] for key in ("recall", "loss") if key in found}
        rows.append(row)
        write_csv(out, [{key: rounded(row.get(key)) for key in COLUMNS} for row in rows], COLUMNS)
        print(", ".join(f"{key} {rounded(value)}" for key, value in row.items()), file=sys.stderr, flush=True)
    if not rows:
        raise UserError(f"--size {size}: no pair of `views` has photographs as large")
    _report(rows)


def _chosen_pairs(entries: dict[str, manifest.Entry], unrelated: bool) -> list[tuple[str, str, int]]:
    """Input, reference and level of the most similar reference of each input, and of the unrelated one."""
    pairs = views.pairs()
    pairs = pairs[(pairs["pick"] == "level") & pairs["image"].isin(entries) & pairs["reference"].isin(entries)]
    if pairs.empty:
        raise UserError("no photograph of `views` with a reference in this folder; download the set `views` first")
    related = pairs[pairs["level"] != views.UNRELATED].sort_values("level", kind="stable").drop_duplicates("image")
    chosen = [related, pairs[pairs["level"] == views.UNRELATED]] if unrelated else [related]
    return [(row.image, row.reference, row.level) for part in chosen for row in part.sort_values("image").itertuples()]


def _middle(image: Image.Image, crop: int | None) -> Image.Image:
    """The middle of an image, of the same shape and a long side of `crop`; its sides are multiples of 4."""
    if crop is None or crop >= max(image.size):
        return image
    width, height = (int(side * crop / max(image.size)) // SCALE * SCALE for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _report(rows: Sequence[dict]) -> None:
    """Print the mean and the extremes of `fast` against each other method, for both kinds of reference."""
    for name, part in (
        ("references of the scene", [row for row in rows if row["level"] != views.UNRELATED]),
        ("unrelated references", [row for row in rows if row["level"] == views.UNRELATED]),
    ):
        for method in ("bicubic", *METHODS):
            gains = [row["fast"] - row[method] for row in part if "fast" in row and method in row and method != "fast"]
            if gains:
                extremes = f"from {min(gains):+.3f} to {max(gains):+.3f}"
                print(f"{name}, {len(gains)} pairs: fast - {method}: {mean(gains):+.4f} dB, {extremes}")
