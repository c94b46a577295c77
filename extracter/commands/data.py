"""`extracter download` and `prepare`: raw images, and the arrays and images made from them."""

from pathlib import Path
from typing import Annotated

import typer

from extracter import params
from extracter.commands.options import Params, PresetName


def download(
    name: Annotated[str, typer.Argument(metavar="SET", help="train, or a test set such as set14.")],
    out: Annotated[Path, typer.Option(help="Folder for the raw images and their manifest.json.")],
    file: Params = "params.yaml",
    preset: PresetName = None,
) -> None:
    """Fetch the raw images of one set, verified; the demo preset takes them from scikit-image, without network.

    Example: `extracter download set14 --preset open --out data/raw/open/set14`
    """
    from extracter.download.download import download

    block = "data.train" if name == "train" else f"data.tests.{name}"
    source, mirror, local, every = params.load_blocks(
        file, preset, block, "data.mirror", "data.local", "evaluation.every"
    )
    download(name, source, out, mirror=mirror, local=local.get(name), every=every)


def prepare(
    name: Annotated[str, typer.Argument(metavar="SET", help="train, or a test set such as set14.")],
    raw: Annotated[Path, typer.Option(help="Folder that `download` made.")],
    out: Annotated[Path, typer.Option(help="Folder for LR, LR_up, Ref, Ref_du and their manifest.json.")],
    file: Params = "params.yaml",
    preset: PresetName = None,
) -> None:
    """Make training pairs, or the inputs and references of a test set, from raw images.

    Example: `extracter prepare set14 --raw data/raw/demo/set14 --out data/prepared/demo/set14`
    """
    from extracter.data.prepare import prepare_test, prepare_train

    if name == "train":
        seed, source = params.load_blocks(file, preset, "seed", "data.train")
        prepare_train(source, raw, out, seed=seed)
    else:
        seed, source = params.load_blocks(file, preset, "seed", f"data.tests.{name}")
        prepare_test(name, source, raw, out, seed=seed)
