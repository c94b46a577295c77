"""`extracter upscale`: enlarge files; one that fails does not stop the others."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from extracter.errors import UserError
from extracter.inference.plan import (
    LOSSLESS,
    Job,
    Plan,
    check_space,
    check_writable,
    is_folder,
    named,
    plan,
    why_impossible,
    why_no_comparison,
)
from extracter.inference.provenance import Record, fingerprint, model_digest, read_record, settings_digest, with_record
from extracter.inference.tiling.engine import Report
from extracter.inference.upscaler import Result, Upscaler
from extracter.memory import is_allocation_failure
from extracter.models.locate import model_folder
from extracter.photos.photo import Photo, is_photo, same_name, shown
from extracter.photos.read import read_photo, size_of
from extracter.photos.write import write_photo
from extracter.progress import batch_bar
from extracter.search.choose import SearchName
from extracter.search.search import SearchConfig


@dataclass(frozen=True)
class Options:
    """Options that apply to all images of a run.

    Attributes:
        model, search, kernel, memory, device, precision, threads, scale: see `upscaler.upscale`.
        kind: suffix of the results in a folder, without the dot.
        quality: for JPEG, WebP and AVIF; None for the default of the format.
        suffix: appended to the names of results; None for nothing, or `_x4` beside the images.
        strip: drop EXIF, XMP and resolution.
        compare: also write a comparison of inputs and result beside each result.
        overwrite: replace existing results.
    """

    model: Path | str | None = None
    search: SearchName = "auto"
    kernel: int | None = None
    memory: str | None = None
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    scale: int = 4
    kind: str = "png"
    quality: int | None = None
    suffix: str | None = None
    strip: bool = False
    compare: bool = False
    overwrite: bool = False


class _References:
    """References for all images with their files, and folders that hold one reference for each image."""

    def __init__(self, refs: Sequence[Path]):
        self.files = [ref for ref in refs if not is_folder(ref)]
        self.common = [_read(ref) for ref in self.files]
        self.folders = [ref for ref in refs if is_folder(ref)]
        self._by_name: dict[Path, dict[str, list[Path]]] = {}

    def of(self, job: Job) -> list[Path]:
        """The references of one image in the folders: files of its name, in any format and regardless of case.

        If the image lies in a subfolder, a reference in the same subfolder takes precedence.

        Raises:
            UserError: a folder has no such file, or several.
        """
        return [self._namesake(job, folder) for folder in self.folders]

    def _namesake(self, job: Job, folder: Path) -> Path:
        found: list[Path] = []
        for place in dict.fromkeys((folder / job.below, folder)):
            found = self._named(place).get(same_name(job.image.stem), [])
            found = [entry for entry in found if entry.stem == job.image.stem] or found
            if len(found) == 1:
                return found[0]
            if found:
                break
        if not self._named(folder) and not found:
            raise UserError(f"{shown(job.image)}: {shown(folder)}, named by --ref, has no images; name another one")
        what, name = f"{len(found)} references" if found else "no reference", shown(job.image.stem)
        raise UserError(f"{shown(job.image)}: {what} of this name in {shown(folder)}; one image named {name} is wanted")

    def _named(self, folder: Path) -> dict[str, list[Path]]:
        """The photographs of a folder by `same_name`; each folder is listed once."""
        if folder not in self._by_name:
            self._by_name[folder] = named = {}
            try:
                entries = sorted(folder.iterdir()) if is_folder(folder) else []
            except OSError as error:
                raise UserError(f"{shown(folder)}: cannot be read ({error.strerror}); check its permissions") from None
            for entry in filter(is_photo, entries):
                named.setdefault(same_name(entry.stem), []).append(entry)
        return self._by_name[folder]


def upscale_files(images: Sequence[Path], refs: Sequence[Path], out: Path, options: Options) -> int:
    """Super-resolve files.

    Args:
        images: files, and folders, which are searched recursively.
        refs: files for all images, and folders that hold a reference with the name of each image.
        out: a folder, or the file to write if there is one image.
        options: all other options.

    Returns:
        The number of images that failed; each was reported on stderr in one line.

    Raises:
        UserError: there is no image, nothing can be written, or the model or a reference for all images cannot be
            read.
    """
    if options.kernel is not None:
        SearchConfig().with_kernel(options.kernel)  # refused even where all results exist
    planned = plan(images, out, options.kind, options.scale, options.suffix, options.compare)
    references = _References(refs)
    folder = model_folder(options.model)
    model = model_digest(folder)
    waiting: list[tuple[Job, Record]] = []
    searches: Counter[str] = Counter()
    failed = there = 0
    for message in planned.problems:
        failed += _say(message)
    for job in planned.jobs:
        try:
            record = _record(job, references, model, options)
            if problem := why_impossible(job, options.scale, options.compare):
                failed += _say(problem)
            elif job.out.exists() and not options.overwrite and _is_complete(job, record, options):
                there += 1
            elif options.compare and not options.overwrite and (problem := why_no_comparison(job)):
                failed += _say(problem)
            else:
                waiting.append((job, record))
        except UserError as error:
            failed += _say(error)
    if waiting:
        check_writable(out if len(planned.jobs) > 1 or waiting[0][0].out != out else out.parent)
        searches = _make(waiting, references, folder, options)
        failed += len(waiting) - searches.total()
    _summarise(planned, out, failed, there, searches)
    return failed


def _make(
    waiting: Sequence[tuple[Job, Record]], references: _References, folder: Path, options: Options
) -> Counter[str]:
    """Make the results; return how many were made with each kind of search."""
    if options.compare:
        import extracter.inference.compare_figure  # noqa: F401 (so that its memory is not counted as the computation's)
    upscaler = Upscaler(
        folder, scale=options.scale, search=options.search, kernel=options.kernel, memory=options.memory,
        device=options.device, precision=options.precision, threads=options.threads, reuse=True,
    )  # fmt: skip
    searches: Counter[str] = Counter()
    sizes = [size_of(job.image) or (1, 1) for job, _ in waiting]
    with batch_bar([width * height for width, height in sizes]) as begin:
        for number, (job, record) in enumerate(waiting):
            try:
                report = begin(number, shown(job.image.name)[:40])
                result = _run(upscaler, job, record, references, options, report)
                searches[named_search(result)] += 1
            except UserError as error:
                _say(error)
    return searches


def _run(
    upscaler: Upscaler, job: Job, record: Record, references: _References, options: Options, report: Report
) -> Result:
    """Enlarge one file.

    Raises:
        UserError: this image cannot be enlarged.
    """
    photo = _read(job.image)
    height, width = photo.rgb.shape[:2]
    check_space(job, options.scale * width, options.scale * height, 3 * photo.rgb.itemsize)
    own = [_read(path) for path in references.of(job)]
    try:
        result = upscaler.run(photo, [*references.common, *own], report)
    except UserError as error:
        raise UserError(f"{shown(job.image)}: {error}") from None
    except Exception as error:
        if is_allocation_failure(error):
            raise UserError(
                f"{shown(job.image)}: ran out of memory; set a lower --memory or close other programs"
            ) from error
        raise
    if options.compare:
        from extracter.inference.compare_figure import draw

        # Before the result: then every existing result has its comparison.
        draw(result, job.comparison)
    photo = result.photo if options.strip else with_record(result.photo, record)
    write_photo(photo, job.out, quality=options.quality, strip=options.strip)
    return result


def _read(path: Path) -> Photo:
    """Read a photograph; report harmless faults of its file on stderr."""
    photo = read_photo(path)
    if photo.notes:
        print(f"extracter: {shown(path)}: read, but {'; '.join(photo.notes)}", file=sys.stderr)
    return photo


def named_search(result: Result) -> str:
    """What search found the matches of a result."""
    if result.matches is None:
        return "no reference"
    kind = "fast" if result.search.method == "approximate" else "exact"
    return f"{kind} search of {result.search.kernel}x{result.search.kernel} patches"


def _record(job: Job, references: _References, model: str, options: Options) -> Record:
    """A record of what the result of a job is made from."""
    files = [*references.files, *references.of(job)]
    settings = [options.search, options.kernel, options.precision, options.scale]
    if options.quality is not None and job.out.suffix.lower() not in LOSSLESS:
        settings.append(options.quality)
    return Record(job.image.name, fingerprint(job.image), settings_digest(model, files, *settings))


def _is_complete(job: Job, record: Record, options: Options) -> bool:
    """Whether the existing result is the wanted one and complete; with `--strip`, which keeps no record, it is.

    Raises:
        UserError: it was made from another image or with other settings, or does not say from what.
    """
    found = read_record(job.out)
    if found is None and options.strip:
        return True
    if found is None:
        what = "exists and does not say what it was made from"
    elif (found.image, found.settings) == (record.image, record.settings):
        return not options.compare or job.comparison.exists()
    elif found.image != record.image:
        what = f"was made from another image, {shown(found.source)}"
    else:
        what = "was made with another model, reference or option"
    raise UserError(
        f"{shown(job.image)}: {shown(job.out)} {what}; choose another --out or --suffix, or replace it with --overwrite"
    )


def _say(problem: object) -> int:
    """Print one line on stderr; return 1, for counting."""
    print(f"extracter: {shown(str(problem))}", file=sys.stderr)
    return 1


def _summarise(planned: Plan, out: Path, failed: int, there: int, searches: Counter[str]) -> None:
    """Print the last line: how many results were made and how, existed, failed, and what was skipped."""
    jobs = planned.jobs
    made = searches.total()
    alone = len(jobs) == 1 and not planned.left_out and not planned.problems
    if alone and made == 1:
        print(f"extracter: {shown(jobs[0].out)}, {next(iter(searches))}", file=sys.stderr)
        return
    if alone and failed == 1:
        return
    place = jobs[0].out.parent if len(jobs) == 1 else out
    how = "".join(f", {number} with {name}" for name, number in searches.most_common())
    earlier = f", {len(planned.results)} left out as results of an earlier run" if planned.results else ""
    print(
        f"extracter: {made} made, {there} already there (--overwrite makes them again), {failed} failed, in "
        f"{shown(place)}{how}{earlier}{named(planned.left_out)}",
        file=sys.stderr,
    )
