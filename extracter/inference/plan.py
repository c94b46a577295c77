"""Plan `extracter upscale`: which images, where the results go, and what is impossible, before computing anything."""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from extracter.errors import UserError
from extracter.files import why_unwritable
from extracter.photos.photo import SUFFIXES, is_photo, same_name, shown
from extracter.photos.read import REMEDY, size_of
from extracter.photos.write import LIMITS, why_not

_LONGEST_NAME, _LONGEST_PATH = 255, 4095  # bytes
_PROBE = 2**16  # bytes written to detect a read-only folder or a full disk
# Size of a compressed result, at least, as a share of its raw pixels: of lossless formats, and of the others.
LOSSLESS = {".png": 0.2, ".tif": 0.2, ".tiff": 0.2}
_LEAST_LOSSY = 0.02
# Title of the PNG files that `--compare` writes.
COMPARISON = "EXTRACTER comparison"


@dataclass(frozen=True)
class Job:
    """One image and where its result goes.

    Attributes:
        image: the file.
        out: the result.
        below: folder of the image, relative to the folder given by the user.
    """

    image: Path
    out: Path
    below: Path = Path()

    @property
    def comparison(self) -> Path:
        """The file that `--compare` writes."""
        return self.out.with_name(f"{self.out.stem}.compare.png")

    def written(self, compare: bool) -> list[Path]:
        """All files that the job writes."""
        return [self.out, self.comparison] if compare else [self.out]


@dataclass
class Plan:
    """Jobs, files that are not images, files that are results of an earlier run, and messages about failures."""

    jobs: list[Job] = field(default_factory=list)
    left_out: list[Path] = field(default_factory=list)
    results: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def plan(
    images: Sequence[Path], out: Path, kind: str, scale: int = 4, suffix: str | None = None, compare: bool = False
) -> Plan:
    """Plan which results to make.

    The result of NAME.jpg is OUT/NAME.png, or OUT/NAME.jpg.png if several images of a folder share NAME; that of
    FOLDER/SUB/NAME.jpg, where the user gave FOLDER, is OUT/SUB/NAME.png. In a folder that holds images, the names of
    results end in `_x4`, and images that are such results are not enlarged again.

    Args:
        images: files, and folders, which are searched recursively.
        out: a folder, or the file to write if there is one image.
        kind: suffix of the results in a folder, without the dot.
        scale: 1 to 4.
        suffix: appended to the names of results; None for nothing, or `_x4` beside the images.
        compare: whether `--compare` writes a file beside each result.

    Raises:
        UserError: there is no image, a folder cannot be read, or `out` is not possible.
    """
    if suffix is not None and (os.sep in suffix or "\0" in suffix):
        raise UserError(f"--suffix {suffix}: is a part of a file's name; leave out {os.sep!r}")
    found = Plan()
    files = _collect(images, out, found)
    if not files and not found.problems:
        where = ", ".join(map(shown, images))
        raise UserError(f"{where}: no images{named(found.left_out)}; their names end in {', '.join(SUFFIXES)}")
    if _is_file_name(out):
        if len(files) > 1 or any(map(is_folder, images)):
            raise UserError(f"--out {shown(out)}: names one file and there are {len(files)} images; name a folder")
        found.jobs = [Job(files[0][0], out)]
        return found
    homes = {os.path.realpath(file.parent) for file, _ in files}
    targets = [(file, below, out / below) for file, below in files]
    beside = {target for _, _, target in targets if os.path.realpath(target) in homes}
    if beside and suffix == "":
        raise UserError(f"--suffix '': results would come among the images in {shown(min(beside))}; name another --out")
    endings = {target: (suffix or f"_x{scale}") if target in beside else suffix or "" for _, _, target in targets}
    results = _results_among(targets, beside, suffix)
    found.results = [file for file, _, _ in targets if file in results]
    targets = [item for item in targets if item[0] not in results]
    stems = Counter((target, same_name(file.stem)) for file, _, target in targets)
    for file, below, target in targets:
        name = file.stem if stems[target, same_name(file.stem)] == 1 else file.name
        found.jobs.append(Job(file, target / f"{name}{endings[target]}.{kind}", below))
    outs = Counter(job.out for job in found.jobs)
    names = Counter(path for job in found.jobs for path in job.written(compare))
    possible = []
    for job in found.jobs:
        taken = [path for path in job.written(compare) if names[path] > 1]
        if taken:
            reason = f"another image would have the same result, {shown(taken[0])}; enlarge"
            if outs[taken[0]] == 1:
                both = f"a comparison and another image's result would both be {shown(taken[0])}"
                reason = f"{both}; leave out --compare, or enlarge"
            found.problems.append(f"{shown(job.image)}: {reason} them into different folders")
        else:
            possible.append(job)
    found.jobs = possible
    return found


def why_impossible(job: Job, scale: int, compare: bool) -> str | None:
    """Why the result of a job cannot be written; None if no reason is known."""
    image = shown(job.image)
    for path in job.written(compare):
        length = len(os.fsencode(path.name))
        if length > _LONGEST_NAME or len(os.fsencode(path.absolute())) > _LONGEST_PATH:
            return f"{image}: the result's name would have {length} bytes; shorten the image's name or --suffix"
    if job.out.exists() and job.image.exists() and job.out.samefile(job.image):
        return f"{image}: the result would replace the image itself; choose another --out or --suffix"
    if job.out.is_dir():
        return f"{image}: {shown(job.out)} is a folder; choose another --out"
    size = size_of(job.image)
    if size is not None and (reason := why_not(scale * size[0], scale * size[1], job.out.suffix.lower())):
        return f"{image}: {reason}"
    return None


