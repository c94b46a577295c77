"""The page: what it shows, and what its buttons do."""

import sys
import traceback
from collections.abc import Iterator
from functools import partial
from html import escape
from pathlib import Path
from threading import Timer
from typing import Any, cast

import gradio as gr

from extracter.app.enlarge import Enlarged, Settings, Wish, enlarge
from extracter.app.jobs import CancelledError, Job, Jobs
from extracter.app.visits import Visits
from extracter.errors import UserError
from extracter.photos.photo import SUFFIXES
from extracter.search.choose import SearchName

MAX_REFERENCES = 8
RELEASED = "released model"
FORMATS = ["png", "jpg", "tif", "webp", "avif"]
CSS = """
.gradio-container {max-width: 1280px; margin: auto; --block-info-text-color: var(--body-text-color)}
.status p {margin: 0 0 0.4rem}
.status .failed {border-left: 4px solid #d55e00; padding-left: 0.6rem}
.status progress {appearance: none; width: 100%; height: 0.7rem; border: 0; border-radius: 0.35rem; overflow: hidden;
  background: var(--border-color-primary)}
.status progress::-webkit-progress-bar {background: var(--border-color-primary)}
.status progress::-webkit-progress-value {background: #0072b2}
.status progress::-moz-progress-bar {background: #0072b2}
#keys .grid-wrap {min-height: 0}
"""
_INTRODUCTION = """
# Enlarge a photograph

Drop a photograph and, if you have any, sharper photographs of the same scene: their textures go into the result.
Everything is computed on the machine that runs this page. Uploads are deleted when you leave.
"""
_EVERY = 0.5  # seconds between two reports of progress
_GRACE = 3  # seconds from a visitor's leaving until the files are deleted
_PHASES = {
    "waiting": "Beginning",
    "reading": "Reading the images",
    "search": "Searching the references for matching textures",
    "network": "Computing the result",
    "writing": "Writing the result",
}


def build(jobs: Jobs, visits: Visits, settings: Settings) -> gr.Blocks:
    """Lay out the page; `serve` shows it."""
    handlers = _Handlers(jobs, visits, settings)
    with gr.Blocks(title="EXTRACTER", analytics_enabled=False, delete_cache=(600, 6 * 3600)) as page:
        gr.Markdown(_INTRODUCTION)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                inputs = _inputs(settings)
                with gr.Row():
                    start = gr.Button("Enlarge", variant="primary", elem_id="start")
                    stop = gr.Button("Cancel", variant="stop", elem_id="cancel", interactive=False)
                status = gr.HTML(elem_classes="status", elem_id="status")
            with gr.Column(scale=3, min_width=320):
                shown = _outputs()
        outputs = [status, start, stop, *shown]
        for files in inputs[:2]:
            files.upload(handlers.note, files, None, queue=False, api_visibility="private")
        start.click(
            handlers.run, inputs, outputs, api_name="enlarge", concurrency_limit=None, show_progress="hidden"
        )  # fmt: skip
        stop.click(handlers.stop, None, None, queue=False, api_visibility="private")
        page.unload(handlers.leave)
    return page


def _inputs(settings: Settings) -> list[Any]:
    uploads = [
        gr.File(label="Photograph", file_types=list(SUFFIXES), height=150, elem_id="photograph"),
        gr.File(
            label=f"References, up to {MAX_REFERENCES} (optional)",
            file_types=list(SUFFIXES), file_count="multiple", height=150, elem_id="references",
        ),
    ]  # fmt: skip
    for upload in uploads:
        upload.preprocess = _paths  # type: ignore[assignment, method-assign]
    return [
        *uploads,
        gr.Dropdown([RELEASED, *settings.models], value=RELEASED, label="Model", visible=bool(settings.models)),
        gr.Radio(
            ["auto", "exact", "fast"], value="auto", label="Search",
            info="exact compares all pairs of patches; fast finds nearly the same matches in less time; auto is exact "
            "as long as that takes a second or two.",
        ),
        gr.Radio(
            [4, 3, 2, 1], value=4, label="Factor",
            info="3 and 2 are the result of 4, reduced; 1 restores the detail of a blurred photograph at its own size.",
        ),
        gr.Dropdown(FORMATS, value="png", label="Format of the result"),
    ]  # fmt: skip


def _outputs() -> list[Any]:
    return [
        gr.ImageSlider(
            label="Left: bicubic; right: the result", type="filepath", interactive=False,
            buttons=["fullscreen"], max_height=640, visible=False, elem_id="compared",
        ),
        gr.DownloadButton("Download the result", variant="primary", visible=False, elem_id="download"),
        gr.Image(
            label="Where textures come from", type="filepath",
            interactive=False, buttons=["fullscreen"], visible=False, elem_id="origins",
            alt_text="Map of the result: each part has the colour of the place in the references it was copied from",
        ),
        gr.Gallery(
            label="Each place of the references has its colour", columns=2, object_fit="contain", height="auto",
            interactive=False, buttons=["fullscreen"], visible=False, elem_id="keys",
        ),
    ]  # fmt: skip


