"""What keeps the page from being shown is one sentence."""

import pytest
from typer.testing import CliRunner

from extracter.app import serve
from extracter.cli import app
from extracter.errors import UserError


def failure(*options: str) -> str:
    result = CliRunner().invoke(app, ["app", *options])
    assert isinstance(result.exception, UserError)
    return str(result.exception)


def test_without_gradio(monkeypatch):
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    assert failure() == 'the page needs Gradio; install it with `pip install "extracter[app]"`'


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--memory", "much"], "--memory much: not a size; write for example 4GiB or 800MiB"),
        (["--model", "no/such/model/here"], "no/such/model/here: no such model; name a folder"),
        (["--device", "tpu"], "--device tpu"),
    ],
)
def test_wrong_options(monkeypatch, options, message):
    monkeypatch.setattr(serve, "find_spec", lambda name: object())
    assert failure(*options).startswith(message)
