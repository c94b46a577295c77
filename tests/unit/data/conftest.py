"""Small photographs and parameter blocks for the tests of data handling."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from extracter.data import manifest
from extracter.params import TestData, TrainData


@pytest.fixture
def photograph():
    """Smooth coloured noise: any size, another picture for each seed."""

    def make(seed: int, width: int, height: int) -> Image.Image:
        rng = np.random.default_rng(seed)
        small = rng.integers(0, 256, (height // 6 + 2, width // 6 + 2, 3), dtype=np.uint8)
        return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)

    return make


@pytest.fixture
def raw_set(tmp_path, photograph):
    """A raw set as `download` leaves it: files of the given names and sizes, and manifest.json."""

    def make(name: str, files: dict[str, tuple[int, int]], layout: str = "photographs", source: str = "demo") -> Path:
        folder = tmp_path / "raw" / name
        for number, (path, (width, height)) in enumerate(sorted(files.items())):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            photograph(number, width, height).save(folder / path)
        rewrite(folder, name, layout, source)
        return folder

    def rewrite(folder: Path, name: str, layout: str = "photographs", source: str = "demo") -> None:
        paths = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != manifest.NAME]
        files = [manifest.describe(folder, path) for path in paths]
        manifest.write(folder, name, source, stand_in=True, layout=layout, files=files)

    make.rewrite = rewrite
    return make


@pytest.fixture
def train_data():
    """Parameters of training data; what a test does not name is small."""

    def make(**changes) -> TrainData:
        values = {"source": "demo", "folder": None, "size": 32, "pairs": 24, "validation": 4, "shift": 0.25}
        return TrainData(**values | {"scale": 0.1, "rotation": 10.0, "photometry": 0.2} | changes)

    return make


@pytest.fixture
def test_data():
    """Parameters of a test set."""

    def make(references: str = "self", source: str = "demo", folder: str | None = None) -> TestData:
        return TestData(source=source, folder=folder, references=references)

    return make
