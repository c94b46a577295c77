"""Evaluation on small sets with a toy network."""

import csv
import json
from contextlib import nullcontext
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
import torch
from devices import DEVICE
from evaluation_setup import preset, write_checkpoint, write_test_set
from PIL import Image

from extracter.data.datasets import TestSet
from extracter.data.degradation import downscale
from extracter.errors import UserError
from extracter.evaluation import evaluate as module
from extracter.evaluation.evaluate import VARIANTS, check_checkpoint, enlarge, evaluate
from extracter.families import FAMILIES, Protocol
from extracter.image_tensors import to_uint8
from extracter.metrics import psnr_y, ssim_y
from extracter.models.checkpoint import build_model, load_model
from extracter.models.refsr import RefSR
from extracter.presets import Model, Search


def run(variant: str, images: Path, checkpoint: Path | None, out: Path, **changes) -> tuple[list[dict], dict]:
    parameters = preset()
    arguments = {
        "timings": out / "timings.csv",
        "model": parameters.model,
        "search": parameters.search,
        "device": DEVICE,
        **changes,
    }
    evaluate(variant, images, checkpoint, out / "rows.csv", out / "summary.json", out / "sr", **arguments)
    with (out / "rows.csv").open() as file:
        return list(csv.DictReader(file)), json.loads((out / "summary.json").read_text())


def pictures(row: dict, images: Path, out: Path) -> list[np.ndarray]:
    """HR, LR_up and SR of a row."""
    name = f"{row['image']}.png"
    return [np.asarray(Image.open(folder / name)) for folder in (images / "hr", images / "lr_up", out / "sr")]


@pytest.mark.parametrize("references", ["random", "self"])
def test_bicubic_is_lr_up(tmp_path, references):
    images = write_test_set(tmp_path / "set", references=references)
    rows, summary = run("bicubic", images, None, tmp_path)
    for row in rows:
        hr, up, sr = pictures(row, images, tmp_path)
        np.testing.assert_array_equal(sr, up)
        assert float(row["psnr_y"]) == pytest.approx(psnr_y(hr, up), abs=1e-6)
        assert float(row["ssim_y"]) == pytest.approx(ssim_y(hr, up), abs=1e-8)
    assert summary["psnr_y"] == pytest.approx(mean(float(row["psnr_y"]) for row in rows), abs=1e-7)
    assert (summary["set"], summary["images"], summary["stand_in"], summary["references"]) == (
        "set14",
        2,
        True,
        references,
    )


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "bicubic"])
def test_saved_images_are_what_was_measured(tmp_path, variant):
    images = write_test_set(tmp_path / "set")
    family, phase = VARIANTS[variant]
    weights = write_checkpoint(tmp_path / "weights", family=family or "c2", phase=phase)
    rows, summary = run(variant, images, weights, tmp_path)
    assert [row["reference"] for row in rows] == ["b", "a"]
    for row in rows:
        hr, up, sr = pictures(row, images, tmp_path)
        assert not np.array_equal(sr, up)
        assert float(row["psnr_y"]) == pytest.approx(psnr_y(hr, sr), abs=1e-6)
        assert float(row["ssim_y"]) == pytest.approx(ssim_y(hr, sr), abs=1e-8)
    with (tmp_path / "timings.csv").open() as file:
        costs = list(csv.DictReader(file))
    assert [cost["image"] for cost in costs] == [row["image"] for row in rows]
    assert all(float(cost["seconds"]) > 0 and float(cost["peak_memory_mib"]) >= 0 for cost in costs)
    assert summary["variant"] == variant
    assert summary["vgg_weights"] == "random"
    assert summary["threads"] > 0


