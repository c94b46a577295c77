"""References of three kinds, ablations, and releases."""

import csv
import json
import shutil

import pytest
import torch
from evaluation_setup import preset, write_checkpoint, write_test_set
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file

from extracter.data import manifest
from extracter.errors import UserError
from extracter.evaluation.evaluate import evaluate
from extracter.models.checkpoint import load_model
from extracter.reporting import model_card
from extracter.studies import ablations
from extracter.studies.ablations import ablate
from extracter.studies.reference_study import study_references, warped_original


def rows_of(path) -> list[dict]:
    with path.open() as file:
        return list(csv.DictReader(file))


def measure(variant, images, checkpoint, folder):
    parameters = preset()
    paths = (folder / f"{variant}.csv", folder / f"{variant}.json", folder / variant)
    evaluate(
        variant, images, checkpoint, *paths, model=parameters.model, search=parameters.search, device="cpu"
    )  # fmt: skip
    return paths[:2]


def test_own_bicubic_is_what_evaluation_measures(tmp_path):
    images = write_test_set(tmp_path / "set14", sizes=((64, 48), (52, 72), (40, 40)), references="self")
    checkpoint = write_checkpoint(tmp_path / "model")
    study_references(checkpoint, images, tmp_path / "out" / "references.csv", seed=1, device="cpu")
    rows = rows_of(tmp_path / "out" / "references.csv")
    assert [row["image"] for row in rows] == ["a", "b", "c", "mean"]
    for variant, key in (("extracter-rec", "own"), ("bicubic", "bicubic")):
        table, summary = measure(variant, images, checkpoint if key == "own" else None, tmp_path)
        figures = [float(row["psnr_y"]) for row in rows_of(table)] + [json.loads(summary.read_text())["psnr_y"]]
        assert [float(row[key]) for row in rows] == pytest.approx(figures, abs=1e-4)
    assert len({row["warped"] for row in rows} | {row["own"] for row in rows} | {row["other"] for row in rows}) > 8
    assert "| mean " in (tmp_path / "out" / "references.md").read_text()
    assert Image.open(tmp_path / "out" / "references.png").size[0] > 500


def test_one_image_alone_has_no_other(tmp_path):
    images = write_test_set(tmp_path / "set14", sizes=((32, 32),))
    with pytest.raises(UserError, match="one image alone"):
        study_references(write_checkpoint(tmp_path / "m"), images, tmp_path / "r.csv", seed=1, device="cpu")


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 80), st.integers(1, 80))
def test_a_warped_original_lies_inside_it(width, height):
    size = (4 * width, 4 * height)
    crop = warped_original(Image.new("RGB", size, (200, 100, 50)))
    assert all(side % 4 == 0 and 0 < side <= whole for side, whole in zip(crop.size, size, strict=True))
    expected = tuple(round(255 * (level / 255) ** 1.2) for level in (200, 100, 50))
    assert crop.getextrema() == tuple((level, level) for level in expected)


def test_ablations_are_trained_once_for_each_seed(tmp_path, tiny_pairs, tiny_preset, monkeypatch):
    monkeypatch.setattr(ablations, "ABLATIONS", [ablations.ABLATIONS[i] for i in (0, 1, 3, 4)])
    blocks = (tiny_preset.model, tiny_preset.search, tiny_preset.loss, tiny_preset.train)
    out = tmp_path / "ablations.csv"
    ablate(tiny_pairs, tmp_path / "work", out, [5, 6], 2, *blocks, device="cpu")
    first = out.read_bytes()
    rows = rows_of(out)
    # u = 3 is what the preset has.
    names = ["as the preset", "u = 1", "without GDE"]
    assert {row["best_step"] for row in rows} <= {"1", "2"}
    assert [(row["ablation"], row["seed"]) for row in rows] == [(name, seed) for name in names for seed in "56"]
    table = out.with_suffix(".md").read_text().splitlines()
    assert [line.split("|")[1].strip() for line in table[-3:]] == names
    assert "±" in table[-1]
    weights = [load_model(folder.parent) for folder in sorted((tmp_path / "work").glob("*/model.safetensors"))]
    assert len({sum(p.numel() for p in model.parameters()) for model in weights}) == 3

    monkeypatch.setattr(ablations, "train", lambda *args, **kwargs: pytest.fail("trained again"))
    ablate(tiny_pairs, tmp_path / "work", out, [5, 6], 2, *blocks, device="cpu")
    assert out.read_bytes() == first
    ablate(tiny_pairs, tmp_path / "work", tmp_path / "few.csv", [5], 2, *blocks, only=["without GDE"], device="cpu")
    assert [row["ablation"] for row in rows_of(tmp_path / "few.csv")] == ["as the preset", "without GDE"]
    monkeypatch.setattr(ablations, "train", lambda *args, **kwargs: 1 / 0)
    other = tiny_preset.train.model_copy(update={"lr": 0.1})
    with pytest.raises(UserError, match="--only u = 3: allowed are u = 1, without GDE"):
        ablate(tiny_pairs, tmp_path / "work", out, [5, 6], 2, *blocks, only=["u = 3"], device="cpu")
    with pytest.raises(ZeroDivisionError):
        ablate(tiny_pairs, tmp_path / "work", out, [5, 6], 2, *blocks[:3], other, device="cpu")
    heavier = tiny_preset.loss.model_copy(update={"rec": 2.0})
    with pytest.raises(ZeroDivisionError):
        ablate(tiny_pairs, tmp_path / "work", out, [5, 6], 2, *blocks[:2], heavier, tiny_preset.train, device="cpu")
    pairs = tmp_path / "pairs"
    shutil.copytree(tiny_pairs, pairs)
    manifest.write(pairs, "train", "other", stand_in=True, files=manifest.read(pairs)["files"])
    with pytest.raises(ZeroDivisionError):
        ablate(pairs, tmp_path / "work", out, [5, 6], 2, *blocks, device="cpu")


