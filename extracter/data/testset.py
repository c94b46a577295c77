"""Reading a prepared test set: the images, and which reference each is evaluated with."""

import csv
import io
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from extracter.errors import UserError
from extracter.files import read_json


@dataclass(frozen=True)
class Sample:
    """One image of a test set and its first reference; paths relative to the set's folder.

    Attributes:
        name: file name without folder and suffix.
        hr: the photograph, H x W, both multiples of 4.
        reference, reference_du: a photograph of any size, and the same bicubically down x4 and up x4.
    """

    name: str
    hr: str
    reference: str
    reference_du: str


@dataclass(frozen=True)
class Images:
    """The pixels of a sample, each uint8, (H, W, 3)."""

    hr: np.ndarray
    lr: np.ndarray
    lr_up: np.ndarray
    ref: np.ndarray
    ref_du: np.ndarray


class TestSet:
    """A test set as `extracter prepare` wrote it.

    Args:
        folder: holds manifest.json, references.csv and the images.

    Attributes:
        name: the set's.
        stand_in: whether its images stand in for those of the paper.
        references: own, self or random: where the references come from.
        samples: in the order of references.csv, with the references of rank 1.

    Raises:
        UserError: something is missing or damaged.
    """

    __test__ = False  # not a test class, whatever pytest makes of the name

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self._remedy = f"delete {self.folder} and run `snakemake --cores all` again"
        manifest = read_json(self.folder / "manifest.json")
        self.name: str = manifest["set"]
        self.stand_in: bool = manifest["stand_in"]
        self._files = {file["path"]: file for file in manifest["files"]}
        text = self._bytes("references.csv").decode("utf-8")
        rows = [row for row in csv.DictReader(io.StringIO(text)) if row["rank"] == "1"]
        self.samples = [
            Sample(Path(row["image"]).stem, row["image"], row["reference"], row["reference_du"]) for row in rows
        ]
        if not self.samples:
            raise UserError(f"{self.folder / 'references.csv'}: names no image; {self._remedy}")
        kinds = {"ref": "own", "lr_up": "self", "hr": "random"}
        self.references = kinds[Path(self.samples[0].reference).parts[0]]

    def read(self, sample: Sample) -> Images:
        """The images of a sample, checked against the manifest.

        Raises:
            UserError: a file is missing or is not what was prepared.
        """
        name = Path(sample.hr).name
        paths = (sample.hr, f"lr/{name}", f"lr_up/{name}", sample.reference, sample.reference_du)
        return Images(*(self._image(path) for path in paths))

    def _bytes(self, path: str) -> bytes:
        """A file's content, checked against the manifest."""
        where = self.folder / path
        if path not in self._files:
            raise UserError(f"{where}: not in the set's manifest.json; {self._remedy}")
        try:
            content = where.read_bytes()
        except FileNotFoundError:
            raise UserError(f"{where}: no such file; run `snakemake --cores all` to make it") from None
        size = self._files[path]["size"]
        if len(content) < size:
            raise UserError(f"{where}: truncated ({len(content):,} of {size:,} bytes); {self._remedy}")
        if sha256(content).hexdigest() != self._files[path]["sha256"]:
            raise UserError(f"{where}: not the file that was prepared (its SHA-256 differs); {self._remedy}")
        return content

    def _image(self, path: str) -> np.ndarray:
        try:
            return np.asarray(Image.open(io.BytesIO(self._bytes(path))).convert("RGB"))
        except (UnidentifiedImageError, OSError) as error:
            raise UserError(f"{self.folder / path}: not an image ({error}); {self._remedy}") from None
