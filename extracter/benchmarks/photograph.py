"""`extracter bench photo`: what a photograph with a reference of its scene costs, and what each search is worth.

Three parts, in rows of one CSV: `search` times both searches alone; `quality` compares results with the photograph;
`command` runs the whole `extracter upscale` in a process of its own. Sizes beyond the photograph's own are made by
enlarging it: their costs are right, their quality says nothing.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from extracter.data.degradation import SCALE, downscale, upscale
from extracter.errors import UserError
from extracter.files import write_csv
from extracter.image_tensors import to_tensor
from extracter.inference.pictures import to_photo
from extracter.inference.upscaler import Upscaler
from extracter.memory import MIB
from extracter.metrics import psnr_y
from extracter.models.locate import open_model
from extracter.photos.read import read_photo
from extracter.search.approximate import search_rows
from extracter.search.key_table import StoredBlocks
from extracter.search.search import Matches, search

PARTS = ("search", "quality", "command")
COLUMNS = [
    "part", "size", "megapixels", "method", "kernel", "seconds", "cpu_seconds", "peak_memory_mib", "multiply_adds",
    "recall", "loss", "psnr_y", "threads",
]  # fmt: skip
_MULTIPLY_ADDS = 25e9  # of an exact search in a second of one thread; to tell what would take too long


def bench_photo(
    photo: Path,
    reference: Path,
    out: Path,
    *,
    parts: Iterable[str] = PARTS,
    sizes: list[int],
    megapixels: list[float],
    model: str | Path | None = None,
    limit: float = 300.0,
) -> None:
    """Measure on the CPU, write a CSV row after each measurement, and print a table.

    Args:
        photo: the photograph, which is reduced and then enlarged again.
        reference: another photograph of the scene, brought to the same number of pixels.
        out: CSV file to write.
        parts: any of `PARTS`.
        sizes: long sides in pixels for `search` and `quality`.
        megapixels: sizes of results for `command`.
        model: as for `model_folder`.
        limit: CPU seconds; an exact search that is predicted to take longer is left out.

    Raises:
        UserError: a part that does not exist, or a photograph or model that cannot be read.
    """
    if unknown := set(parts) - set(PARTS):
        raise UserError(f"--part {', '.join(sorted(unknown))}: allowed are {', '.join(PARTS)}")
    images = [Image.fromarray(_eight_bit(read_photo(path).rgb)) for path in (photo, reference)]
    measures: dict[str, Callable[[], Iterator[dict]]] = {
        "search": lambda: _searches(images, sizes, model, limit),
        "quality": lambda: _qualities(images, sizes, model, limit),
        "command": lambda: _commands(images, megapixels, model),
    }
    rows: list[dict] = []
    for part in parts:
        for row in measures[part]():
            rows.append({"part": part, "threads": torch.get_num_threads(), **row})
            write_csv(out, [{key: _rounded(row.get(key)) for key in COLUMNS} for row in rows], COLUMNS)
            print(", ".join(f"{key} {_rounded(value)}" for key, value in rows[-1].items()), file=sys.stderr, flush=True)
    table = Table(title="photographs on the CPU", title_justify="left", box=None)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("part", "method") else "right")
    for row in rows:
        table.add_row(*("" if row.get(key) is None else f"{_rounded(row[key])}" for key in COLUMNS))
    Console(width=150).print(table)


def _eight_bit(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)


def _rounded(value: object) -> object:
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _resized(image: Image.Image, factor: float) -> Image.Image:
    """Enlarged or reduced, then cut to multiples of 4."""
    image = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS)
    return image.crop((0, 0, image.width // SCALE * SCALE, image.height // SCALE * SCALE))


def _at_side(images: list[Image.Image], side: int) -> list[Image.Image]:
    return [_resized(image, side / max(image.size)) for image in images]


def _is_affordable(matched: list[Image.Image], channels: int, limit: float) -> bool:
    queries, keys = (image.width * image.height / SCALE**2 for image in matched)
    return queries * keys * channels / _MULTIPLY_ADDS <= limit


def _timed(work: Callable[[], object]) -> tuple[object, dict]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}


@torch.inference_mode()
def _searches(images: list[Image.Image], sizes: list[int], model: str | Path | None, limit: float) -> Iterator[dict]:
    """Both searches on the model's features, patches of 3 x 3: time, arithmetic, and how near the fast one comes."""
    network = open_model(model).to(memory_format=torch.channels_last)
    config, u = network.search.with_kernel(3), network.stm.u
    channels = 4 * network.dfe.features[0].out_channels
    for side in sizes:
        pair = _at_side(images, side)
        query, key = (network.dfe(to_tensor(np.asarray(upscale(downscale(image)))[None]))[2] for image in pair)
        row = {"size": side, "megapixels": query.shape[2] * query.shape[3] * SCALE**2 / 1e6, "kernel": 3}
        blocks = [StoredBlocks(x[0], 1) for x in (query, key)]
        counts: list[float] = []
        two_stage = config.strategy == "two_stage"
        search_rows(blocks[0], blocks[1:], u, two_stage, 2**31, count=counts.append)  # compiles, and counts
        fast, spent = _timed(lambda: search(query, [key], u, replace(config, method="approximate", memory=2048)))  # noqa: B023
        found = {"method": "fast", **row, **spent, "multiply_adds": sum(counts)}
        if not _is_affordable(pair, channels, limit):
            yield found
            continue
        exact, spent = _timed(lambda: search(query, [key], u, config))  # noqa: B023
        products = float(query[0, 0].numel() * key[0, 0].numel() * channels)
        yield {"method": "exact", **row, **spent, "multiply_adds": products}
        yield found | _nearness(fast, exact)


