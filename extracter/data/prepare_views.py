"""Plan and crop the pairs of `data.train.mixture`: warped copies, photographs of one scene, unrelated photographs.

Folders of the raw set: `single/` has photographs without partners; each folder in `scenes/` has photographs of one
scene; those in `validation/single/` and `validation/scenes/` are never trained on.
"""

import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from extracter.data import manifest, matching, view_pairs
from extracter.data.manifest import Entry
from extracter.data.matching import Match
from extracter.data.pair_arrays import Block, Row, stack
from extracter.errors import UserError
from extracter.presets import TrainData

KINDS = view_pairs.KINDS
LARGE_SCENE = 12


def name_of(path: str) -> str:
    """Name of a photograph: its path without suffix, so that copies in another format have the same name."""
    return PurePosixPath(path).with_suffix("").as_posix()


def _is_validation(name: str) -> bool:
    return name.startswith("validation/")


def scenes_of(names: Iterable[str]) -> dict[str, list[str]]:
    """Photographs by scene; those without a scene are left out."""
    scenes = defaultdict(list)
    for name in names:
        parts = PurePosixPath(name).parts
        if "scenes" in parts[:2] and len(parts) - parts.index("scenes") > 2:
            scenes["/".join(parts[: parts.index("scenes") + 2])].append(name)
    return dict(scenes)


def _scene_by_name(names: Iterable[str]) -> dict[str, str]:
    return {name: scene for scene, members in scenes_of(names).items() for name in members}


