"""What the search of each system takes at its published size: peak memory and seconds, in a process of its own."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from extracter.benchmarks.bench_worker import picture
from extracter.benchmarks.timing import timed
from extracter.confined import command_of, run_child, run_job, say
from extracter.device import choose_device, configure_torch
from extracter.errors import UserError
from extracter.families import FAMILIES
from extracter.files import write_csv
from extracter.memory import PeakMemory
from extracter.models.checkpoint import published_network
from extracter.models.masa import MASA
from extracter.models.masa_match import warp
from extracter.models.matcher import correspondences
from extracter.models.texture_transformer import TextureTransformer
from extracter.search.search import search

COLUMNS = ["system", "size", "seconds", "peak_memory_mib", "threads"]


def bench_systems(systems: Sequence[str], size: int, out: Path, *, device: str) -> None:
    """Measure the search of each system for an image and a reference of `size` x `size` pixels.

    Memory is what exists besides the features of both; of MASA it includes the textures, which are copied block by
    block. SSEN has no search and gets no row.

    Args:
        systems: keys of `FAMILIES`.
        size: a multiple of 32.
        out: CSV to write.
        device: auto, cpu, cuda, cuda:N or mps.

    Raises:
        UserError: there is no such system, or a search did not come to its end.
    """
    unknown = sorted(set(systems) - set(FAMILIES))
    if unknown:
        raise UserError(f"--system {unknown[0]}: allowed are {', '.join(FAMILIES)}")
    rows = []
    for name in systems:
        job = {"system": name, "size": size, "device": str(choose_device(device))}
        measured = run_child(command_of("extracter.benchmarks.system_search", job), 1)
        if measured.get("seconds") is None:
            continue
        figures = {"seconds": round(measured["seconds"], 2), "peak_memory_mib": round(measured["peak_memory_mib"])}
        rows.append({"system": FAMILIES[name].title, "size": size, **figures, "threads": measured["threads"]})
        write_csv(out, rows, COLUMNS)
        print(f"{rows[-1]['system']}: {rows[-1]['peak_memory_mib']} MiB, {rows[-1]['seconds']} s", file=sys.stderr)


def make_search(name: str, size: int, device: torch.device) -> Callable[[], object] | None:
    """A system's search for two images of `size` pixels; None where it has none."""
    network = published_network(name)
    side = size // 4
    if isinstance(network, MASA):
        channels = network.tail.in_channels
        query, key = (picture((channels, side, side), seed, device) for seed in (1, 2))
        values = [picture((channels, scale * side, scale * side), 3, device) for scale in (4, 2, 1)]
        return lambda: warp(query, key, values)
    if network.search is None:
        return None
    query, key = (
        picture((4 * network.dfe.width, side, side), seed, device).to(memory_format=torch.channels_last)
        for seed in (1, 2)
    )
    if isinstance(network, TextureTransformer):
        return lambda: search(query, [key], network.stm.u, network.search)
    return lambda: correspondences(query, key, network.search)


@torch.inference_mode()
def run(job: dict) -> None:
    """Measure one system and say what was found."""
    device = torch.device(job["device"])
    configure_torch(0)
    warm = make_search(job["system"], 64, device)
    if warm is None:
        say(fits=True, seconds=None)
        return
    warm()  # starts threads, compiles loops
    work = make_search(job["system"], job["size"], device)
    memory = PeakMemory(device)
    _result, spent = timed(work, device)
    say(fits=True, seconds=spent["seconds"], peak_memory_mib=memory.read(), threads=torch.get_num_threads())


if __name__ == "__main__":
    run_job(run)
