"""Raw images of one set with their manifest, whole or not at all."""

from pathlib import Path

from extracter.data import demo, manifest
from extracter.data.references import arrange
from extracter.errors import UserError
from extracter.params import TestData, TrainData


def _every(layout: str, paths: list[str], every: int) -> list[str]:
    """Files of every n-th image, counted so that 4 takes the 4th, the 8th and so on, with their references."""
    chosen = arrange(layout, [{"path": path} for path in paths])[every - 1 :: every]
    return sorted(entry["path"] for image in chosen for entry in (image.entry, *image.references))


def download(
    name: str, source: TrainData | TestData, out: Path, *, mirror: str | None, local: str | None, every: int
) -> None:
    """Bring the raw images of one set into a folder, with manifest.json.

    Args:
        name: `train` or a test set.
        source: where the set comes from.
        out: folder for the images.
        mirror: folder or http(s) address in place of the raw host; None for the host itself.
        local: folder or archive that the user supplies in place of any download.
        every: take every n-th image of a test set.

    Raises:
        UserError: the set cannot be had as asked for.
    """
    out = Path(out)
    if source.source == "none":
        raise UserError(f"{name}: not available in this preset (data.tests.{name}.source: none)")
    if source.source != "demo":
        raise UserError(f"{name}: cannot be had from {source.source}")
    layout = demo.SETS[name][0] if name in demo.SETS else "photographs"
    paths = demo.paths(name)
    if name != "train":
        paths = _every(layout, paths, every)
    if not paths:
        raise UserError(f"{name}: fewer than {every} images, so every {every}th is none; lower evaluation.every")
    (out / manifest.NAME).unlink(missing_ok=True)
    files = demo.write(name, out, paths)
    manifest.write(out, name, source.source, stand_in=True, layout=layout, files=files)
