"""`extracter download` and `prepare`: raw images, and what training and evaluation read."""

from pathlib import Path
from typing import Annotated

import typer

from extracter import params
from extracter.commands.options import Params, PresetName
from extracter.projection import download_keys, prepare_keys


def download(
    name: Annotated[str, typer.Argument(metavar="SET", help="train, or a test set such as set14.")],
    out: Annotated[Path, typer.Option(help="Folder for the raw images and manifest.json.")],
    mirror: Annotated[
        str | None,
        typer.Option(help="Folder or http(s) address with the same files; by default `data.mirror`."),
    ] = None,
    file: Params = "params.yaml",
    preset: PresetName = None,
) -> None:
    """Download and verify the raw images of one set. The demo preset needs no network.

    Example: `extracter download set14 --preset open --out data/raw/open/set14`
    """
    from extracter.download.download import download

    keys = [*download_keys(name), *(["data.mirror"] if mirror is None else [])]
    blocks = params.load_keys(file, preset, *keys)
    source = blocks.data.train if name == "train" else blocks.data.tests[name]
    every = 1 if name == "train" else blocks.evaluation.every
    mirror = blocks.data.mirror if mirror is None else mirror or None
    download(name, source, out, mirror=mirror, local=blocks.data.local.get(name), every=every)


def prepare(
    name: Annotated[str, typer.Argument(metavar="SET", help="train, or a test set such as set14.")],
    raw: Annotated[Path, typer.Option(help="Folder that `download` wrote.")],
    out: Annotated[Path, typer.Option(help="Folder for LR, LR_up, Ref, Ref_du and manifest.json.")],
    file: Params = "params.yaml",
    preset: PresetName = None,
) -> None:
    """Make training pairs, or the inputs and references of a test set, from raw images.

    Example: `extracter prepare set14 --raw data/raw/demo/set14 --out data/prepared/demo/set14`
    """
    from extracter.data.prepare import prepare_test, prepare_train

    if name == "train":
        blocks = params.load_keys(file, preset, *prepare_keys(name))
        prepare_train(blocks.data.train, raw, out, seed=blocks.seed)
        return
    kind = params.load_keys(file, preset, f"data.tests.{name}.references").data.tests[name].references
    blocks = params.load_keys(file, preset, *prepare_keys(name, kind))
    # The seed is used only to draw random references.
    prepare_test(name, blocks.data.tests[name], raw, out, seed=getattr(blocks, "seed", 0))