class _Handlers:
    """What the page's events do. Gradio gives each the visitor's request besides the values of the inputs."""

    def __init__(self, jobs: Jobs, visits: Visits, settings: Settings) -> None:
        self.jobs, self.visits, self.settings = jobs, visits, settings
        self.running: dict[str, Job[Enlarged]] = {}

    def note(self, files: str | list[str] | None, request: gr.Request) -> None:
        """An upload has arrived."""
        self.visits.note(_visitor(request), map(Path, [files] if isinstance(files, str) else files or []))

    def stop(self, request: gr.Request) -> None:
        """A visitor cancels."""
        if job := self.running.get(_visitor(request)):
            job.cancel()

    def leave(self, request: gr.Request) -> None:
        """A visitor closed the page."""
        self.stop(request)
        # Requests for pictures may still be on their way, which fail aloud where the files are gone.
        later = Timer(_GRACE, self.visits.end, [_visitor(request)])
        later.daemon = True
        later.start()

    def run(
        self,
        photograph: str | None,
        references: list[str] | None,
        model: str,
        search: str,
        scale: int,
        suffix: str,
        request: gr.Request,
    ) -> Iterator[list[Any]]:
        """Enlarge: the states of all outputs, one after the other."""
        visitor, nothing = _visitor(request), [gr.skip()] * 4
        job: Job[Enlarged] | None = None
        try:
            wish = _wish(self.settings, photograph, references, model, search, scale, suffix)
            self.visits.note(visitor, [wish.photograph, *wish.references])
            job = self.jobs.submit(partial(enlarge, wish, self.visits.begin(visitor), self.settings))
            self.running[visitor] = job
            yield [*_state(_progress(job, self.jobs), running=True), *[gr.update(value=None, visible=False)] * 4]
            for _ in job.watch(_EVERY):
                yield [*_state(_progress(job, self.jobs), running=True), *nothing]
            done = job.result()
            yield [*_state(_said(f"Done: {done.summary}."), running=False), *_pictures(done)]
        except CancelledError:
            yield [*_state(_said("Cancelled."), running=False), *nothing]
        except UserError as error:
            yield [*_state(_said(str(error), failed=True), running=False), *nothing]
        except Exception:
            traceback.print_exc(file=sys.stderr)
            message = "This failed for a reason that is not yours; the terminal that runs the page tells more."
            yield [*_state(_said(message, failed=True), running=False), *nothing]
        finally:
            if job is not None:
                job.cancel()
                self.running.pop(visitor, None)


def _wish(
    settings: Settings,
    photograph: str | None,
    references: list[str] | None,
    model: str,
    search: str,
    scale: int,
    suffix: str,
) -> Wish:
    """What the page's controls say; whoever calls its API may say anything.

    Raises:
        UserError: no photograph, too many references, or a model that is not offered.
    """
    if not photograph:
        raise UserError("no photograph; drop one into the first field, and wait until it is uploaded")
    if len(references or []) > MAX_REFERENCES:
        raise UserError(f"{len(references or [])} references; the page takes up to {MAX_REFERENCES}")
    if model not in (RELEASED, *settings.models):
        raise UserError(f"{model}: not one of the models that this page offers")
    chosen = None if model == RELEASED else model
    refs = [Path(path) for path in references or []]
    return Wish(Path(photograph), refs, chosen, cast("SearchName", search), scale, f".{suffix}")  # `Upscaler` checks it


def _paths(files: Any) -> str | list[str] | None:
    """Where uploads lie. Gradio's own function also leaves an empty file for each in the temporary folder."""
    if files is None or hasattr(files, "path"):
        return files and files.path
    return [file.path for file in files]


def _pictures(done: Enlarged) -> list[Any]:
    keys = [(str(path), caption) for path, caption in done.keys]
    origins = None if done.origins is None else str(done.origins)
    values = [(str(done.bicubic), str(done.sharp)), str(done.result), origins, keys]
    return [gr.update(value=value, visible=bool(value)) for value in values]


def _state(status: str, *, running: bool) -> list[Any]:
    """Status and the two buttons."""
    return [status, gr.update(interactive=not running), gr.update(interactive=running)]


def _said(text: str, *, failed: bool = False) -> str:
    role, kind = ("alert", "failed") if failed else ("status", "said")
    return f'<p role="{role}" class="{kind}">{escape(text)}</p>'


def _progress(job: Job, jobs: Jobs) -> str:
    label = _PHASES[job.phase]
    if before := jobs.before(job):
        label = f"Waiting: {before} photograph{'s'[: before > 1]} of other visitors first"
    return f'<p role="status">{label}</p><progress aria-label="{label}" max="1" value="{job.share:.3f}"></progress>'


def _visitor(request: gr.Request) -> str:
    return request.session_hash or ""