def test_trust_of_the_preset_is_left_out_of_ablations(tmp_path, tiny_pairs, tiny_preset):
    """Its bounds are of trained weights, and one of the ablations has another number of matches."""
    trust = {"align": True, "gate": True, "trust": [0.3, 0.4], "idle": [0.2, 0.3, 0.4]}
    model = tiny_preset.model.model_copy(update=trust)
    search = tiny_preset.search.model_copy(update={"kernel": 3, "stride": 1, "padding": 1})
    blocks = (model, search, tiny_preset.loss, tiny_preset.train)
    ablate(tiny_pairs, tmp_path / "work", tmp_path / "a.csv", [5], 1, *blocks, only=["u = 1"], device="cpu")
    assert [row["ablation"] for row in rows_of(tmp_path / "a.csv")] == ["as the preset", "u = 1"]
    weights = list((tmp_path / "work").glob("*/model.safetensors"))
    assert len(weights) == 2
    assert all(load_model(file.parent).needs_reference for file in weights)


def test_ablations_at_equal_time_differ_in_steps(tmp_path, tiny_pairs, tiny_preset, monkeypatch):
    monkeypatch.setattr(ablations, "ABLATIONS", [ablations.ABLATIONS[i] for i in (0, 1, 4)])
    spent = [moment for cost in (0.3, 0.1) for moment in moments(cost, 0.4)]
    monkeypatch.setattr(ablations, "_spent", lambda device: spent.pop(0))
    blocks = (tiny_preset.model, tiny_preset.search, tiny_preset.loss, tiny_preset.train)
    given = (tiny_pairs, tmp_path / "work", tmp_path / "a.csv", [5, 6], 4, *blocks)
    ablate(*given, equal_time=True, device="cpu")
    first = (tmp_path / "a.csv").read_bytes()
    rows = rows_of(tmp_path / "a.csv")
    steps = {row["ablation"]: (row["steps"], row["relative_time"]) for row in rows}
    assert steps == {"as the preset": ("4", "1.0"), "u = 1": ("5", "0.75"), "without GDE": ("16", "0.25")}
    assert "| without GDE   | 16    | 0.25 " in (tmp_path / "a.md").read_text()

    # What was measured once holds when the study is run again: no moment is left to read.
    assert not spent
    monkeypatch.setattr(ablations, "train", lambda *args, **kwargs: pytest.fail("trained again"))
    ablate(*given, equal_time=True, device="cpu")
    assert (tmp_path / "a.csv").read_bytes() == first


def moments(changed: float, preset: float) -> list[float]:
    """The clock before and after each step that is timed; the first ones take longer."""
    costs = [9.0, preset, 5.0, preset] + [changed, preset] * ablations._TIMED
    return [moment for cost in costs for moment in (0.0, cost)]


def test_ablations_change_what_they_say(tiny_preset):
    model = tiny_preset.model.model_copy(update={"ife_blocks": 2, "csfi_blocks": [4, 2, 1], "gde_blocks": []})
    blocks = (model, tiny_preset.search, tiny_preset.train)
    by_name = {ablation.name: ablation.change(*blocks) for ablation in ablations.ABLATIONS}
    assert by_name["as the preset"] == blocks
    deeper, *_ = by_name["4 times the blocks at LR's size"]
    assert (deeper.ife_blocks, deeper.csfi_blocks, deeper.gde_blocks) == (8, [16, 2, 1], [])
    assert by_name["4 times the blocks elsewhere"][0].csfi_blocks == [4, 8, 4]
    assert by_name["features stay random"][2].dfe_lr == 0
    assert by_name["kernel 12"][1].stride == 4


