"""Show the page on this machine until it is ended."""

import os
import signal
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path

from extracter.app.enlarge import Settings
from extracter.app.jobs import Jobs
from extracter.app.visits import Visits
from extracter.device import choose_device
from extracter.errors import UserError
from extracter.inference.upscaler import parse_memory
from extracter.models.locate import model_folder

MAX_FILE = "100mb"  # of one upload
MAX_JOBS = 32  # that are computed or wait at once; fewer than the 40 threads of Gradio, of which each takes one


def serve(
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    share: bool = False,
    open_browser: bool = False,
) -> None:
    """Show the page until SIGINT or SIGTERM; then nothing of it is left on the disk.

    Args:
        settings: models, memory and device.
        host: address that the page listens on; others than 127.0.0.1 let other machines in.
        port: None takes the first free one from 7860 on.
        share: also make a public link, which Gradio's operators provide.
        open_browser: open the page in the default browser.

    Raises:
        UserError: Gradio is not installed, a setting is wrong, or the port is taken.
    """
    if find_spec("gradio") is None:
        raise UserError('the page needs Gradio; install it with `pip install "extracter[app]"`')
    _check(settings)
    with _temporary_folder() as folder, _ended_by_signals() as ended, closing(Jobs(MAX_JOBS)) as jobs:
        os.environ |= _environment(folder)
        import gradio as gr

        import extracter.data.registration  # noqa: F401 (the memory of its libraries is not the jobs')
        from extracter.app.page import CSS, build

        page = build(jobs, Visits(folder), settings)
        # Fonts of the system: those of the theme come from a server.
        theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
        try:
            _, address, public = page.launch(
                server_name=host, server_port=port, share=share, max_file_size=MAX_FILE, theme=theme, css=CSS,
                quiet=True, prevent_thread_lock=True, footer_links=[], run_history=False, ssr_mode=False,
                enable_monitoring=False, pwa=False, mcp_server=False,
            )  # fmt: skip
        except OSError:
            raise UserError(f"--port {port or '7860 to 7959'}: taken by another program; choose another") from None
        print(f"extracter: {public or address} (Ctrl-C ends it)", flush=True)
        if share and not public:
            print("extracter: no public link could be made; the page is on this machine alone", file=sys.stderr)
        if open_browser:
            webbrowser.open(address)
        ended.wait()
        page.close(verbose=False)


def _environment(folder: Path) -> dict[str, str]:
    """What Gradio reads when it is imported."""
    around = [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), "127.0.0.1", "localhost"]
    direct = ",".join(filter(None, around))  # Gradio asks the page for an answer, which no proxy can reach
    return {
        "GRADIO_TEMP_DIR": str(folder), "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": direct, "no_proxy": direct,
    }  # fmt: skip


def _check(settings: Settings) -> None:
    """Find out before the page is shown what would make every job fail.

    Raises:
        UserError: a device, size or model that there is not.
    """
    choose_device(settings.device)
    if settings.memory is not None:
        parse_memory(settings.memory)
    for model in settings.models:
        model_folder(model)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A folder for uploads, results, and whatever libraries put into the system's temporary folder."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="extracter-app-", ignore_cleanup_errors=True) as name:
        tempfile.tempdir = name
        try:
            yield Path(name).resolve()
        finally:
            tempfile.tempdir = before


@contextmanager
def _ended_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C, SIGTERM and a closed terminal set."""
    ended = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, lambda *_: ended.set()) for number in signals]
    try:
        yield ended
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