def why_no_comparison(job: Job) -> str | None:
    """Why the comparison of a job may not be written: a file of its name is none. None if it may."""
    path = job.comparison
    try:
        with Image.open(path, formats=("PNG",)) as image:
            known = image.info.get("Title") == COMPARISON
    except FileNotFoundError:
        return None
    except (OSError, ValueError, SyntaxError):
        known = False
    if known:
        return None
    remedy = "choose another --out or --suffix, or replace it with --overwrite"
    return f"{shown(job.image)}: {shown(path)} exists and is no comparison; {remedy}"


def check_writable(folder: Path) -> None:
    """Check that the folder of the results can be written to.

    Raises:
        UserError: the folder cannot be written to, or the disk is full.
    """
    whole = folder.absolute()
    place = next(place for place in (whole, *whole.parents) if place.exists())
    try:
        with tempfile.NamedTemporaryFile(prefix=".extracter-", dir=place) as file:
            file.write(bytes(_PROBE))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(f"--out {shown(folder)}: {why_unwritable(error)}, or choose another folder") from None


def check_space(job: Job, width: int, height: int, sample: int) -> None:
    """Check that the disk has room for the smallest possible result.

    Args:
        job: the image.
        width, height: of the result.
        sample: bytes per pixel.

    Raises:
        UserError: the result does not fit.
    """
    place = next(place for place in job.out.absolute().parents if place.exists())
    needed = LOSSLESS.get(job.out.suffix.lower(), _LEAST_LOSSY) * width * height * sample
    free = shutil.disk_usage(place).free
    if free < needed:
        raise UserError(
            f"{shown(job.image)}: {free:,} bytes are free in {shown(place)} and the result takes {needed:,.0f} or "
            "more; free some space"
        )


def is_folder(path: Path) -> bool:
    """Whether the path is a folder; False for names that the file system rejects."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _collect(images: Sequence[Path], out: Path, found: Plan) -> list[tuple[Path, Path]]:
    """Files to enlarge, each once, with their folders relative to the one given by the user."""
    files: dict[Path, Path] = {}
    for path in images:
        if is_folder(path):
            for file, below in _walk(path, out, found):
                files.setdefault(file, below)
        else:
            files.setdefault(path, Path())
    return list(files.items())


def _walk(root: Path, out: Path, found: Plan) -> list[tuple[Path, Path]]:
    """Images below a folder, files before subfolders; follows links, skips hidden folders and `out`."""
    files: list[tuple[Path, Path]] = []
    seen: set[tuple[int, int]] = set()

    def enter(folder: Path) -> int:
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                return 1
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
        except OSError as error:
            if folder == root:
                reason = error.strerror or error
                raise UserError(f"{shown(folder)}: cannot be read ({reason}); check its permissions") from None
            found.problems.append(f"{shown(folder)}: cannot be read ({error.strerror or error}); {REMEDY}")
            return 1
        folders = [entry for entry in entries if entry.is_dir()]
        count = 0
        for entry in entries:
            if entry in folders:
                continue
            if is_photo(entry):
                files.append((entry, folder.relative_to(root)))
                count += 1
            else:
                found.left_out.append(entry)
        for entry in folders:
            if is_folder(out) and entry.samefile(out):
                continue
            inside = enter(entry)
            if not inside and is_photo(entry):
                files.append((entry, folder.relative_to(root)))  # it fails later, like a file that is not an image
            count += inside
        return count

    enter(root)
    return files


def _results_among(targets: Sequence[tuple[Path, Path, Path]], beside: set[Path], suffix: str | None) -> set[Path]:
    """Images whose names are those of results of other images in their folder, at any scale and in any format."""
    endings = [f"_x{scale}" for scale in range(1, 5)] + ([suffix] if suffix else [])
    names = {
        (os.path.realpath(target), f"{name}{ending}{more}")
        for file, _, target in targets
        if target in beside
        for name in (file.stem, file.name)
        for ending in endings
        for more in ("", ".compare")
    }
    return {file for file, _, _ in targets if (os.path.realpath(file.parent), file.stem) in names}


def _is_file_name(out: Path) -> bool:
    """Whether `--out` is a file, not a folder.

    Raises:
        UserError: it is a file of a format that cannot be written.
    """
    suffix = out.suffix.lower()
    if is_folder(out) or not suffix:
        return False
    if suffix in LIMITS:
        return True
    if suffix in SUFFIXES or suffix in Image.registered_extensions() or suffix[1:].isalpha():
        raise UserError(
            f"--out {shown(out)}: results are written as {', '.join(LIMITS)}; choose one of them, or make a folder of "
            "this name first"
        )
    return False


def named(left_out: Sequence[Path]) -> str:
    """The number of files that were skipped, and the names of the first five."""
    if not left_out:
        return ""
    names = ", ".join(shown(path.name) for path in left_out[:5])
    more = ", ..." if len(left_out) > 5 else ""
    return f" ({len(left_out)} file{'s'[: len(left_out) > 1]} left out: {names}{more})"
