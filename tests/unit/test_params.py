"""Parameters that would leave the workflow without something to do are refused before it starts."""

from pathlib import Path

import pytest

from extracter import params
from extracter.errors import UserError

NONE = {"source": "none", "folder": None, "references": "self"}


def changed(change) -> dict:
    """The demo preset after a change."""
    demo = params.read(Path(__file__).parents[2] / "params.yaml").presets["demo"].model_dump()
    change(demo)
    return {"preset": "demo", "presets": {"demo": demo}}


def without_sources(demo: dict) -> None:
    demo["data"].update(tests={"sun80": NONE, "urban100": NONE})
    demo["evaluation"].update(level_sets=[])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda demo: demo["evaluation"].update(kernel_sets=[]), r"evaluation\.kernel_sets: .*at least 1 item"),
        (lambda demo: demo["evaluation"].update(kernel_sets=["set5"]), "names set5: allowed are cufed5, sun80"),
        (lambda demo: demo["train"].update(without_reference=0.5), "`train.without_reference` needs `model.trust`"),
        (lambda demo: demo["evaluation"].update(level_sets=["sun80"]), "names sun80, whose references have no levels"),
        (lambda demo: demo["data"]["tests"]["cufed5"].update(references="self"), "cufed5, whose references have no"),
        (
            lambda demo: demo["data"]["tests"].update(sun80=NONE, urban100=NONE),
            "names no set that has a source: .*available are cufed5, set14",
        ),
        (without_sources, "`data.tests` has no set with"),
        (lambda demo: demo["model"].update(trust=[0.3, 0.4]), "`trust` and `idle` go together"),
        (lambda demo: demo["model"].update(trust=[0.3, 0.4], idle=[0.2] * 3), "need `gate: true`"),
        (
            lambda demo: demo["model"].update(align=True, gate=True, trust=[0.4, 0.3], idle=[0.2] * 3),
            "takes two rising numbers",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(change, sentence):
    with pytest.raises(UserError, match=sentence):
        params.validate(changed(change))
