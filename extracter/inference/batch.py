"""`extracter upscale`: files in, files out; one that fails does not stop the others."""

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from extracter.data.images import SUFFIXES, is_image
from extracter.errors import UserError
from extracter.inference.photo_io import Photo, read_photo, shown, write_photo
from extracter.inference.tiling.engine import Report
from extracter.inference.upscaler import Upscaler
from extracter.memory import is_allocation_failure
from extracter.progress import phases


@dataclass(frozen=True)
class Job:
    """One image and where its result goes."""

    image: Path
    out: Path


def upscale_files(
    images: list[Path],
    refs: list[Path],
    out: Path,
    *,
    model: str | Path | None,
    kernel: int | None,
    memory: str | None,
    device: str,
    precision: str,
    kind: str,
    compare: bool,
    overwrite: bool,
) -> int:
    """Super-resolve files.

    Args:
        images: files, and folders whose images are taken.
        refs: files that serve for all images, and folders in which an image's reference has its name.
        out: folder; or, for one file, the file to write.
        model, kernel, memory, device, precision: as of `inference.upscale`.
        kind: suffix of results in a folder, without the dot.
        compare: also write a picture of inputs and result beside each result.
        overwrite: make results again that are there.

    Returns:
        How many images failed; each was named on stderr in one line.

    Raises:
        UserError: no image is named, or the model or a reference that serves for all cannot be read.
    """
    jobs = plan(images, out, kind)
    waiting = [job for job in jobs if overwrite or not job.out.exists()]
    failed = 0
    if waiting:
        upscaler = Upscaler(model, kernel=kernel, memory=memory, device=device, precision=precision)
        common = [read_photo(ref) for ref in refs if not ref.is_dir()]
        folders = [ref for ref in refs if ref.is_dir()]
        with phases() as show:
            for number, job in enumerate(waiting):
                try:
                    _run(upscaler, job, common, folders, compare, _report(show, number, len(waiting), job.image))
                except UserError as error:
                    failed += 1
                    print(f"extracter: {shown(str(error))}", file=sys.stderr)
    if len(jobs) > 1 or not waiting:
        done = len(waiting) - failed
        print(
            f"extracter: {done} made, {len(jobs) - len(waiting)} already there (--overwrite makes them again), "
            f"{failed} failed, in {shown(jobs[0].out.parent)}",
            file=sys.stderr,
        )
    elif not failed:
        print(f"extracter: {shown(jobs[0].out)}", file=sys.stderr)
    return failed


def plan(images: list[Path], out: Path, kind: str) -> list[Job]:
    """What to make: for NAME.jpg OUT/NAME.png, or OUT/NAME.jpg.png where several images share NAME.

    Raises:
        UserError: there is no image, a folder cannot be read, or `out` is a file's name and there are several images.
    """
    files: list[Path] = []
    for path in images:
        if path.is_dir():
            try:
                files += sorted(entry for entry in path.iterdir() if is_image(entry))
            except OSError as error:
                raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
        else:
            files.append(path)
    files = list(dict.fromkeys(files))
    if not files:
        raise UserError(f"{', '.join(map(shown, images))}: no images; their names end in {', '.join(SUFFIXES)}")
    if out.suffix.lower() in SUFFIXES and not out.is_dir():
        if len(files) > 1 or images[0].is_dir():
            raise UserError(f"--out {shown(out)}: names one file and there are {len(files)} images; name a folder")
        return [Job(files[0], out)]
    stems = Counter(file.stem for file in files)
    jobs = [Job(file, out / f"{file.stem if stems[file.stem] == 1 else file.name}.{kind}") for file in files]
    names = Counter(job.out for job in jobs)
    for job in jobs:
        if names[job.out] > 1:
            raise UserError(f"{shown(job.image)}: several images have this name; enlarge them into different folders")
    return jobs


def _run(upscaler: Upscaler, job: Job, common: list[Photo], folders: list[Path], compare: bool, report: Report) -> None:
    """One image, from file to file.

    Raises:
        UserError: anything that is wrong with this image.
    """
    if job.out.exists() and job.image.exists() and job.out.samefile(job.image):
        raise UserError(f"{job.image}: the result would replace the image itself; choose another folder with --out")
    photo = read_photo(job.image)
    references = [*common, *(read_photo(_namesake(job.image, folder)) for folder in folders)]
    try:
        result = upscaler.run(photo, references, report)
    except UserError as error:
        raise UserError(f"{job.image}: {error}") from None
    except Exception as error:
        if is_allocation_failure(error):
            raise UserError(f"{job.image}: ran out of memory; set a lower --memory or close other programs") from error
        raise
    own, taken = upscaler.config.kernel, result.search.kernel
    if taken != own:
        print(
            f"extracter: {shown(str(job.image))}: searched with patches of {taken}x{taken} for its size; "
            f"--kernel {own} is finer and slower",
            file=sys.stderr,
        )
    if compare:
        from extracter.inference.compare_figure import draw

        # Before the result, so that one that is there has its picture too.
        draw(result, job.out.with_name(f"{job.out.stem}.compare.png"))
    write_photo(result.photo, job.out)


def _namesake(image: Path, folder: Path) -> Path:
    """The reference of an image in a folder: the same name, of any format.

    Raises:
        UserError: there is none, or several.
    """
    found = sorted(entry for entry in folder.iterdir() if is_image(entry) and entry.stem == image.stem)
    if len(found) != 1:
        what = "no reference" if not found else f"{len(found)} references"
        raise UserError(f"{image}: {what} of this name in {folder}; one image named {image.stem} is wanted")
    return found[0]


def _report(show: Callable[[str, int, int], None], number: int, total: int, image: Path) -> Report:
    """Show the progress of one image of several."""
    label = f"{number + 1}/{total} {shown(Path(image.name))[:40]}"
    show(label, 0, 0)
    return lambda phase, done, steps: show(f"{label}: {phase}", done, steps)