def test_two_runs_give_the_same_figures_and_bytes(tmp_path):
    images, weights = write_test_set(tmp_path / "set"), write_checkpoint(tmp_path / "weights")
    for name in "ab":
        run("extracter-rec", images, weights, tmp_path / name)
    for path in [*(tmp_path / "a/sr").iterdir(), tmp_path / "a/rows.csv", tmp_path / "a/summary.json"]:
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_the_memory_of_the_parameters_is_used_and_changes_no_figure(tmp_path, monkeypatch):
    images, weights = write_test_set(tmp_path / "set"), write_checkpoint(tmp_path / "weights")
    seen = []

    def load(folder):
        network = load_model(folder)
        network.register_forward_hook(lambda *_: seen.append(network.search.memory))
        return network

    load_model = module.load_model
    monkeypatch.setattr(module, "load_model", load)
    search = preset().search
    (a, _), (b, _) = (
        run(
            "extracter-rec",
            images,
            weights,
            tmp_path / str(memory),
            search=search.model_copy(update={"memory": memory}),
        )
        for memory in (0.25, 32.0)
    )
    assert seen == [0.25, 0.25, 32.0, 32.0]
    assert [row["psnr_y"] for row in a] == [row["psnr_y"] for row in b]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"family": "ttsr"}, "`family` is ttsr in this checkpoint and extracter is wanted"),
        ({"phase": "full"}, "`phase` is full in this checkpoint and rec is wanted"),
        ({"model": {**preset().model.model_dump(), "features": 64}}, "`model.features` is 64"),
        ({"model": None}, "`model.features` is None"),
        ({"search": {**preset().search.model_dump(), "kernel": 12}}, "`search.kernel` is 12"),
    ],
)
def test_a_checkpoint_of_another_configuration_is_refused(tmp_path, change, says):
    weights = write_checkpoint(tmp_path / "weights", **change)
    with pytest.raises(UserError, match=r"weights/training.json: .*; .*checkpoint|train again") as refused:
        run("extracter-rec", write_test_set(tmp_path / "set"), weights, tmp_path)
    assert says in str(refused.value)
    assert not (tmp_path / "rows.csv").exists()


@pytest.mark.parametrize("family", ["extracter", "ttsr"])
def test_only_a_parameter_that_changes_the_network_refuses_a_checkpoint(tmp_path, family):
    model, search = preset().model, preset().search
    weights = write_checkpoint(tmp_path / "weights", family=family)
    config = build_model(family, model, search)._hub_mixin_config
    for path in [*(f"model.{key}" for key in Model.model_fields), *(f"search.{key}" for key in Search.model_fields)]:
        block, key = path.split(".")
        value = {"model": model, "search": search}[block].model_dump()[key]
        others = {"vgg_weights": "imagenet", "strategy": "direct", "bicubic_skip": False, "align": True, "gate": False}
        others |= {"registration": True, "trust": [0.1, 0.2], "idle": [0.1, 0.1]}
        other = [1] * len(value) if isinstance(value, list) else others[key] if key in others else value + 2
        changed = {"model": model, "search": search}
        changed[block] = changed[block].model_copy(update={key: other})
        differs = build_model(family, **changed)._hub_mixin_config != config
        differs &= path not in ("model.vgg_weights", "search.memory")  # of the training and of the machine alone
        with pytest.raises(UserError, match=f"`{path}` is") if differs else nullcontext():
            check_checkpoint(f"{family}-rec", weights, **changed)


def test_the_released_model_brings_its_own_parameters(tmp_path):
    images = write_test_set(tmp_path / "set")
    other = preset().model.model_copy(update={"features": 6}).model_dump(mode="json")
    weights = write_checkpoint(tmp_path / "weights", model=other)
    _, summary = run("released", images, weights, tmp_path)
    assert summary["variant"] == "released"
    with pytest.raises(UserError, match=r"`model\.features` is 6"):
        run("extracter-rec", images, weights, tmp_path)
    full = write_checkpoint(tmp_path / "full", phase="full")
    with pytest.raises(UserError, match="`phase` is full"):
        run("released", images, full, tmp_path)


@pytest.mark.parametrize("changes", [{"precision": "bf16-mixed"}, {"compiled": True}, {"reuse_memory": True}])
def test_faster_ways_give_nearly_the_same(tmp_path, changes, monkeypatch):
    # The graphs are taken and run as they are: generating code for them takes minutes.
    compile_parts = RefSR.compile_parts
    monkeypatch.setattr(RefSR, "compile_parts", lambda self, **options: compile_parts(self, **options, backend="eager"))
    images, checkpoint = write_test_set(tmp_path / "set"), write_checkpoint(tmp_path / "model")
    _, plain = run("extracter-rec", images, checkpoint, tmp_path / "plain")
    _, fast = run("extracter-rec", images, checkpoint, tmp_path / "fast", **changes)
    assert fast["precision"] == changes.get("precision", "32-true")
    assert fast["psnr_y"] == pytest.approx(plain["psnr_y"], abs=0.02)


def test_a_border_is_left_out_of_the_measurement_alone(tmp_path):
    images = write_test_set(tmp_path / "set")
    rows, summary = run("bicubic", images, None, tmp_path, common=Protocol(border=4))
    for row in rows:
        hr, up, sr = pictures(row, images, tmp_path)
        assert sr.shape == hr.shape
        assert float(row["psnr_y"]) == pytest.approx(psnr_y(hr[4:-4, 4:-4], up[4:-4, 4:-4]), abs=1e-6)
    assert summary["border"] == 4
    with pytest.raises(UserError, match="64 pixels leave nothing within a border of 20"):
        run("bicubic", images, None, tmp_path / "more", common=Protocol(border=20))


