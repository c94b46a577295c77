"""Make arrays of training pairs: cropped from photographs, or read from a data set that publishes pairs."""

import zlib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from extracter.data import manifest
from extracter.data.contact_sheet import write_contact_sheet
from extracter.data.manifest import Entry
from extracter.data.pair_arrays import COLUMNS, Block, Pairs, Row, numbered, stack, write_arrays
from extracter.data.pairs import Region, crop_pair, extend
from extracter.data.parallel import ordered_map
from extracter.errors import UserError
from extracter.files import write_csv
from extracter.presets import TrainData

# With at least this many photographs, some are held out for validation; with fewer, a part of each.
WHOLE_PHOTOGRAPHS = 20


@dataclass(frozen=True)
class Crops:
    """The pairs of one split from one region of a photograph."""

    entry: Entry
    region: Region
    split: str
    count: int = 0

    @property
    def name(self) -> str:
        """Name of the photograph."""
        return PurePosixPath(self.entry["path"]).with_suffix("").as_posix()


def _parts(width: int, height: int, size: int) -> tuple[Region, Region | None]:
    """The training part of a photograph and, if it fits, a quarter at the right or lower end for validation."""
    width, height = max(width, size), max(height, size)
    along = max(width, height)
    strip = max(along // 4, size)
    if along - strip < size:
        return Region(0, 0, width, height), None
    if width >= height:
        return Region(0, 0, width - strip, height), Region(width - strip, 0, width, height)
    return Region(0, 0, width, height - strip), Region(0, height - strip, width, height)


def split_photographs(
    entries: list[Entry], sizes: list[tuple[int, int]], data: TrainData, seed: int
) -> tuple[list[Crops], list[Crops]]:
    """Training and validation regions, which do not overlap.

    Of 20 photographs or more, one in twenty is held out; of fewer, a quarter of each, at its end.

    Args:
        entries: manifest entries of the photographs.
        sizes: widths and heights of the photographs.
        data: `size` is the minimum side of a region.
        seed: draws the photographs that are held out.

    Raises:
        UserError: nothing can be held out.
    """
    whole = [Region(0, 0, max(w, data.size), max(h, data.size)) for w, h in sizes]
    if len(entries) >= WHOLE_PHOTOGRAPHS:
        count = min(data.validation, len(entries) // WHOLE_PHOTOGRAPHS)
        chosen = np.random.default_rng(seed).permutation(len(entries))[:count]
        # By content, since yang91 has one photograph under two names.
        held_out = {entries[number]["sha256"] for number in chosen}
        splits = ["validation" if entry["sha256"] in held_out else "train" for entry in entries]
        crops = [Crops(*three) for three in zip(entries, whole, splits, strict=True)]
        train, validation = ([one for one in crops if one.split == split] for split in ("train", "validation"))
        if train:
            return train, validation
    train, validation = [], []
    for entry, (width, height) in zip(entries, sizes, strict=True):
        first, last = _parts(width, height, data.size)
        train.append(Crops(entry, first, "train"))
        if last is not None:
            validation.append(Crops(entry, last, "validation"))
    if not validation and len(entries) > 1:
        train, last_photograph = train[:-1], train[-1]
        validation = [Crops(last_photograph.entry, last_photograph.region, "validation")]
    if not validation:
        raise UserError(
            f"{entries[0]['path']}: one photograph, too small to hold out a part of {data.size} pixels for validation; "
            "add photographs or lower data.train.size"
        )
    return train, validation


def allot(all_crops: list[Crops], pairs: int) -> list[Crops]:
    """Distribute `pairs` among regions in proportion to their areas, by largest remainders."""
    areas = np.array([crops.region.width * crops.region.height for crops in all_crops], dtype=np.float64)
    exact = pairs * areas / areas.sum()
    counts = np.floor(exact).astype(int)
    for number in np.argsort(counts - exact, kind="stable")[: pairs - counts.sum()]:
        counts[number] += 1
    return [replace(crops, count=int(count)) for crops, count in zip(all_crops, counts, strict=True) if count]


def _crop_pairs(raw: Path, crops: Crops, data: TrainData, seed: int) -> Pairs:
    """All pairs of one region; each depends only on the seed, the path of the photograph, the split and its number."""
    photo = extend(manifest.read_image(raw, crops.entry), data.size)
    key = zlib.crc32(f"{crops.split}/{crops.entry['path']}".encode())
    pairs = []
    for number in range(crops.count):
        pairs.append(crop_pair(photo, crops.region, data, np.random.default_rng([seed, key, number])))
    return stack(pairs)


def _row(name: str, split: str, kind: str) -> Row:
    return {"name": name, "reference": name, "split": split, "kind": kind, "inliers": ""}


def _photograph_blocks(raw: Path, files: list[Entry], data: TrainData, seed: int) -> list[Block]:
    """Pairs cropped from photographs, one block per photograph and split."""
    assert data.pairs is not None  # `params` makes sure of it

    def size_of(entry: Entry) -> tuple[int, int]:
        return manifest.read_image(raw, entry).size

    sizes = list(ordered_map(size_of, files, "check train"))
    train, validation = split_photographs(files, sizes, data, seed)
    all_crops = [*allot(train, data.pairs - data.validation), *allot(validation, data.validation)]
    return [
        Block((_row(crops.name, crops.split, "warped"),) * crops.count, partial(_crop_pairs, raw, crops, data, seed))
        for crops in all_crops
    ]


def _read_published(raw: Path, input_entry: Entry, ref_entry: Entry, size: int) -> Pairs:
    """Read one published pair; a smaller reference is extended to `size` by mirroring."""
    hr, ref = manifest.read_image(raw, input_entry), manifest.read_image(raw, ref_entry)
    if hr.size != (size, size):
        raise UserError(
            f"{raw / input_entry['path']}: {hr.width}x{hr.height} pixels instead of {size}x{size} (data.train.size)"
        )
    return stack([(hr, extend(ref, size).crop((0, 0, size, size)))])


def _published_blocks(raw: Path, files: list[Entry], data: TrainData, seed: int) -> list[Block]:
    """Published pairs `input/NAME.png` and `ref/NAME.png`, one block each; the seed draws those for validation."""
    folders: dict[str, dict[str, Entry]] = {"input": {}, "ref": {}}
    for entry in files:
        path = PurePosixPath(entry["path"])
        folders[path.parts[0]][path.stem] = entry
    alone = sorted(set(folders["input"]) ^ set(folders["ref"]))
    if alone:
        raise UserError(f"{raw}: {len(alone)} images have no partner in input/ or ref/, {alone[0]} among them")
    names = sorted(folders["input"])
    if data.validation >= len(names):
        raise UserError(f"{raw}: {len(names)} pairs leave none to train on; lower data.train.validation")
    held_out = set(np.random.default_rng(seed).permutation(len(names))[: data.validation].tolist())
    blocks = []
    for number, name in enumerate(names):
        hr, ref = folders["input"][name], folders["ref"][name]
        row = _row(name, "validation" if number in held_out else "train", "published")
        blocks.append(Block((row,), partial(_read_published, raw, hr, ref, data.size)))
    return blocks


def prepare_train(source: TrainData, raw: Path, out: Path, *, seed: int) -> None:
    """Make training and validation pairs: uint8 arrays, pairs.csv, a contact sheet and manifest.json.

    Photographs are processed in parallel. With `data.train.mixture`, the matched points in photographs of one scene are
    written to matches.csv; an existing matches.csv in `raw` is used as it is.

    Args:
        source: number, size and kinds of the pairs, and limits of the changes to references.
        raw: folder that `download` made.
        out: folder for the arrays.
        seed: for crops, changes of the references, and the validation set.

    Raises:
        UserError: a raw file is missing, truncated, altered or not an image, or there are too few.
    """
    raw, out = Path(raw), Path(out)
    content = manifest.read_set(raw, "train", source.source)
    if source.pairs is not None and source.validation >= source.pairs:
        raise UserError(
            f"data.train.validation: {source.validation} of {source.pairs} pairs leave none to train on; lower it"
        )
    lists = ["pairs.csv"]
    if source.mixture is not None:
        from extracter.data.prepare_views import view_blocks  # needs OpenCV, which other sets do without

        blocks = view_blocks(raw, out, content["files"], source, seed)
        lists.append("matches.csv")
    else:
        make = _published_blocks if content["layout"] == "pairs" else _photograph_blocks
        blocks = make(raw, content["files"], source, seed)
    sides = {
        "train": (source.size, source.reference_size),
        "validation": (source.size, source.validation_reference_size),
    }
    files = write_arrays(out, blocks, sides)
    rows = numbered(blocks)
    write_csv(out / "pairs.csv", rows, COLUMNS)
    write_contact_sheet(out, rows)
    manifest.write(
        out,
        "train",
        source.source,
        stand_in=content["stand_in"],
        pairs=len(rows),
        validation=source.validation,
        files=[*files, *(manifest.describe(out, name) for name in lists)],
    )
