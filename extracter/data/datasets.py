"""Prepared sets as tensors: training batches that depend on (seed, step) alone, and test sets image by image."""

import csv
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from extracter.data import manifest
from extracter.data.degradation import SCALE, downscale, upscale
from extracter.data.pairs import ARRAYS
from extracter.errors import UserError
from extracter.image_tensors import to_tensor
from extracter.params import Train

INPUT_FAMILY = ("lr", "lr_up", "hr")
REFERENCE_FAMILY = ("ref_lr", "ref_du", "ref")


@lru_cache(maxsize=4)
def _epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch, 0]).permutation(count)


def _read_listed(folder: Path, name: str, content: dict[str, Any]) -> list[dict[str, str]]:
    """The rows of a CSV file, which must be the one that the manifest lists."""
    entry = next((entry for entry in content["files"] if entry["path"] == name), None)
    if entry is None or not (folder / name).is_file() or manifest.describe(folder, name) != entry:
        raise UserError(
            f"{folder / name}: missing or altered; delete {folder / manifest.NAME} and run the workflow again"
        )
    with (folder / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _orient(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """One of the 8 flips and 90-degree rotations of H, W, 3."""
    turned = np.rot90(pixels, orientation % 4)
    return turned[:, ::-1] if orientation >= 4 else turned


class TrainingPairs:
    """Training and validation pairs that `prepare` made, memory-mapped.

    Args:
        folder: holds pairs.csv and one .npy array for each of lr, lr_up, hr, ref_lr, ref_du, ref.

    Raises:
        UserError: a file is missing, is not of the size that the manifest gives, or does not fit the others.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.manifest = manifest.read(self.folder)
        sizes = {entry["path"]: entry["size"] for entry in self.manifest["files"]}
        remedy = f"delete {self.folder / manifest.NAME} and run the workflow again"
        self._arrays = {}
        for name in ARRAYS:
            path = self.folder / f"{name}.npy"
            if not path.is_file() or path.stat().st_size != sizes.get(path.name):
                raise UserError(f"{path}: missing or not of the size in {manifest.NAME}; {remedy}")
            try:
                self._arrays[name] = np.load(path, mmap_mode="r")
            except ValueError as error:
                raise UserError(f"{path}: not a NumPy array ({error}); {remedy}") from None
        rows = _read_listed(self.folder, "pairs.csv", self.manifest)
        self.names = [row["name"] for row in rows]
        self.train = np.array([int(row["index"]) for row in rows if row["split"] == "train"], dtype=np.int64)
        self.held_out = np.array([int(row["index"]) for row in rows if row["split"] == "validation"], dtype=np.int64)
        self.size = self._arrays["hr"].shape[1]
        for name, array in self._arrays.items():
            side = self.size // SCALE if name in ("lr", "ref_lr") else self.size
            if array.dtype != np.uint8 or array.shape != (len(rows), side, side, 3):
                raise UserError(f"{self.folder / name}.npy: does not fit pairs.csv and hr.npy; {remedy}")
        if not len(self.train):
            raise UserError(f"{self.folder / 'pairs.csv'}: no training pair; {remedy}")

    @property
    def stand_in(self) -> bool:
        """Whether the photographs stand in for the paper's."""
        return self.manifest["stand_in"]

    def batches(self, steps: range, params: Train, seed: int, *, pin: bool) -> Iterator[dict[str, torch.Tensor]]:
        """The batches of training steps, each made while the step before it runs.

        Args:
            steps: their numbers.
            params: as for `batch`.
            seed: as for `batch`.
            pin: place them where a GPU copies from fastest.
        """

        def make(step: int) -> dict[str, torch.Tensor]:
            batch = self.batch(step, params, seed)
            return {key: images.pin_memory() for key, images in batch.items()} if pin else batch

        with ThreadPoolExecutor(max_workers=1) as worker:
            waiting = deque(worker.submit(make, step) for step in steps[:2])
            for step in steps:
                yield waiting.popleft().result()
                if step + 2 < steps.stop:
                    waiting.append(worker.submit(make, step + 2))

    def batch(self, step: int, params: Train, seed: int) -> dict[str, torch.Tensor]:
        """The batch of one training step, the same whenever and wherever it is asked for.

        Each epoch runs through all training pairs in an order drawn from (seed, epoch). Input family (lr, lr_up, hr)
        and reference family (ref, ref_du) are turned and flipped, in ways drawn from (seed, step).

        Args:
            step: from 0.
            params: `batch`, pairs in it; `swap`, the probability that input and reference exchange roles;
                `turn_apart`, that the reference is turned in a way of its own; `self_reference` and
                `other_reference`, that it is the input's own bicubic, or that of another pair, as happens where
                nothing better is at hand.
            seed: of the order and of the augmentation.

        Returns:
            lr (N, 3, S/4, S/4) and lr_up, ref, ref_du, hr (N, 3, S, S), float32 in [-1, 1].
        """
        count = len(self.train)
        rng = np.random.default_rng([seed, step, 1])
        columns: dict[str, list[np.ndarray]] = {"lr": [], "lr_up": [], "hr": [], "ref_du": [], "ref": []}
        for position in range(step * params.batch, (step + 1) * params.batch):
            epoch, place = divmod(position, count)
            index = self.train[_epoch_order(seed, epoch, count)[place]]
            inputs, references = INPUT_FAMILY, REFERENCE_FAMILY
            turn, own_turn = rng.integers(8, size=2)
            reference_turn = own_turn if rng.random() < params.turn_apart else turn
            if rng.random() < params.swap:
                inputs, references = references, inputs
            for name, source in zip(INPUT_FAMILY, inputs, strict=True):
                columns[name].append(_orient(self._arrays[source][index], turn))
            kind = rng.random()
            if kind < params.self_reference:
                ref = self._arrays[inputs[1]][index]
                ref_du = np.asarray(upscale(downscale(Image.fromarray(ref))))
            else:
                if kind < params.self_reference + params.other_reference:
                    index = self.train[rng.integers(count)]
                ref_du, ref = (self._arrays[source][index] for source in references[1:])
            columns["ref"].append(_orient(ref, reference_turn))
            columns["ref_du"].append(_orient(ref_du, reference_turn))
        return {name: to_tensor(np.stack(pixels)) for name, pixels in columns.items()}

    def validation(self) -> Iterator[dict[str, torch.Tensor]]:
        """The held-out pairs one at a time, as they are: the keys of `batch`, N = 1."""
        for index in self.held_out:
            pair = {name: to_tensor(self._arrays[name][index : index + 1]) for name in ARRAYS if name != "ref_lr"}
            yield pair


@dataclass(frozen=True)
class TestImage:
    """One image of a test set with its first reference.

    `lr` is 1, 3, h, w; `lr_up` and `hr` are 1, 3, 4h, 4w; `ref` and `ref_du` share a size of their own; all float32
    in [-1, 1]. `hr_pixels` is hr as uint8 4h, 4w, 3. `name` and `reference` are file names without folder and suffix.
    """

    __test__ = False  # not a test class, whatever pytest makes of the name

    name: str
    reference: str
    lr: torch.Tensor
    lr_up: torch.Tensor
    ref: torch.Tensor
    ref_du: torch.Tensor
    hr: torch.Tensor
    hr_pixels: np.ndarray


class TestSet:
    """A test set that `prepare` made; iterating reads its images one at a time, in the order of their names.

    Args:
        folder: holds hr/, lr/, lr_up/, references.csv and manifest.json.

    Raises:
        UserError: a file is missing, altered or unreadable; images are held against the manifest when they are read.
    """

    __test__ = False  # not a test class, whatever pytest makes of the name

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.manifest = manifest.read(self.folder)
        self._entries = {entry["path"]: entry for entry in self.manifest["files"]}
        path = self.folder / "references.csv"
        rows = [row for row in _read_listed(self.folder, path.name, self.manifest) if row["rank"] == "1"]
        self.rows = sorted(rows, key=lambda row: row["image"])
        if not self.rows:
            raise UserError(f"{path}: names no image; delete {self.folder / manifest.NAME} and run again")

    @property
    def name(self) -> str:
        """The set's name, such as set14."""
        return self.manifest["set"]

    @property
    def stand_in(self) -> bool:
        """Whether the images stand in for the published ones."""
        return self.manifest["stand_in"]

    @property
    def references(self) -> str:
        """Where references come from: own, self or random."""
        return self.manifest["references"]

    def __len__(self) -> int:
        return len(self.rows)

    def _read(self, path: str) -> Image.Image:
        if path not in self._entries:
            raise UserError(
                f"{self.folder / path}: not in {manifest.NAME}; delete {self.folder / manifest.NAME} and run again"
            )
        return manifest.read_image(self.folder, self._entries[path])

    def __iter__(self) -> Iterator[TestImage]:
        for row in self.rows:
            name = Path(row["image"]).name
            paths = {
                "hr": row["image"],
                "lr": f"lr/{name}",
                "lr_up": f"lr_up/{name}",
                "ref": row["reference"],
                "ref_du": row["reference_du"],
            }
            pixels = {key: np.asarray(self._read(path)) for key, path in paths.items()}
            tensors = {key: to_tensor(value[None]) for key, value in pixels.items()}
            yield TestImage(
                name=Path(row["image"]).stem,
                reference=Path(row["reference"]).stem,
                hr_pixels=pixels["hr"],
                **tensors,
            )