def test_the_protocol_of_a_publication_pads_to_one_size_and_cuts_the_border(tmp_path, monkeypatch):
    images = write_test_set(tmp_path / "set")
    seen = []
    monkeypatch.setattr(module, "run_network", lambda _network, inputs, *_: seen.append(inputs) or enlarge(inputs))
    weights = write_checkpoint(tmp_path / "weights", family="c2", phase="converted")
    rows, summary = run("converted", images, weights, tmp_path, protocol="native")
    assert (summary["border"], summary["padding"]) == (4, "zeros")
    first, row = seen[0], rows[0]  # 64 x 48 with a reference of 52 x 72 (height, width)
    assert first.lr_up.shape == first.ref.shape == first.ref_du.shape == (1, 3, 64, 72)
    hr, up, sr = pictures(row, images, tmp_path)
    assert sr.shape == hr.shape == (64, 48, 3)
    reference = np.asarray(Image.open(images / "hr/b.png"))
    np.testing.assert_array_equal(to_uint8(first.ref)[:52], reference)
    assert not to_uint8(first.ref)[52:].any()
    padded = Image.fromarray(np.pad(hr, ((0, 0), (0, 24), (0, 0))))
    np.testing.assert_array_equal(to_uint8(first.lr), downscale(padded))
    assert not np.array_equal(sr, up)  # LR of the padded image has another right edge
    assert float(row["psnr_y"]) == pytest.approx(psnr_y(hr[4:-4, 4:-4], sr[4:-4, 4:-4]), abs=1e-6)
    _, common = run("converted", images, weights, tmp_path)
    assert (common["border"], common["padding"]) == (0, "none")


@pytest.mark.parametrize("family", FAMILIES)
def test_pooled_references_are_all_used(tmp_path, family):
    images = write_test_set(tmp_path / "set", sizes=((64, 48), (52, 72), (48, 48)), references="own", name="cufed5")
    weights = write_checkpoint(tmp_path / "weights", family=family)
    figures = {}
    for kind in ("own", "level_1", "pooled"):
        out = tmp_path / kind
        rows, summary = run(f"{family}-rec", images, weights, out, references=kind)
        figures[kind] = rows
        assert summary["references"] == kind
        assert summary["several"] == (FAMILIES[family].several if kind == "pooled" else None)
    assert figures["own"] == figures["level_1"]
    assert figures["pooled"] != figures["own"]
    (image, *_) = TestSet(images, "pooled")
    refs, refs_du = zip((image.ref, image.ref_du), *image.more, strict=True)
    assert len(refs) == 2
    with torch.inference_mode():
        whole = to_uint8(load_model(weights)(image.lr, image.lr_up, refs, refs_du))
    np.testing.assert_array_equal(whole, Image.open(tmp_path / f"pooled/sr/{image.name}.png"))


def test_wrong_arguments_are_refused(tmp_path):
    images, weights = write_test_set(tmp_path / "set"), write_checkpoint(tmp_path / "weights")
    for variant, checkpoint, says in [
        ("extractor", weights, "allowed are bicubic, srntt-rec, ttsr-rec, ssen-rec"),
        ("bicubic", weights, "takes no checkpoint"),
        ("ttsr", None, "needs a checkpoint"),
        ("extracter-rec", tmp_path / "nowhere", "nowhere/training.json: no such file"),
    ]:
        with pytest.raises(UserError, match=says):
            run(variant, images, checkpoint, tmp_path)


def test_a_truncated_image_is_refused(tmp_path):
    images = write_test_set(tmp_path / "set")
    target = images / "lr/b.png"
    whole = target.read_bytes()
    target.write_bytes(whole[:100])
    with pytest.raises(UserError, match=rf"set/lr/b.png: truncated PNG \(100 of {len(whole):,} bytes\)"):
        run("bicubic", images, None, tmp_path)
    assert not (tmp_path / "rows.csv").exists()


def test_running_out_of_memory_is_one_sentence(tmp_path, monkeypatch):
    def out_of_memory(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")

    monkeypatch.setattr(module, "run_network", out_of_memory)
    with pytest.raises(UserError, match=r"set/a: extracter-rec ran out of memory; set a lower `search.memory`"):
        run("extracter-rec", write_test_set(tmp_path / "set"), write_checkpoint(tmp_path / "weights"), tmp_path)
