"""`extracter params` names every key of a preset."""

from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from extracter.commands.params import describe, params
from extracter.errors import UserError
from extracter.params import read

PARAMS = Path(__file__).parents[3] / "params.yaml"


def leaves(value, path=""):
    """Dotted paths of all that is not a block, from the plain dictionaries of the file."""
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            yield from leaves(inner, f"{path}{key}.")
        else:
            yield f"{path}{key}"


@pytest.mark.parametrize("preset", ["demo", "small", "open", "paper"])
def test_every_key_is_named_once_with_its_value(preset):
    block = read(PARAMS).presets[preset]
    rows = list(describe(block))
    named = [key for key, value, _ in rows if value]
    assert sorted(named) == sorted(leaves(block.model_dump()))
    assert {key: value for key, value, _ in rows}["search.kernel"] == str(block.search.kernel)


def test_blocks_are_introduced_by_their_docstrings():
    rows = {key: (value, meaning) for key, value, meaning in describe(read(PARAMS).presets["demo"])}
    assert rows["data.tests.cufed5"] == ("", "A test set and the source of its references.")
    assert rows["train"][1] == "Training: length, optimiser, augmentation and precision."


def test_descriptions_of_the_models_are_shown(capsys):
    params(str(PARAMS), "paper")
    printed = capsys.readouterr().out
    assert "preset paper" in printed
    line = next(line for line in printed.splitlines() if "evaluation.memory_budget_gib" in line)
    assert "24.0" in line
    assert "memory limit of a run of Table 3, in GiB" in line


def test_a_preset_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match=r"`preset: papr` does not exist: allowed are demo, small, open, paper"):
        params(str(PARAMS), "papr")


def test_only_blocks_are_followed():
    class Plain(BaseModel):
        text: str = "a"
        choice: Literal["b", "c"] = "b"
        told: Literal["b", "c"] = Field("c", description="b: this; c: that")
        sides: dict[str, int] = {"d": 1}
        small: float = 1e-8

    rows = [("text", "a", ""), ("choice", "b", "one of b, c"), ("told", "c", "b: this; c: that")]
    rows += [("sides", '{"d": 1}', ""), ("small", "1.0e-08", "")]
    assert list(describe(Plain())) == rows
