"""What references are worth, on a set with levels that is written here."""

import json

import pandas as pd
import pytest
import torch
from evaluation_setup import photograph, preset, write_checkpoint, write_test_set
from summaries import levels

from extracter.commands.study import study_references
from extracter.data import manifest, views
from extracter.data.datasets import levels_of
from extracter.data.prepare import prepare_test
from extracter.errors import UserError
from extracter.evaluation.levels import evaluate_levels, measure_levels, summarise
from extracter.models.extracter import Extracter
from extracter.presets import TestData
from extracter.reporting.table_references import table_references


@pytest.fixture
def view_set(tmp_path, monkeypatch):
    """Two inputs, each with a photograph of its scene and one of another scene."""
    raw = tmp_path / "raw"
    names = ["a/1.png", "a/2.png", "b/1.png", "b/2.png"]
    for number, name in enumerate(names):
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        photograph(number // 2, 64, 48).save(raw / name)
    files = [manifest.describe(raw, name) for name in names]
    manifest.write(raw, "views", "published", stand_in=False, layout="views", files=files)
    rows = [("a/1.png", "a/2.png", 1, 400), ("a/1.png", "b/1.png", 5, 0)]
    rows += [("b/1.png", "b/2.png", 1, 300), ("b/1.png", "a/1.png", 5, 0)]
    table = pd.DataFrame(rows, columns=["image", "reference", "level", "inliers"]).assign(pick="level")
    monkeypatch.setattr(views, "pairs", lambda: table)
    monkeypatch.setattr(views, "LONG_SIDE", 64)
    monkeypatch.setattr(views, "REFERENCES", ("level_1", "level_5", "pooled", "self"))
    test = TestData(source="published", folder=None, references="level_1")
    prepare_test("views", test, raw, tmp_path / "views", seed=0)
    return tmp_path / "views"


def toy() -> Extracter:
    torch.manual_seed(0)
    blocks = {"ife_blocks": 0, "csfi_blocks": (0, 0, 0), "gde_blocks": ()}
    return Extracter(features=4, dfe_width=4, kernel=3, stride=1, padding=1, align=True, gate=True, **blocks).eval()


def test_each_image_is_measured_with_each_reference_it_has(view_set, tmp_path):
    measure_levels(toy(), view_set, tmp_path / "l.csv", tmp_path / "l.json", variant="toy", device=torch.device("cpu"))
    rows = pd.read_csv(tmp_path / "l.csv")
    assert rows["level"].tolist() == ["level_1"] * 2 + ["level_5"] * 2 + ["pooled"] * 2
    assert (rows["gain"] - (rows["psnr_y"] - rows["none"])).abs().max() < 2e-4
    # With one photograph of the scene alone, the whole scene is that photograph.
    assert rows["psnr_y"][4:].tolist() == rows["psnr_y"][:2].tolist()
    summary = json.loads((tmp_path / "l.json").read_text())
    assert summary["levels"]["level_1"]["gain"] == pytest.approx(rows["gain"][:2].mean(), abs=1e-3)
    table_references([tmp_path / "l.json"], tmp_path / "table.csv")
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert f"{summary['over_bicubic']['gain']:+.2f}" in lines[-1]
    assert len(pd.read_csv(tmp_path / "table.csv")) == 4


def test_harm_is_counted_from_a_twentieth_of_a_decibel():
    rows = [{"level": "level_1", "gain": gain} for gain in (0.5, -0.04, -0.06, -0.3)]
    assert summarise(rows)["levels"]["level_1"] == {"images": 4, "gain": 0.025, "harmed": 2, "worst": -0.3}


def test_the_command_draws_and_prints(view_set, tmp_path, monkeypatch):
    monkeypatch.setattr("extracter.models.locate.open_model", lambda model: toy())
    study_references(view_set, out=tmp_path / "views.csv", device="cpu")
    assert (tmp_path / "views.png").stat().st_size > 1000
    assert "toy" not in (tmp_path / "views_table.md").read_text()


@pytest.fixture
def ranked_set(tmp_path):
    """A stand-in for CUFED5 whose two inputs have two references each."""
    folder = write_test_set(tmp_path / "ranked", name="cufed5", references="own")
    assert levels_of(folder) == ["level_1", "level_2", "pooled"]
    return folder


def test_ranks_of_cufed5_are_levels(ranked_set, tmp_path):
    parameters = preset()
    settings = {"model": parameters.model, "search": parameters.search, "precision": "32-true", "device": "cpu"}
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    evaluate_levels("extracter-rec", ranked_set, checkpoint, tmp_path / "l.csv", tmp_path / "l.json", **settings)
    rows = pd.read_csv(tmp_path / "l.csv")
    assert rows["level"].tolist() == ["level_1"] * 2 + ["level_2"] * 2 + ["pooled"] * 2
    assert rows["reference"].tolist() == ["b", "a", "a", "a", "b", "a"]
    # Image a is its own second reference.
    gain = rows.set_index(["image", "level"])["gain"]
    assert gain["a", "level_2"] != gain["a", "level_1"]
    assert gain["b", "level_1"] == gain["b", "level_2"] == gain["b", "pooled"]
    with pytest.raises(UserError, match="ttsr is wanted"):
        evaluate_levels("ttsr-rec", ranked_set, checkpoint, tmp_path / "l.csv", tmp_path / "l.json", **settings)


def test_a_set_without_levels_is_refused(tmp_path):
    folder = write_test_set(tmp_path / "set14")
    with pytest.raises(UserError, match="its references have no levels"):
        measure_levels(
            toy(), folder, tmp_path / "l.csv", tmp_path / "l.json", variant="toy", device=torch.device("cpu")
        )


def test_table_4_names_sets_and_systems(tmp_path):
    gains = {"level_1": 0.5, "level_5": -0.25}
    summaries = [
        levels(tmp_path, "released", "cufed5", gains, stand_in=True),
        levels(tmp_path, "extracter-rec", "views", gains),
        levels(tmp_path, "ttsr-rec", "views", gains),
    ]
    table_references(summaries, tmp_path / "t.csv")
    lines = [line.split("|") for line in (tmp_path / "t.md").read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line[1:-1]] for line in lines]
    assert [row[:2] for row in cells[2:]] == [
        ["CUFED5 (stand-in)", "Extracter-rec, released"],
        ["views", "TTSR-rec"],
        ["views", "Extracter-rec"],
    ]
    assert cells[2][2:] == ["+1.00", "+0.50 (1/3, -0.50)", "–", "–", "–", "-0.25 (1/3, -1.25)", "–"]
    with pytest.raises(UserError, match="given twice"):
        table_references([summaries[0], summaries[0]], tmp_path / "t.csv")


def test_something_else_is_no_summary(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(UserError, match=r"x\.json: `variant` is missing"):
        table_references([tmp_path / "x.json"], tmp_path / "t.csv")