@dataclass
class Plan:
    """The pairs whose inputs lie in one photograph or one scene.

    `pairs` are (kind, photograph, partner, match), where only pairs of one scene have a match.
    """

    split: str
    pairs: list[tuple[str, str, str, Match | None]] = field(default_factory=list)

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows of pairs.csv."""
        return tuple(
            {"name": a, "reference": b, "split": self.split, "kind": kind, "inliers": found.inliers if found else ""}
            for kind, a, b, found in self.pairs
        )


def _shares(data: TrainData, split: str, count: int) -> dict[str, int]:
    """Number of pairs of each kind: by the mixture for training, equal numbers for validation.

    Validation always has unrelated pairs, since training draws such pairs as well (`train.other_reference`).
    """
    assert data.mixture is not None  # `params` ensures it
    weights = [getattr(data.mixture, kind) for kind in KINDS]
    if split == "validation":
        weights = [1.0, float(data.mixture.same_scene > 0), 1.0]
    edges = np.rint(np.cumsum([0, *weights]) / sum(weights) * count).astype(int)
    return dict(zip(KINDS, np.diff(edges).tolist(), strict=True))


def _draw(
    split: str, names: list[str], matches: list[Match], count: int, data: TrainData, seed: int
) -> list[tuple[str, str, str, Match | None]]:
    """Draw the photographs of each pair.

    For a pair of one scene, a photograph is drawn and then one that matches it. Scenes with more than twelve
    photographs are drawn as often as those with twelve.
    """
    rng = np.random.default_rng([seed, zlib.crc32(split.encode())])
    by_first: dict[str, list[Match]] = defaultdict(list)
    for one in matches:
        by_first[one.first].append(one)
        by_first[one.second].append(one.reversed())
    matched = sorted(by_first)
    members = Counter(PurePosixPath(name).parent for name in matched)
    weights = np.array([1 / max(members[PurePosixPath(name).parent], LARGE_SCENE) for name in matched])
    shares = _shares(data, split, count)
    if shares["same_scene"] and not matched:
        raise UserError(
            f"no two photographs of one scene match in the {split} photographs; add photographs to scenes/, or set "
            "data.train.mixture.same_scene to 0"
        )
    scene_of = _scene_by_name(names)
    if shares["unrelated"] and len({scene_of.get(name, name) for name in names}) < 2:
        raise UserError(
            f"{names[0]}: unrelated pairs need photographs of two scenes; add some to the {split} photographs"
        )
    pairs: list[tuple[str, str, str, Match | None]] = []
    for kind, number in shares.items():
        if kind == "same_scene" and number:
            for first in rng.choice(matched, number, p=weights / weights.sum()):
                found = by_first[first][rng.integers(len(by_first[first]))]
                pairs.append((kind, found.first, found.second, found))
            continue
        for _ in range(number):
            first = second = names[rng.integers(len(names))]
            while kind == "unrelated" and scene_of.get(second, second) == scene_of.get(first, first):
                second = names[rng.integers(len(names))]
            pairs.append((kind, first, second, None))
    return pairs


def _group(split: str, pairs: list[tuple[str, str, str, Match | None]]) -> list[Plan]:
    """Group pairs by the scene or photograph of their inputs, so that each photograph is decoded only a few times."""
    scene_of = _scene_by_name({pair[1] for pair in pairs})
    plans: dict[str, Plan] = {}
    for pair in sorted(pairs, key=lambda pair: (pair[1], KINDS.index(pair[0]), pair[2])):
        plans.setdefault(scene_of.get(pair[1], pair[1]), Plan(split)).pairs.append(pair)
    return list(plans.values())


class Photographs:
    """The photographs of a raw set by name, reduced by `view_pairs.reduce_photograph`."""

    def __init__(self, raw: Path, entries: list[Entry], largest: int) -> None:
        self._raw, self._largest = raw, largest
        self.entries = {name_of(entry["path"]): entry for entry in entries}
        if len(self.entries) != len(entries):
            raise UserError(f"{raw}: two photographs differ only in their suffix; rename one")

    def read(self, name: str) -> Image.Image:
        """Decode and reduce one photograph."""
        photograph = manifest.read_image(self._raw, self.entries[name])
        return view_pairs.reduce_photograph(photograph, self._largest)


def _crop_pairs(photographs: Photographs, plan: Plan, data: TrainData, seed: int) -> dict[str, np.ndarray]:
    sizes = (data.size, data.reference_size if plan.split == "train" else data.validation_reference_size)
    uses = defaultdict(int)
    for _, first, second, _ in plan.pairs:
        uses[first] += 1
        uses[second] += 1
    decoded: dict[str, Image.Image] = {}
    pairs, numbers = [], defaultdict(int)
    for kind, first, second, found in plan.pairs:
        one, two = (decoded.setdefault(name, decoded.get(name) or photographs.read(name)) for name in (first, second))
        key = f"{plan.split}/{kind}/{first}/{second}"
        rng = np.random.default_rng([seed, zlib.crc32(key.encode()), numbers[key]])
        numbers[key] += 1
        points = None if found is None else found.points
        pairs.append(view_pairs.crop(kind, (one, two), points, sizes, data, rng))
        for name in (first, second):
            uses[name] -= 1
            if not uses[name]:
                decoded.pop(name, None)
    return stack(pairs)


def find_matches(raw: Path, photographs: Photographs) -> list[Match]:
    """The matches of all scenes: read from `matches.csv` beside the photographs, or computed in some minutes."""
    if (raw / matching.NAME).is_file():
        return [
            one for one in matching.read(raw / matching.NAME) if {one.first, one.second} <= set(photographs.entries)
        ]
    return matching.match_scenes(scenes_of(photographs.entries), photographs.read)


def view_blocks(raw: Path, out: Path, files: list[Entry], data: TrainData, seed: int) -> list[Block]:
    """All pairs of a set of photographs and scenes, training pairs first; writes matches.csv.

    Args:
        raw: folder of the raw set.
        out: folder for matches.csv.
        files: manifest entries of its photographs.
        data: sizes, numbers and mixture of the pairs.
        seed: draws photographs and crops.

    Raises:
        UserError: photographs for a kind of pair or for validation are missing.
    """
    assert data.mixture is not None  # `params` ensures both
    assert data.pairs is not None
    photographs = Photographs(raw, files, data.mixture.long_side)
    by_split: dict[str, list[str]] = {"train": [], "validation": []}
    for name in sorted(photographs.entries):
        by_split["validation" if _is_validation(name) else "train"].append(name)
    for split, names in by_split.items():
        if not names:
            where = "validation/" if split == "validation" else "single/ or scenes/"
            raise UserError(f"{raw}: no photograph in {where}; put some there, or set data.train.mixture to null")
    matches = find_matches(raw, photographs) if data.mixture.same_scene else []
    matching.write(out / matching.NAME, matches)
    blocks = []
    for split, count in (("train", data.pairs - data.validation), ("validation", data.validation)):
        own = [one for one in matches if _is_validation(one.first) == (split == "validation")]
        for plan in _group(split, _draw(split, by_split[split], own, count, data, seed)):
            blocks.append(Block(plan.rows, partial(_crop_pairs, photographs, plan, data, seed)))
    return blocks
