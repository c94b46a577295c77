"""Sets that the user supplies: a folder of photographs, or a published set as a folder or an archive."""

import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from extracter.data import manifest
from extracter.data.images import SUFFIXES, decode, is_image, write_bytes
from extracter.data.manifest import Entry
from extracter.data.parallel import ordered_map
from extracter.data.references import GROUND_TRUTH, SCENE_MATCHES, Layout
from extracter.download import archives
from extracter.download.registry import Source
from extracter.errors import UserError

_SHOWN = 10  # number of bad files that a message lists
# Path of each file in what was supplied, by its path in the folder of the set.
Chosen = dict[str, str]


def images_below(folder: Path) -> list[str]:
    """Images in a folder and its subfolders, relative to it, sorted. Links are followed, hidden folders left out."""
    found: list[str] = []
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [] if real in seen else [name for name in folders if not name.startswith(".")]
        if real not in seen:
            paths = (Path(place, name) for name in files)
            found += [path.relative_to(folder).as_posix() for path in paths if is_image(path) and path.is_file()]
        seen.add(real)
    return sorted(found)


def files_of(supplied: str | None) -> list[str]:
    """The files of a supplied set; the workflow downloads the set again when one of them changes."""
    if supplied is None:
        return []
    path = Path(supplied).expanduser()
    if not path.exists():
        return []
    return [str(path)] if path.is_file() else [str(path / image) for image in images_below(path)]


