"""The folder for a Space on the Hugging Face hub says what the project says."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_requirements_are_those_of_the_package_with_the_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["app"]
    assert (ROOT / "spaces" / "requirements.txt").read_text(encoding="utf-8").splitlines() == wanted


def test_the_card_names_the_gradio_that_is_tested():
    locked = re.search(
        r"^gradio==(\S+)", (ROOT / "requirements-browser.lock").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert f"\nsdk_version: {locked[1]}\n" in (ROOT / "spaces" / "README.md").read_text(encoding="utf-8")
