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
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from extracter.benchmarks.quality import METHODS, bicubic_psnr, compare_searches, is_affordable, resized
from extracter.benchmarks.timing import nearness, print_table, rounded, timed
from extracter.data.degradation import SCALE, downscale, upscale
from extracter.errors import UserError
from extracter.files import write_csv
from extracter.image_tensors import to_tensor
from extracter.memory import MIB
from extracter.models.locate import open_model
from extracter.photos.photo import to_bytes
from extracter.photos.read import read_photo
from extracter.search.approximate import search_rows
from extracter.search.key_table import StoredBlocks
from extracter.search.search import search

PARTS = ("search", "quality", "command")
COLUMNS = [
    "part", "size", "megapixels", "method", "kernel", "seconds", "cpu_seconds", "peak_memory_mib", "multiply_adds",
    "recall", "loss", "psnr_y", "threads",
]  # fmt: skip


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
    images = [Image.fromarray(to_bytes(read_photo(path).rgb)) for path in (photo, reference)]
    measures: dict[str, Callable[[], Iterator[dict]]] = {
        "search": lambda: _searches(images, sizes, model, limit),
        "quality": lambda: _qualities(images, sizes, model, limit),
        "command": lambda: _commands(images, megapixels, model),
    }
    rows: list[dict] = []
    for part in parts:
        for row in measures[part]():
            rows.append({"part": part, "threads": torch.get_num_threads(), **row})
            write_csv(out, [{key: rounded(row.get(key)) for key in COLUMNS} for row in rows], COLUMNS)
            print(", ".join(f"{key} {rounded(value)}" for key, value in rows[-1].items()), file=sys.stderr, flush=True)
    lines = [["" if row.get(key) is None else f"{rounded(row[key])}" for key in COLUMNS] for row in rows]
    print_table("photographs on the CPU", COLUMNS, lines, left=("part", "method"), width=150)


def _at_side(images: list[Image.Image], side: int) -> list[Image.Image]:
    return [resized(image, side / max(image.size)) for image in images]


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
        fast, spent = timed(partial(search, query, [key], u, replace(config, method="approximate", memory=2048)))
        found = {"method": "fast", **row, **spent, "multiply_adds": sum(counts)}
        if not is_affordable(pair, channels, 3, limit):
            yield found
            continue
        exact, spent = timed(partial(search, query, [key], u, config))
        products = float(query[0, 0].numel() * key[0, 0].numel() * channels)
        yield {"method": "exact", **row, **spent, "multiply_adds": products}
        yield found | nearness(fast, exact)


def _qualities(images: list[Image.Image], sizes: list[int], model: str | Path | None, limit: float) -> Iterator[dict]:
    """PSNR on Y of whole results: bicubic, both searches, larger patches, and without a reference."""
    network = open_model(model)
    for side in sizes:
        photo, reference = _at_side(images, side)
        row = {"size": side, "megapixels": photo.width * photo.height / 1e6}
        yield {"method": "bicubic", **row, "psnr_y": bicubic_psnr(photo)}
        for found in compare_searches(network, photo, reference, METHODS, limit):
            yield row | found


def _commands(images: list[Image.Image], megapixels: list[float], model: str | Path | None) -> Iterator[dict]:
    """The whole command, from process start to the written file, a reference of the result's size."""
    with tempfile.TemporaryDirectory() as folder:
        lr, ref, out = (Path(folder) / name for name in ("lr.png", "ref.png", "sr.png"))
        for wanted in megapixels:
            pair = [resized(image, (wanted * 1e6 / (image.width * image.height)) ** 0.5) for image in images]
            downscale(pair[0]).save(lr, compress_level=1)
            pair[1].save(ref, compress_level=1)
            size = max(pair[0].size)
            del pair
            command = [sys.executable, "-m", "extracter", "upscale", str(lr), "--ref", str(ref), "-o", str(out)]
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
    return "3328MiB" if megapixels <= 12 else "4608MiB"