@contextmanager
def opened(key: str, supplied: Path, scratch: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder and the images in it; an archive is unpacked to a temporary folder.

    Args:
        key: the parameter that names it, for messages.
        supplied: folder or archive.
        scratch: folder in which an archive is unpacked, on the disk of the data.

    Raises:
        UserError: the path does not exist, or there is no image in it.
    """
    supplied = supplied.expanduser()
    if not supplied.exists():
        raise UserError(f"{key}: {supplied}: no such folder or archive; correct the path")
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpacked-", dir=scratch) as name:
        folder = supplied if supplied.is_dir() else Path(name)
        images = images_below(supplied) if supplied.is_dir() else archives.unpack(supplied, folder)
        if not images:
            raise UserError(f"{key}: {supplied}: holds no image; images end in {', '.join(SUFFIXES)}")
        yield folder, images


def _once(found: Iterator[tuple[str, str]] | list[tuple[str, str]], where: str) -> Chosen:
    """Sources by target; each target may occur once."""
    chosen: Chosen = {}
    for target, source in found:
        if target in chosen:
            raise UserError(f"{where}: {target} comes twice, as {chosen[target]} and as {source}; remove one")
        chosen[target] = source
    return chosen


def _count(where: str, what: str, found: int, wanted: int, example: str) -> None:
    if found != wanted:
        raise UserError(f"{where}: {found:,} {what}, {wanted:,} are wanted, {example}; supply the whole set")


def _choose_cufed5(source: Source, images: list[str], where: str) -> Chosen:
    named = [
        (PurePosixPath(path).name, path) for path in images if re.fullmatch(r"\d+_[0-5]", PurePosixPath(path).stem)
    ]
    chosen = _once(named, where)
    ranks = defaultdict(set)
    for target in chosen:
        name, _, rank = PurePosixPath(target).stem.partition("_")
        ranks[name].add(int(rank))
    missing = sorted({f"{number:03}" for number in range(source.images)} - set(ranks))
    example = "named NNN_0.png with references NNN_1.png to NNN_5.png"
    if missing:
        example += f" ({missing[0]}_0 is missing)"
    _count(where, "inputs", len(ranks), source.images, example)
    for name, found in sorted(ranks.items()):
        if found != set(range(6)) or len([t for t in chosen if t.startswith(f"{name}_")]) != 6:
            absent = ", ".join(f"{name}_{rank}" for rank in sorted(set(range(6)) - found)) or "one of each"
            raise UserError(f"{where}: of input {name} {absent} is wanted; supply the whole set")
    return chosen


def _choose_pairs(source: Source, images: list[str], where: str) -> Chosen:
    paths = [PurePosixPath(path) for path in images]
    named = [(f"{p.parent.name}/{p.name}", str(p)) for p in paths if p.parent.name in ("input", "ref")]
    chosen = _once(named, where)
    stems = {side: {PurePosixPath(t).stem for t in chosen if t.startswith(f"{side}/")} for side in ("input", "ref")}
    example = "input/NAME.png and ref/NAME.png"
    _count(where, "inputs", len(stems["input"]), source.images, example)
    _count(where, "references", len(stems["ref"]), source.images, example)
    alone = sorted(stems["input"] ^ stems["ref"])
    if alone:
        raise UserError(f"{where}: {alone[0]} has no partner in input/ or ref/; supply the whole set")
    return chosen


def _choose_sun_hays(source: Source, images: list[str], where: str) -> Chosen:
    named = []
    for path in images:
        parts = PurePosixPath(path).parts
        for folder, length in ((GROUND_TRUTH, 2), (SCENE_MATCHES, 3)):
            if folder in parts and len(parts) - parts.index(folder) == length:
                named.append(("/".join(parts[parts.index(folder) :]), path))
    chosen = _once(named, where)
    inputs = {PurePosixPath(t).name for t in chosen if t.startswith(GROUND_TRUTH)}
    matched = {PurePosixPath(t).parent.name for t in chosen if t.startswith(SCENE_MATCHES)}
    example = f"{GROUND_TRUTH}/NAME.jpg with references {SCENE_MATCHES}/NAME.jpg/*.jpg"
    _count(where, "inputs", len(inputs), source.images, example)
    alone = sorted(inputs ^ matched)
    if alone:
        raise UserError(f"{where}: {alone[0]} has no partner, {example}; supply the whole set")
    return chosen


def _choose_pinned(source: Source, images: list[str], where: str) -> Chosen:
    # Photographs of different scenes may share a name, so the folder of the scene counts as well.
    parts = 2 if source.layout == "views" else 1
    by_name = _once([("/".join(PurePosixPath(path).parts[-parts:]), path) for path in images], where)
    names = {file.path: "/".join(PurePosixPath(file.path).parts[-parts:]) for file in source.files()}
    missing = sorted(name for name in names.values() if name not in by_name)
    if missing:
        raise UserError(f"{where}: {len(missing):,} of {len(names):,} images are missing, {missing[0]} among them")
    return {path: by_name[name] for path, name in names.items()}


def match_layout(source: Source, images: list[str], where: str) -> tuple[Layout, Chosen]:
    """Find the files of a published set among supplied files, in any subfolder.

    Args:
        source: the set.
        images: relative paths of all supplied images.
        where: parameter and path, for messages.

    Returns:
        the layout, and the source of each file of the set.

    Raises:
        UserError: the set is incomplete.
    """
    if source.layout == "cufed5":
        return "cufed5", _choose_cufed5(source, images, where)
    if source.layout == "pairs":
        return "pairs", _choose_pairs(source, images, where)
    if any(GROUND_TRUTH in PurePosixPath(path).parts for path in images):
        return "sun_hays", _choose_sun_hays(source, images, where)
    return source.layout, _choose_pinned(source, images, where)


def copy_files(out: Path, name: str, files: dict[str, Path], key: str) -> list[Entry]:
    """Copy the files of a set to its folder after decoding each once; existing files with the same bytes are kept.

    Files that were unpacked below `out` are moved.

    Args:
        out: folder of the set.
        name: name of the set.
        files: source of each file, by its path in the folder of the set.
        key: parameter that names the files, for messages.

    Returns:
        manifest entries.

    Raises:
        UserError: files that cannot be read, are truncated, damaged or no image: a line for each of the first ten.
    """

    def one(item: tuple[str, Path]) -> Entry | UserError:
        target, source = item
        try:
            data = source.read_bytes()
        except OSError as error:
            return UserError(f"{source}: cannot be read ({error.strerror or error}); replace it ({key})")
        entry = manifest.describe_bytes(target, data)
        path = out / target
        if not path.is_file() or manifest.describe(out, target) != entry:
            try:
                decode(data, source, f"replace it ({key})")
            except UserError as error:
                return error
            if out in source.parents:
                path.parent.mkdir(parents=True, exist_ok=True)
                source.replace(path)
            else:
                write_bytes(path, data)
        return entry

    entries: list[Entry] = []
    bad: list[str] = []
    for found in ordered_map(one, sorted(files.items()), f"copy {name}"):
        if isinstance(found, UserError):
            bad.append(str(found))
        else:
            entries.append(found)
    if bad:
        more = [f"and {len(bad) - _SHOWN:,} more"] if len(bad) > _SHOWN else []
        raise UserError("\n".join([*bad[:_SHOWN], *more]))
    return entries