def _nearness(found: Matches, exact: Matches) -> dict:
    """Share of queries whose best key was found, and the mean cosine that the others lose."""
    recall = (found.indices[:, 0] == exact.indices[:, 0]).float().mean()
    return {"recall": float(recall), "loss": float((exact.scores[:, 0] - found.scores[:, 0]).mean())}


def _qualities(images: list[Image.Image], sizes: list[int], model: str | Path | None, limit: float) -> Iterator[dict]:
    """PSNR on Y of the whole result by search, in float32; and without a reference."""
    network = open_model(model)
    channels = 4 * network.dfe.features[0].out_channels
    for side in sizes:
        pair = _at_side(images, side)
        original = np.asarray(pair[0])
        lr, ref = to_photo(downscale(pair[0]))[0], to_photo(pair[1])[0]
        row = {"size": side, "megapixels": original.shape[0] * original.shape[1] / 1e6}
        bicubic = np.asarray(upscale(downscale(pair[0])))
        yield {"method": "bicubic", **row, "psnr_y": psnr_y(original, bicubic)}
        exact = None
        for method, kernel in (("exact", 3), ("fast", 3), ("exact", 6), ("exact", 12), ("no reference", 3)):
            cheaper = [_resized(image, (3 / kernel) ** 0.5) for image in pair]
            if method == "exact" and not _is_affordable(cheaper, channels, limit):
                continue
            upscaler = Upscaler(
                network, search="exact" if method == "exact" else "fast", kernel=kernel, precision="32", memory="3GiB"
            )
            refs = [] if method == "no reference" else [ref]
            result, spent = _timed(lambda: upscaler.run(lr, refs))  # noqa: B023
            found = {"method": method, "kernel": kernel, **row, **spent}
            found["psnr_y"] = psnr_y(original, result.photo.rgb)
            if (method, kernel) == ("exact", 3):
                exact = result.matches
            if method == "fast" and exact is not None:
                found |= _nearness(result.matches, exact)
            yield found


def _commands(images: list[Image.Image], megapixels: list[float], model: str | Path | None) -> Iterator[dict]:
    """The whole command, from process start to the written file, a reference of the result's size."""
    with tempfile.TemporaryDirectory() as folder:
        lr, ref, out = (Path(folder) / name for name in ("lr.png", "ref.png", "sr.png"))
        for wanted in megapixels:
            pair = [_resized(image, (wanted * 1e6 / (image.width * image.height)) ** 0.5) for image in images]
            downscale(pair[0]).save(lr, compress_level=1)
            pair[1].save(ref, compress_level=1)
            size = max(pair[0].size)
            del pair
            command = [sys.executable, "-m", "extracter.cli", "upscale", str(lr), "--ref", str(ref), "-o", str(out)]
            command += ["--overwrite", "--memory", _budget(wanted), *(["--model", str(model)] if model else [])]
            start = time.perf_counter()
            child = os.posix_spawn(sys.executable, command, os.environ)
            _, status, usage = os.wait4(child, 0)
            if status:
                raise UserError(f"extracter upscale of {wanted} megapixels failed (exit code {status >> 8})")
            yield {
                "method": "upscale", "kernel": 3, "size": size, "megapixels": wanted,
                "seconds": time.perf_counter() - start, "cpu_seconds": usage.ru_utime + usage.ru_stime,
                "peak_memory_mib": usage.ru_maxrss / 1024 if sys.platform != "darwin" else usage.ru_maxrss / MIB,
            }  # fmt: skip


def _budget(megapixels: float) -> str:
    """For `--memory`; the peak counts the interpreter too and should stay below 4 GiB, or 6 for the largest."""
    return "3584MiB" if megapixels <= 12 else "5632MiB"
