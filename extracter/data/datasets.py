"""Read prepared sets as tensors: training batches that depend only on (seed, step), and test sets image by image."""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from extracter.data import manifest, views
from extracter.data.degradation import downscale, upscale
from extracter.data.pair_arrays import ARRAYS, PREFIXES
from extracter.data.pairs import extend
from extracter.data.references import GRADED, choose, is_published
from extracter.errors import UserError
from extracter.files import read_rows
from extracter.image_tensors import to_planes, to_tensor, to_uint8
from extracter.presets import Train

# A whole batch.
WHOLE = slice(None)


@lru_cache(maxsize=4)
def _epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch, 0]).permutation(count)


def _read_listed(folder: Path, name: str, content: dict[str, Any]) -> list[dict[str, str]]:
    """The rows of a CSV file, after verifying it against the manifest."""
    entry = next((entry for entry in content["files"] if entry["path"] == name), None)
    if entry is None or not (folder / name).is_file() or manifest.describe(folder, name) != entry:
        raise UserError(
            f"{folder / name}: missing or altered; delete {folder / manifest.NAME} and run the workflow again"
        )
    return read_rows(folder / name)


def _orient(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """One of the 8 flips and 90-degree rotations of H, W, 3."""
    turned = np.rot90(pixels, orientation % 4)
    return turned[:, ::-1] if orientation >= 4 else turned


def _degrade(pixels: np.ndarray, low: str, up: str, full: str) -> dict[str, np.ndarray]:
    """An image, its reduction by a factor of four, and the enlargement of that, by the given names."""
    small = downscale(Image.fromarray(pixels))
    return {low: np.asarray(small), up: np.asarray(upscale(small)), full: pixels}


class TrainingPairs:
    """Training and validation pairs that `prepare` made, memory-mapped.

    The arrays hold inputs and references at full resolution. What is derived from them (lr, lr_up, ref_du) is computed
    when a pair is read, since reading it from disk would take longer.

    Args:
        folder: contains pairs.csv and the arrays hr.npy, ref.npy, validation_hr.npy and validation_ref.npy.

    Raises:
        UserError: a file is missing, does not have the size in the manifest, or does not match the others.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.manifest = manifest.read(self.folder)
        self._remedy = f"delete {self.folder / manifest.NAME} and run the workflow again"
        rows = _read_listed(self.folder, "pairs.csv", self.manifest)
        self.rows = {split: [row for row in rows if row["split"] == split] for split in PREFIXES}
        self._arrays = {
            split: {name: self._open(f"{prefix}{name}.npy", len(self.rows[split])) for name in ARRAYS}
            for split, prefix in PREFIXES.items()
        }
        if not len(self):
            raise UserError(f"{self.folder / 'pairs.csv'}: no training pair; {self._remedy}")
        self.size, self.ref_size = (self._arrays["train"][name].shape[1] for name in ARRAYS)

    def _open(self, name: str, count: int) -> np.ndarray:
        path = self.folder / name
        sizes = {entry["path"]: entry["size"] for entry in self.manifest["files"]}
        if not path.is_file() or path.stat().st_size != sizes.get(name):
            raise UserError(f"{path}: missing or not of the size in {manifest.NAME}; {self._remedy}")
        try:
            array = np.load(path, mmap_mode="r")
        except ValueError as error:
            raise UserError(f"{path}: not a NumPy array ({error}); {self._remedy}") from None
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape != (count, array.shape[1], array.shape[1], 3):
            raise UserError(f"{path}: does not fit pairs.csv; {self._remedy}")
        return array

    def __len__(self) -> int:
        """Number of training pairs."""
        return len(self.rows["train"])

    def batches(
        self, steps: range, params: Train, seed: int, *, pin: bool, part: slice = WHOLE
    ) -> Iterator[dict[str, torch.Tensor]]:
        """The batches of training steps, each prepared while the previous step runs.

        Args:
            steps: numbers of the steps.
            params: see `batch`.
            seed: see `batch`.
            pin: whether to put the batches in pinned memory, from which copies to a GPU are fastest.
            part: see `batch`.
        """

        def make(step: int) -> dict[str, torch.Tensor]:
            batch = self.batch(step, params, seed, part)
            return {key: images.pin_memory() for key, images in batch.items()} if pin else batch

        # A GPU needs batches faster than one thread prepares them; on a CPU more threads would slow down the network.
        workers = min(12, os.cpu_count() or 1) if pin else 1
        with ThreadPoolExecutor(workers) as pool:
            waiting = deque(pool.submit(make, step) for step in steps[: workers + 1])
            for step in steps:
                yield waiting.popleft().result()
                if step + workers + 1 < steps.stop:
                    waiting.append(pool.submit(make, step + workers + 1))

    def batch(self, step: int, params: Train, seed: int, part: slice = WHOLE) -> dict[str, torch.Tensor]:
        """The batch of one training step; it depends only on the arguments.

        Each epoch runs through all training pairs in an order drawn from (seed, epoch). The input (lr, lr_up, hr) and
        the reference (ref, ref_du) are rotated and flipped in ways drawn from (seed, step).

        Args:
            step: number of the step, from 0.
            params: `batch` is the number of pairs. Probabilities: `swap`, that input and reference exchange roles;
                `turn_apart`, that the reference is rotated independently; `self_reference` and `other_reference`, that
                the reference is the input's own bicubic or that of another pair, as in use without a good reference.
            seed: for the order and the augmentation.
            part: pairs of the batch to read, such as those of one process of several.

        Returns:
            lr (N, 3, S/4, S/4), lr_up and hr (N, 3, S, S), ref and ref_du (N, 3, R, R), all uint8; `to_signed` converts
            them for the networks on their device. S is `size`, R is `ref_size`. Input and reference exchange roles only
            if S equals R. If the input's own bicubic is the reference, it is extended to R by mirroring.
        """
        count = len(self)
        rng = np.random.default_rng([seed, step, 1])
        arrays = self._arrays["train"]
        columns: dict[str, list[np.ndarray]] = {name: [] for name in ("lr", "lr_up", "hr", "ref_du", "ref")}
        wanted = range(params.batch)[part]
        for place in range(params.batch):
            epoch, number = divmod(step * params.batch + place, count)
            index = _epoch_order(seed, epoch, count)[number]
            inputs, references = ARRAYS
            turn, own_turn = rng.integers(8, size=2)
            reference_turn = own_turn if rng.random() < params.turn_apart else turn
            if rng.random() < params.swap and self.size == self.ref_size:
                inputs, references = references, inputs
            kind, other = rng.random(), index
            if params.self_reference <= kind < params.self_reference + params.other_reference:
                other = rng.integers(count)
            # All processes draw the same numbers for all pairs, but read only their own pairs.
            if place not in wanted:
                continue
            pair = _degrade(arrays[inputs][index], "lr", "lr_up", "hr")
            if kind < params.self_reference:
                reference = np.asarray(extend(Image.fromarray(pair["lr_up"]), self.ref_size))
            else:
                reference = arrays[references][other]
            pair |= _degrade(reference, "ref_lr", "ref_du", "ref")
            for name, images in columns.items():
                images.append(_orient(pair[name], reference_turn if name in ("ref", "ref_du") else turn))
        return {name: to_planes(np.stack(images)) for name, images in columns.items()}

    def validation(self, batch: int = 1, first: int = 0, step: int = 1) -> Iterator[dict[str, torch.Tensor]]:
        """The validation pairs without augmentation, up to `batch` at a time, with the keys of `batch`, uint8.

        Only every `step`-th of these batches is read, from `first` on.
        """
        hr, ref = (self._arrays["validation"][name] for name in ARRAYS)
        for start in range(first * batch, len(hr), step * batch):
            pairs = [
                _degrade(hr[index], "lr", "lr_up", "hr") | _degrade(ref[index], "ref_lr", "ref_du", "ref")
                for index in range(start, min(start + batch, len(hr)))
            ]
            names = ("lr", "lr_up", "hr", "ref_du", "ref")
            yield {name: to_planes(np.stack([pair[name] for pair in pairs])) for name in names}


@dataclass(frozen=True)
class TestImage:
    """One image of a test set with its references.

    `lr` is (1, 3, h, w); `lr_up` and `hr` are (1, 3, 4h, 4w). `ref` and `ref_du` belong to the first reference and have
    the same size, which may differ from that of `hr`; so do the pairs in `more`, of further references. All of them are
    float32 in [-1, 1]. `places` says of each reference that is a registered copy where in `lr` it begins, row and
    column, and None of the others; it is empty where there is no copy. `hr_pixels` is hr as uint8 (4h, 4w, 3). `name`
    and `reference` are file names without folder and suffix. `inliers` is the number of matched points in image and
    first reference, if known.
    """

    __test__ = False  # pytest would collect it because of its name

    name: str
    reference: str
    lr: torch.Tensor
    lr_up: torch.Tensor
    ref: torch.Tensor
    ref_du: torch.Tensor
    hr: torch.Tensor
    hr_pixels: np.ndarray
    more: tuple[tuple[torch.Tensor, torch.Tensor], ...] = ()
    places: tuple[tuple[int, int] | None, ...] = ()
    inliers: int | None = None


def with_reference(image: TestImage, reference: Image.Image) -> TestImage:
    """The same input with another reference, whose sides are multiples of 4."""
    du = upscale(downscale(reference))
    ref, ref_du = (to_tensor(np.asarray(pixels)[None]) for pixels in (reference, du))
    return replace(image, ref=ref, ref_du=ref_du, more=(), places=())


def with_registered(image: TestImage) -> TestImage:
    """The input with a copy of each reference that can be registered to it, after the references themselves."""
    from extracter.data.registration import register_copy  # OpenCV takes memory, which few need

    lr_up = to_uint8(image.lr_up)
    references = ((image.ref, image.ref_du), *image.more)
    found = [register_copy(lr_up, to_uint8(ref), to_uint8(du)) for ref, du in references]
    copies = [copy for copy in found if copy is not None]
    images = [with_reference(image, Image.fromarray(copy.pixels)) for copy in copies]
    places = (*(None for _ in references), *(copy.place for copy in copies))
    return replace(image, more=(*image.more, *((copy.ref, copy.ref_du) for copy in images)), places=places)


class TestSet:
    """A test set that `prepare` made. Iteration reads its images one by one, in the order of their names.

    Args:
        folder: contains hr/, lr/, lr_up/, references.csv and manifest.json.
        references: which references to use, see `views.choose` and `references.choose`; only images with such a
            reference are read. None for those that the set was prepared with.

    Raises:
        UserError: a file is missing, altered or unreadable (images are verified against the manifest when they are
            read), or the set has no such references.

    Example:
        >>> for image in TestSet("data/prepared/open/views", "level_2"):  # doctest: +SKIP
        ...     print(image.name, image.reference, image.inliers)
    """

    __test__ = False  # pytest would collect it because of its name

    def __init__(self, folder: Path, references: str | None = None) -> None:
        self.folder = Path(folder)
        self.manifest = manifest.read(self.folder)
        self._entries = {entry["path"]: entry for entry in self.manifest["files"]}
        path = self.folder / "references.csv"
        self.references = references or self.manifest["references"]
        rows = _read_listed(self.folder, path.name, self.manifest)
        if rows and "level" in rows[0]:
            rows = views.choose(rows, self.references)
        else:
            rows = choose(rows, self.name, self.manifest["references"], self.references)
        self.rows: dict[str, list[dict[str, str]]] = {}
        for row in sorted(rows, key=lambda row: (row["image"], int(row["rank"]))):
            self.rows.setdefault(row["image"], []).append(row)
        if not self.rows:
            raise UserError(f"{path}: names no image; delete {self.folder / manifest.NAME} and run again")

    @property
    def name(self) -> str:
        """Name of the set, such as set14."""
        return self.manifest["set"]

    @property
    def stand_in(self) -> bool:
        """Whether the images are stand-ins for the published ones."""
        return self.manifest["stand_in"]

    def __len__(self) -> int:
        return len(self.rows)

    def _read(self, path: str) -> np.ndarray:
        if path not in self._entries:
            raise UserError(
                f"{self.folder / path}: not in {manifest.NAME}; delete {self.folder / manifest.NAME} and run again"
            )
        return np.asarray(manifest.read_image(self.folder, self._entries[path]))

    def _read_reference(self, row: dict[str, str]) -> tuple[torch.Tensor, torch.Tensor]:
        ref, ref_du = (to_tensor(self._read(row[key])[None]) for key in ("reference", "reference_du"))
        return ref, ref_du

    def __iter__(self) -> Iterator[TestImage]:
        for path, rows in self.rows.items():
            name = Path(path).name
            hr = self._read(path)
            (ref, ref_du), *more = map(self._read_reference, rows)
            yield TestImage(
                name=Path(path).stem,
                reference=Path(rows[0]["reference"]).stem,
                lr=to_tensor(self._read(f"lr/{name}")[None]),
                lr_up=to_tensor(self._read(f"lr_up/{name}")[None]),
                ref=ref,
                ref_du=ref_du,
                hr=to_tensor(hr[None]),
                hr_pixels=hr,
                more=tuple(more),
                inliers=int(rows[0]["inliers"]) if rows[0].get("inliers") else None,
            )


def levels_of(folder: Path) -> list[str]:
    """What `references` of a prepared test set may be where they are graded by similarity, else nothing.

    References of `views` have levels by matched points; the five of each input of CUFED5 are ranked by similarity.
    `pooled` are all of an input's together; of `views` those of its scene.

    Returns:
        `level_1`, ..., `pooled`.

    Raises:
        UserError: the set is missing or damaged.
    """
    content = manifest.read(Path(folder))
    rows = _read_listed(Path(folder), "references.csv", content)
    if rows and "level" in rows[0]:
        return [name for name in views.REFERENCES if name != "self"]
    if content["set"] not in GRADED or not is_published(content["references"]):
        return []
    return [*(f"level_{rank}" for rank in sorted({int(row["rank"]) for row in rows})), "pooled"]
