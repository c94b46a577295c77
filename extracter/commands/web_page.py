"""`extracter app`: a page in the browser."""

import os
import sys
from typing import Annotated

import typer

from extracter.commands.options import Device


def app(
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="Checkpoint folder or Hugging Face hub id to choose from besides the released model; repeatable.",
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(help="Memory to stay within, such as 4GiB; by default half of what is free when a job begins."),
    ] = None,
    device: Device = "auto",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="By default the first free one from 7860 on.")
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the default browser.")] = False,
    share: Annotated[
        bool,
        typer.Option("--share", help="Also make a public link: uploads then pass through a server of Gradio's makers."),
    ] = False,
) -> None:
    """Show a page in the browser that enlarges photographs: drop them, watch the progress, compare, download.

    The page is at 127.0.0.1, which only this machine reaches. One photograph is computed at a time; others wait.
    Uploads are deleted when their page is closed, and nothing is left when the command ends. It needs Gradio:
    `pip install "extracter[app]"`.

    Example: `extracter app --memory 4GiB --open`
    """
    from extracter.app.enlarge import Settings
    from extracter.app.serve import serve
    from extracter.commands.upscale import tune_process

    tune_process()
    serve(Settings(models or (), memory, device), port=port, share=share, open_browser=open_browser)
    # Threads of the web server may still wait for a browser whose page is open, and Python would wait for them.
    sys.stdout.flush()
    os._exit(0)
