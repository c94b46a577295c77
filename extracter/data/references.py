"""Tell inputs from references among raw files, and make the list of references for evaluations."""

import re
import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np

from extracter.data import views
from extracter.data.manifest import Entry
from extracter.errors import UserError

Layout = Literal["photographs", "cufed5", "sun_hays", "pairs", "views"]

# Sets whose own references are ordered by similarity, most similar first.
GRADED = ("cufed5",)
GROUND_TRUTH, SCENE_MATCHES = "Sun_Hays_SR_groundtruth", "Sun_Hays_SR_scenematches"


@dataclass(frozen=True)
class RawImage:
    """An image with its published references, most similar first; `name` is the file name of its results."""

    name: str
    entry: Entry
    references: tuple[Entry, ...] = ()


def _photograph_name(path: str) -> str:
    """The path with `_` for slashes, without its suffix and the ending that SelfExSR adds."""
    stem = "_".join(PurePosixPath(path).with_suffix("").parts)
    return re.sub(r"_SRF_\d+_HR$", "", stem)


def _arrange_cufed5(entries: list[Entry]) -> list[RawImage]:
    """`NNN_0` is an input, `NNN_1` to `NNN_5` are its references, most similar first."""
    ranks: dict[str, dict[int, Entry]] = {}
    for entry in entries:
        name, _, rank = PurePosixPath(entry["path"]).stem.rpartition("_")
        ranks.setdefault(name, {})[int(rank)] = entry
    return [
        RawImage(name, by_rank[0], tuple(by_rank[rank] for rank in sorted(by_rank) if rank))
        for name, by_rank in sorted(ranks.items())
    ]


def _arrange_sun_hays(entries: list[Entry]) -> list[RawImage]:
    """Inputs are in one folder; references are in folders named after the inputs, in the order of their names."""
    inputs, matches = [], {}
    for entry in entries:
        parts = PurePosixPath(entry["path"]).parts
        if parts[0] == GROUND_TRUTH:
            inputs.append(entry)
        else:
            matches.setdefault(parts[1], []).append(entry)
    return [
        RawImage(PurePosixPath(entry["path"]).stem, entry, tuple(matches.get(PurePosixPath(entry["path"]).name, ())))
        for entry in inputs
    ]


def arrange(layout: Layout, entries: list[Entry]) -> list[RawImage]:
    """The images of a test set with their references, by name.

    Args:
        layout: how the raw files are named: `photographs` have no references, `cufed5`, `sun_hays` and
            `views` are those of the published sets.
        entries: entries of the raw manifest.

    Raises:
        UserError: two files would get the same name.
    """
    if layout == "cufed5":
        images = _arrange_cufed5(entries)
    elif layout == "sun_hays":
        images = _arrange_sun_hays(entries)
    elif layout == "views":
        images = [RawImage(views.name_of(e["path"]), e, found) for e, found in views.inputs_of(entries)]
    else:
        images = [RawImage(_photograph_name(entry["path"]), entry) for entry in entries]
    taken: dict[str, str] = {}
    for image in images:
        if image.name in taken:
            raise UserError(
                f"{image.entry['path']} and {taken[image.name]}: both would be named {image.name}; rename one"
            )
        taken[image.name] = image.entry["path"]
    return sorted(images, key=lambda image: image.name)


def reference_rows(kind: str, name: str, images: list[RawImage], seed: int) -> list[dict[str, str | int]]:
    """The rows of references.csv, paths relative to the prepared set.

    Args:
        kind: own, pooled or level_1 to level_5: those published with the set, all of them; self: the input's own
            bicubic; random: another image of the set, drawn for each image from the seed, the set's name and the
            image's name.
        name: of the set.
        images: of the set, sorted.
        seed: for `random`.

    Raises:
        UserError: the set cannot have references of this kind.
    """
    rows: list[dict[str, str | int]] = []
    for image in images:
        path = f"hr/{image.name}.png"
        if is_published(kind):
            if not image.references:
                raise UserError(
                    f"{name}: {image.entry['path']} has no reference of its own; set `references` of {name} to "
                    "self or random, or supply them with `data.local`"
                )
            pairs = [(f"ref/{image.name}_{n}.png", f"ref_du/{image.name}_{n}.png") for n in ranks(image)]
        elif kind == "self":
            pairs = [(f"lr_up/{image.name}.png", f"ref_du/{image.name}.png")]
        else:
            others = [other.name for other in images if other is not image]
            if not others:
                raise UserError(f"{name}: a random reference needs two images, there is one; set `references` to self")
            rng = np.random.default_rng([seed, zlib.crc32(f"{name}/{image.name}".encode())])
            other = others[int(rng.integers(len(others)))]
            pairs = [(f"hr/{other}.png", f"lr_up/{other}.png")]
        rows += [
            {"image": path, "rank": rank, "reference": reference, "reference_du": reference_du}
            for rank, (reference, reference_du) in enumerate(pairs, 1)
        ]
    return rows


def is_published(kind: str) -> bool:
    """Whether references of a kind are those that were published with the set."""
    return kind not in ("self", "random")


def choose(rows: list[dict[str, str]], name: str, prepared: str, kind: str) -> list[dict[str, str]]:
    """The rows of references.csv that one choice of references consists of.

    Args:
        rows: all of them, as `reference_rows` made them.
        name: of the set.
        prepared: what references the set was prepared with.
        kind: own: the first; level_1 to level_5: that of the level, on the images that have it; pooled: all; self and
            random: those that were prepared.

    Raises:
        UserError: the set has no such references.
    """
    if kind != prepared and not (is_published(kind) and is_published(prepared)):
        raise UserError(
            f"{name} was prepared with the references {prepared}, not {kind}; set `data.tests.{name}.references` and "
            "prepare it again"
        )
    if kind == "pooled":
        return rows
    rank = "1"
    if kind.startswith("level_"):
        if name not in GRADED:
            raise UserError(f"{name}: its references are in no order of similarity; take own or pooled, not {kind}")
        rank = kind.removeprefix("level_")
    return [row for row in rows if row["rank"] == rank]


def ranks(image: RawImage) -> range:
    """Ranks of an image's own references, from 1."""
    return range(1, len(image.references) + 1)
