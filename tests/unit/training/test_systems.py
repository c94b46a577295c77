"""Every system goes through both phases, in every precision, and a killed training ends with the same weights."""

import csv
import json

import pytest
import torch
from safetensors.torch import load_file

from extracter.families import FAMILIES
from extracter.models.checkpoint import load_model
from extracter.training import train
from extracter.training.objective import TERMS, losses_of

NAMES = ("seed", "model", "search", "loss", "train")
OTHERS = [name for name in FAMILIES if name != "extracter"]


def run(preset, pairs, out, family, start=None, **changes):
    preset = preset.model_copy(update={"train": preset.train.model_copy(update=changes)})
    blocks = (getattr(preset, name) for name in NAMES)
    phase = "full" if start else "rec"
    train.train(family, pairs, out, out.with_suffix(".state"), *blocks, phase=phase, start=start, device="cpu")
    return load_file(out / "model.safetensors")


@pytest.mark.parametrize("family", OTHERS)
def test_both_phases_and_a_power_cut(family, tiny_preset, tiny_pairs, tmp_path, monkeypatch):
    short = {"rec_steps": 2, "full_steps": 2, "checkpoint_every": 1, "ema": 0.9}
    rec, full = tmp_path / "rec", tmp_path / "full"
    run(tiny_preset, tiny_pairs, rec, family, **short)
    whole = run(tiny_preset, tiny_pairs, full, family, rec, **short)
    weights = losses_of(family, "full", tiny_preset.loss)
    (row,) = csv.DictReader((full / "train_log.csv").open())
    assert {name for name in TERMS if row[name]} == {name for name in TERMS if getattr(weights, name)}
    assert json.loads((full / "training.json").read_text())["family"] == family

    save = train.save_state

    def save_and_die(*arguments):
        save(*arguments)
        monkeypatch.setattr(train, "save_state", save)
        raise RuntimeError("power cut")

    monkeypatch.setattr(train, "save_state", save_and_die)
    cut = tmp_path / "cut"
    with pytest.raises(RuntimeError, match="power cut"):
        run(tiny_preset, tiny_pairs, cut, family, rec, **short)
    again = run(tiny_preset, tiny_pairs, cut, family, rec, **short)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    before = load_model(rec).state_dict()
    frozen = load_model(full).frozen
    changed = {name for name, value in whole.items() if not torch.equal(value, before[name])}
    assert not [name for name in changed if frozen and name.startswith(frozen)]
    assert changed


@pytest.mark.parametrize("family", OTHERS)
def test_mixed_precision(family, tiny_preset, tiny_pairs, tmp_path):
    run(tiny_preset, tiny_pairs, tmp_path / "rec", family, rec_steps=1, validate_every=1, precision="bf16-mixed")


def test_native_schedule_takes_the_steps_of_the_publication(tiny_preset, tiny_pairs, tmp_path, monkeypatch):
    monkeypatch.setitem(FAMILIES["srntt"].native, "rec_steps", 3)
    run(tiny_preset, tiny_pairs, tmp_path / "rec", "srntt", regime="native", validate_every=1)
    rows = list(csv.DictReader((tmp_path / "rec/train_log.csv").open()))
    assert [row["step"] for row in rows] == ["1", "2", "3"]
