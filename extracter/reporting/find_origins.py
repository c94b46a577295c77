"""Where textures come from: the best match of every query patch, for the images that the report shows."""

from pathlib import Path

import torch

from extracter.data.datasets import TestImage, TestSet
from extracter.device import choose_device, configure_torch
from extracter.errors import UserError
from extracter.files import write_json
from extracter.models.checkpoint import load_model
from extracter.models.texture_transformer import TextureTransformer
from extracter.progress import track
from extracter.reporting.examples import choose_examples
from extracter.search.search import Matches


def map_origins(images: Path, checkpoint: Path, baseline: Path, figures: Path, out: Path, *, device: str) -> None:
    """Search the references of the images that `choose_examples` chooses, and write the matches.

    Args:
        images: folder of a prepared test set.
        checkpoint: folder of a checkpoint of Extracter, TTSR or DPFSR, whose matches they are.
        baseline, figures: CSV files of `extracter evaluate`, for `choose_examples`.
        out: JSON. The stride of the search, and for each image its role, its first reference, and for each query patch,
            row by row, the best key in that reference and their cosine similarity in [-1, 1].
        device: auto, cpu, cuda, cuda:N or mps.

    Raises:
        UserError: a file is missing or damaged, or the network does not match patches as these do.
    """
    network = load_model(checkpoint)
    if not isinstance(network, TextureTransformer) or not network.search.has_blocks:
        raise UserError(f"{checkpoint}: not a checkpoint of Extracter, TTSR or DPFSR, whose matches can be drawn")
    target = choose_device(device)
    configure_torch(0)
    network.to(target)
    test_set = TestSet(images)
    names = {name: role for role, name in choose_examples(baseline, figures).items()}
    test_set.rows = {path: rows for path, rows in test_set.rows.items() if Path(path).stem in names}
    found = []
    for inputs in track(test_set, f"matches on {test_set.name}", len(test_set)):
        matches = find_matches(network, inputs, target)
        found.append(
            {
                "role": names[inputs.name],
                "image": inputs.name,
                "reference": inputs.reference,
                "indices": matches.indices[0, 0].tolist(),
                "scores": [round(score, 3) for score in matches.scores[0, 0].tolist()],
            }
        )
    write_json(out, {"set": test_set.name, "stride": network.search.stride, "images": found})


@torch.inference_mode()
def find_matches(network: TextureTransformer, inputs: TestImage, device: torch.device) -> Matches:
    """What the search of a forward pass finds in the first reference of an image."""
    found: list[Matches] = []
    with network.stm.register_forward_hook(lambda _module, _inputs, outputs: found.append(outputs[0])):
        network(*(tensor.to(device) for tensor in (inputs.lr, inputs.lr_up, inputs.ref, inputs.ref_du)))
    return found[0]
