"""Table 2: number of weights and shape of the correlation in the paper's configuration, measured and reported."""

from pathlib import Path

import torch
from torch import Tensor, nn

from extracter.files import write_csv
from extracter.models.extracter import Extracter
from extracter.models.refsr import count_parameters
from extracter.models.texture_transformer import TextureTransformer
from extracter.models.ttsr import TTSR
from extracter.reporting.published import TABLE2
from extracter.reporting.tables import NOT_REPORTED, write_markdown

SIDE = 160  # side of the paper's training images, in pixels


def table_parameters(out: Path) -> None:
    """Write Table 2.

    Args:
        out: CSV to write; the Markdown table gets the suffix .md.
    """
    networks = {"TTSR": TTSR, "Extracter": Extracter}
    records, lines = [], []
    for method, (millions, kernel, shape) in TABLE2.items():
        record: dict[str, object] = {"method": method, "paper_parameters_m": millions}
        record |= {"paper_kernel": f"{kernel}x{kernel}", "paper_correlation_shape": shape}
        cells = [method, NOT_REPORTED, f"{millions:.2f}", NOT_REPORTED, f"{kernel}x{kernel}", NOT_REPORTED, shape]
        if method in networks:
            network = networks[method]().eval()
            count = count_parameters(network)
            difference = 100 * (count / 1e6 / millions - 1)
            queries, keys = correlation_shape(network)
            search = network.search
            record |= {"parameters": count, "difference_percent": f"{difference:.3f}"}
            record |= {"kernel": search.kernel, "stride": search.stride, "padding": search.padding}
            record["correlation_shape"] = f"{queries}x{keys}"
            patches = f"{search.kernel}x{search.kernel}, stride {search.stride}, padding {search.padding}"
            cells = [
                method,
                f"{count:,}",
                f"{millions:.2f}",
                f"{difference:+.2f} %",
                patches,
                f"{queries}x{keys}",
                shape,
            ]
        records.append(record)
        lines.append(cells)
    columns = ["method", "parameters", "paper_parameters_m", "difference_percent", "kernel", "stride", "padding"]
    columns += ["paper_kernel", "correlation_shape", "paper_correlation_shape"]
    heads = ["Method", "Parameters (measured)", "Paper (M)", "Difference", "Search patches"]
    heads += ["Correlation (measured)", "Correlation, paper"]
    caption = (
        "Number of weights of the networks in the paper's configuration. Shape of the correlation, queries x keys, in "
        f"a forward pass on images of {SIDE} x {SIDE} pixels, as in training. The paper's 800x800 does not follow "
        "from its patches, of which 20 fit along a side. DPFSR is not measured."
    )
    write_csv(out, records, columns)
    write_markdown(out, "Table 2. Parameters and correlation", caption, heads, lines)


@torch.inference_mode()
def correlation_shape(network: TextureTransformer, side: int = SIDE) -> tuple[int, int]:
    """Return the numbers of queries and keys that the search compares for images of `side` x `side` pixels."""
    shapes = []

    def observe(_stm: nn.Module, _inputs: tuple[Tensor, ...], outputs: tuple) -> None:
        matches, _textures = outputs
        shapes.append((matches.indices.shape[-1], matches.keys))

    handle = network.stm.register_forward_hook(observe)
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    network(image[..., ::4, ::4], image, image, image)
    handle.remove()
    return shapes[0]
