"""Prepare raw images for testing and training: LR, LR_up, Ref_du, lists of references, training pairs."""

from functools import partial
from pathlib import Path

from PIL import Image

from extracter.data import manifest, references, views
from extracter.data.degradation import crop_to_scale, downscale, upscale
from extracter.data.manifest import Entry
from extracter.data.parallel import ordered_map
from extracter.data.prepare_pairs import prepare_train
from extracter.data.references import RawImage
from extracter.errors import UserError
from extracter.files import write_csv
from extracter.presets import TestData

__all__ = ["prepare_test", "prepare_train"]


def _crop(image: Image.Image, path: Path) -> Image.Image:
    try:
        return crop_to_scale(image)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _read_cropped(raw: Path, entry: Entry) -> Image.Image:
    return _crop(manifest.read_image(raw, entry), raw / entry["path"])


def _prepare_image(raw: Path, out: Path, kind: str, image: RawImage) -> list[Entry]:
    """Write all files that depend on one image and its own references; return their manifest entries."""
    hr = _read_cropped(raw, image.entry)
    lr = downscale(hr)
    lr_up = upscale(lr)
    files = {f"hr/{image.name}.png": hr, f"lr/{image.name}.png": lr, f"lr_up/{image.name}.png": lr_up}
    if kind == "self":
        files[f"ref_du/{image.name}.png"] = upscale(downscale(lr_up))
    elif references.is_published(kind):
        for rank, entry in zip(references.ranks(image), image.references, strict=True):
            ref = _read_cropped(raw, entry)
            files[f"ref/{image.name}_{rank}.png"] = ref
            files[f"ref_du/{image.name}_{rank}.png"] = upscale(downscale(ref))
    return [manifest.write_png(out, path, image) for path, image in files.items()]


def _prepare_view(raw: Path, out: Path, inputs: set[str], shown: set[str], entry: Entry) -> list[Entry]:
    """Write one photograph of `views`, as an input, as a reference, or as both."""
    name = views.name_of(entry["path"])
    hr = _crop(views.shrink(manifest.read_image(raw, entry)), raw / entry["path"])
    lr = downscale(hr)
    lr_up = upscale(lr)
    files = {}
    if entry["path"] in inputs:
        files |= {f"hr/{name}.png": hr, f"lr/{name}.png": lr, f"lr_up/{name}.png": lr_up}
        files[f"self_du/{name}.png"] = upscale(downscale(lr_up))
    if entry["path"] in shown:
        files |= {f"ref/{name}.png": hr, f"ref_du/{name}.png": lr_up}
    return [manifest.write_png(out, path, image) for path, image in files.items()]


def _remove_strangers(out: Path, paths: set[str]) -> None:
    """Remove images of an earlier run that are not part of the set."""
    for folder in ("hr", "lr", "lr_up", "ref", "ref_du", "self_du"):
        for file in (out / folder).glob("*.png"):
            if file.relative_to(out).as_posix() not in paths:
                file.unlink()


def prepare_test(name: str, source: TestData, raw: Path, out: Path, *, seed: int) -> None:
    """Make inputs and references of a test set: crop to multiples of 4, degrade, list the references.

    Images are processed in parallel. For `views`, references of all levels are made, whatever `references` is.

    Args:
        name: name of the set.
        source: source of the set, and kind of its references.
        raw: folder that `download` made.
        out: folder for hr/, lr/, lr_up/, ref/, ref_du/, self_du/, references.csv and manifest.json.
        seed: for random references.

    Raises:
        UserError: a raw file is missing, truncated, altered or not an image, or the set has no such references.
    """
    raw, out = Path(raw), Path(out)
    content = manifest.read_set(raw, name, source.source)
    images = references.arrange(content["layout"], content["files"])
    if content["layout"] == "views":
        rows = views.reference_rows([image.entry["path"] for image in images])
        shown = {entry["path"] for image in images for entry in image.references}
        prepare_one = partial(_prepare_view, raw, out, {image.entry["path"] for image in images}, shown)
        made = ordered_map(prepare_one, content["files"], f"prepare {name}")
    else:
        rows = references.reference_rows(source.references, name, images, seed)
        made = ordered_map(partial(_prepare_image, raw, out, source.references), images, f"prepare {name}")
    (out / manifest.NAME).unlink(missing_ok=True)
    files = [entry for entries in made for entry in entries]
    write_csv(out / "references.csv", rows, list(rows[0]))
    _remove_strangers(out, {entry["path"] for entry in files})
    manifest.write(
        out,
        name,
        source.source,
        stand_in=content["stand_in"],
        references=source.references,
        images=len(images),
        files=[*files, manifest.describe(out, "references.csv")],
    )