def test_ablation_of_the_pairs_needs_the_same_validation_pairs(tmp_path, tiny_pairs, tiny_preset, monkeypatch):
    monkeypatch.setattr(ablations, "ABLATIONS", ablations.ABLATIONS[:1])
    blocks = (tiny_preset.model, tiny_preset.search, tiny_preset.loss, tiny_preset.train)
    other = tmp_path / "same"
    shutil.copytree(tiny_pairs, other)
    ablate(tiny_pairs, tmp_path / "work", tmp_path / "a.csv", [5], 1, *blocks, other_pairs=other, device="cpu")
    preset, same = rows_of(tmp_path / "a.csv")
    assert same["ablation"] == "pairs of same"
    assert preset["warped"] == same["warped"] != ""  # the same pairs under another name
    content = json.loads((other / "manifest.json").read_text())
    next(entry for entry in content["files"] if entry["path"] == "validation_hr.npy")["sha256"] = "0" * 64
    (other / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="its validation pairs are not those of"):
        ablate(tiny_pairs, tmp_path / "work", tmp_path / "a.csv", [5], 1, *blocks, other_pairs=other, device="cpu")


@pytest.fixture
def to_release(tmp_path):
    training = {
        "train": {"rec_steps": 6, "batch": 2, "precision": "32-true"}, "seed": 3, "device": "cpu", "torch": "2.6",
        "validation_psnr": 27.0,
    }  # fmt: skip
    checkpoint = write_checkpoint(tmp_path / "model", **training)
    (checkpoint / "train_log.csv").write_text("step\n1\n")
    images = write_test_set(tmp_path / "set14")
    variants = {"bicubic": None, "extracter-rec": checkpoint}
    summaries = [measure(variant, images, folder, tmp_path)[1] for variant, folder in variants.items()]
    about = tmp_path / "about.md"
    about.write_text("Trained on noise.\n")
    return checkpoint, summaries, about, tmp_path / "released"


def test_a_release_is_the_same_network_in_half_precision(to_release):
    checkpoint, summaries, about, out = to_release
    model_card.release(checkpoint, summaries, about, out)
    stored = load_file(out / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    before, after = (load_model(folder).state_dict() for folder in (checkpoint, out))
    for name, tensor in after.items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, before[name], rtol=1 / 120, atol=1e-6)
        bits = stored[name].view(torch.int16)
        assert (bits & 0b1111 == 0).all()
    card = (out / "README.md").read_text()
    figures = [json.loads(path.read_text()) for path in summaries]
    for said in ("Trained on noise.", "6 steps of 2 pairs", *(f"{figure['psnr_y']:.2f}" for figure in figures)):
        assert said in card
    assert {path.name for path in out.iterdir()} == {
        "config.json", "model.safetensors", "training.json", "train_log.csv", "README.md"
    }  # fmt: skip


def test_released_weights_are_rounded_to_the_nearest_and_ties_to_even():
    step = 2**-6  # of weights from 1 to 2
    wanted = {1 + 0.4 * step: 1, 1 + 0.6 * step: 1 + step, 1 + 0.5 * step: 1, 1 + 1.5 * step: 1 + 2 * step}
    wanted |= {-key: -value for key, value in wanted.items()} | {2 - 0.4 * step: 2, 0.0: 0}
    assert model_card.shorten(torch.tensor(list(wanted))).tolist() == list(wanted.values())


def test_what_cannot_be_released_says_why(to_release, monkeypatch):
    checkpoint, summaries, about, out = to_release
    with pytest.raises(UserError, match="no summary of bicubic"):
        model_card.release(checkpoint, summaries[1:], about, out)
    with pytest.raises(UserError, match="no such file; name a Markdown file"):
        model_card.release(checkpoint, summaries, about.with_name("none.md"), out)
    monkeypatch.setattr(model_card, "LARGEST", 10)
    with pytest.raises(UserError, match="in float16; the limit of a release is"):
        model_card.release(checkpoint, summaries, about, out)
    (checkpoint / "train_log.csv").unlink()
    with pytest.raises(UserError, match=r"has no train_log\.csv"):
        model_card.release(checkpoint, summaries, about, out)
    assert not out.exists()
