"""Table 2: weights, patches, correlation and operations of each system in its published size."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from extracter.families import FAMILIES
from extracter.files import write_csv
from extracter.models.checkpoint import network_class, published_network
from extracter.models.masa import MASA
from extracter.models.masa_match import compared_pairs
from extracter.models.refsr import RefSR, count_parameters
from extracter.models.texture_transformer import TextureTransformer
from extracter.reporting.published import TABLE2
from extracter.reporting.tables import NOT_REPORTED, write_markdown
from extracter.search.search import Matches

SIDE = 160  # side of the paper's training images, in pixels
LARGE = 1024  # side of the image whose correlation is given in bytes
COLUMNS = [
    "method", "parameters", "frozen_parameters", "paper_parameters_m", "difference_percent", "kernel", "stride",
    "padding", "paper_kernel", "correlation_shape", "paper_correlation_shape", "gflop", "correlation_gib",
]  # fmt: skip
HEADS = [
    "Method", "Parameters (measured)", "Frozen beside them", "Paper (M)", "Difference", "Search patches",
    "Correlation (measured)", "Correlation, paper", f"GFLOP at {SIDE} px", f"Correlation at {LARGE} px",
]  # fmt: skip


def table_parameters(out: Path, modules: Path | None = None) -> None:
    """Write Table 2, and the weights of each module.

    Args:
        out: CSV to write; the Markdown table gets the suffix .md.
        modules: CSV to write with the weights of each module of each system, likewise. None: no second table.
    """
    records = [_record(name) for name in FAMILIES]
    caption = (
        "Weights of each system in its published size (SSEN and DPFSR: our reading); frozen ones are networks that "
        "training leaves as they are. Shape of the correlation, queries x keys, of "
        f"images of {SIDE} x {SIDE} pixels, as in training; MASA's are of its coarse and its fine matches. The paper's "
        "800x800 does not follow from its patches, of which 20 fit along a side. Operations of one forward pass, a "
        "multiplication and an addition being two, with the search as a product of matrices; the block search needs a "
        f"ninth of it where it applies. The last column is what the whole correlation of images of {LARGE} x {LARGE} "
        "pixels would take in float32, computed from its shape; no search here holds it."
    )
    write_csv(out, records, COLUMNS)
    write_markdown(out, "Table 2. Parameters, correlation and operations", caption, HEADS, list(map(_cells, records)))
    if modules is not None:
        _write_modules(modules)


def _write_modules(out: Path) -> None:
    records = [record for name in FAMILIES for record in list_modules(name)]
    cells = [[r["method"], r["module"], f"{r['parameters']:,}", r["trained"]] for r in records]
    caption = (
        "Weights of the modules of each system in its published size; those that are not trained stay as they are."
    )
    write_csv(out, records, list(records[0]))
    write_markdown(out, "Parameters by module", caption, ["Method", "Module", "Parameters", "Trained"], cells)


def list_modules(name: str) -> list[dict[str, Any]]:
    """The children of a system's network that have weights, in the order in which they compute.

    Args:
        name: a key of `FAMILIES`.

    Returns:
        For each its `method`, `module` (the attribute's name), `parameters`, and whether it is `trained`, yes or no.
    """
    network = published_network(name)
    return [
        {
            "method": FAMILIES[name].title,
            "module": child,
            "parameters": count_parameters(module),
            "trained": "no" if f"{child}.".startswith(network.frozen) else "yes",
        }
        for child, module in network.named_children()
        if count_parameters(module)
    ]


def _record(name: str) -> dict[str, Any]:
    """What is known of a system."""
    title = FAMILIES[name].title
    network = published_network(name)
    frozen = sum(p.numel() for key, p in network.named_parameters() if key.startswith(network.borrowed))
    count = count_parameters(network) - frozen
    record: dict[str, Any] = {"method": title, "parameters": count, "frozen_parameters": frozen}
    if title in TABLE2:
        millions, kernel, shape = TABLE2[title]
        record |= {"paper_parameters_m": millions, "paper_kernel": f"{kernel}x{kernel}"}
        record["paper_correlation_shape"] = shape
        record["difference_percent"] = f"{100 * (count / 1e6 / millions - 1):.3f}"
    if network.search is not None:
        record |= {key: getattr(network.search, key) for key in ("kernel", "stride", "padding")}
    pairs = compared(name, SIDE)
    record["correlation_shape"] = " + ".join(f"{queries}x{keys}" for queries, keys in pairs)
    large = sum(queries * keys for queries, keys in compared(name, LARGE, count_only=True))
    record["correlation_gib"] = f"{large * 4 / 2**30:.3g}" if large else ""
    return record | {"gflop": f"{gflop(name, SIDE):.0f}"}


def _cells(record: dict[str, Any]) -> list[str]:
    def shown(key: str, form: str = "{}") -> str:
        return form.format(record[key]) if record.get(key) not in (None, "") else NOT_REPORTED

    patches = "none"
    if "kernel" in record:
        patches = "{kernel}x{kernel}, stride {stride}, padding {padding}".format(**record)
    elif record["correlation_shape"]:
        patches = "3x3, by blocks"
    difference = f"{float(record['difference_percent']):+.2f} %" if "difference_percent" in record else NOT_REPORTED
    return [
        record["method"], f"{record['parameters']:,}", f"{record['frozen_parameters']:,}",
        shown("paper_parameters_m", "{:.2f}"), difference, patches, shown("correlation_shape"),
        shown("paper_correlation_shape"), shown("gflop"), shown("correlation_gib", "{} GiB"),
    ]  # fmt: skip


def compared(name: str, side: int, *, count_only: bool = False) -> list[tuple[int, int]]:
    """Numbers of queries and keys that a system compares for images of `side` x `side` pixels.

    Args:
        name: a key of `FAMILIES`.
        side: a multiple of 32.
        count_only: from the patches that fit, without a forward pass.
    """
    network = published_network(name)
    if isinstance(network, MASA):
        return compared_pairs(side // 4, side // 4)
    if network.search is None:
        return []
    if isinstance(network, TextureTransformer) and not count_only:
        narrow: Any = network_class(name)
        return [correlation_shape(narrow(**_NARROW.get(name, {})).eval(), side)]
    patches = network.search.count(side // 4) ** 2
    return [(patches, patches)]


# Widths do not change which patches are compared; with these a forward pass takes moments.
_NARROW: dict[str, dict[str, Any]] = {
    name: {"features": 4, "dfe_width": 4, **blocks}  # type: ignore[dict-item]
    for name, blocks in {
        "ttsr": {"blocks": (0, 0, 0, 0)},
        "dpfsr": {"blocks": (1, 0, 0, 0)},
        "srntt": {"blocks": 1},
        "extracter": {"ife_blocks": 0, "csfi_blocks": (0, 0, 0), "gde_blocks": ()},
    }.items()
}


@torch.inference_mode()
def correlation_shape(network: TextureTransformer, side: int = SIDE) -> tuple[int, int]:
    """Return the numbers of queries and keys that the search compares for images of `side` x `side` pixels."""
    found: list[Matches] = []
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with network.stm.register_forward_hook(lambda _stm, _inputs, outputs: found.append(outputs[0])):
        network(image[..., ::4, ::4], image, image, image)
    return found[0].indices.shape[-1], found[0].keys


def gflop(name: str, side: int) -> float:
    """Return the thousand millions of operations of a forward pass with one reference, counted without computing it."""
    # The counter does not know the CPU's fused attention; laid out, it consists of products.
    laid_out = sdpa_kernel(SDPBackend.MATH)
    with laid_out, FakeTensorMode(), FlopCounterMode(display=False) as counter, torch.no_grad():
        build: Any = network_class(name)
        network: RefSR = build().eval()
        if network.search is not None:  # products that the counter sees, held at once
            network.search = dataclasses.replace(network.search, method="dense")
        image = torch.rand(1, 3, side, side)
        network(torch.rand(1, 3, side // 4, side // 4), image, image, image)
    return counter.get_total_flops() / 1e9
