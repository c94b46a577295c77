"""Training of C2-Matching's matcher: homographies, both losses, the phase, and its place before the -rec model."""

import csv
import json

import pytest
import torch
from torch.nn import functional as F

from extracter.errors import UserError
from extracter.models.checkpoint import load_model
from extracter.models.matcher import Matcher
from extracter.training import match, train

SHORT = {"teacher_steps": 2, "student_steps": 3, "batch": 2, "lr": 1e-3}


def run(preset, pairs, out, seed=None):
    settings = preset.train.model_copy(update={"validate_every": 1, "checkpoint_every": 1})
    block = preset.match.model_copy(update=SHORT)
    seed = preset.seed if seed is None else seed
    match.train_match(pairs, out, out.with_suffix(".state"), seed, preset.model, block, settings, device="cpu")
    return load_model(out).state_dict()


def test_homographies_move_corners_by_a_sixteenth_at_most():
    back = match.homographies(50, 64, 0, 7)
    corners = torch.tensor([[0.0, 63, 0, 63], [0, 0, 63, 63]], dtype=torch.float64)
    moved = match._apply(back, corners) - corners
    assert moved.abs().max() <= 4
    assert moved.abs().max() > 3.5
    assert torch.equal(back, match.homographies(50, 64, 0, 7))
    assert not torch.equal(back, match.homographies(50, 64, 0, 8))


def test_corresponding_pixels_look_alike(monkeypatch):
    monkeypatch.setattr(match, "_CORNER", 1 / 5)
    generator = torch.Generator().manual_seed(0)
    image = F.interpolate(torch.rand(3, 3, 6, 6, generator=generator), (64, 64), mode="bicubic")
    back = match.homographies(3, 64, 0, 0)
    warped = match.warp(image, back)
    places, counts = match.corresponding(back, 64)
    before = F.avg_pool2d(image, 4).flatten(2)
    after = F.avg_pool2d(warped, 4).flatten(2).gather(2, places.unsqueeze(1).expand_as(before))
    apart = (before - after).abs().mean(1)[counts]
    assert counts.float().mean() > 0.5
    assert apart.mean() < 0.05  # within half a feature pixel
    assert (before - F.avg_pool2d(warped, 4).flatten(2)).abs().mean(1)[counts].mean() > 2 * apart.mean()


def test_triplet_loss_by_loops():
    generator = torch.Generator().manual_seed(0)
    side = 12
    query, key = (F.normalize(torch.randn(1, 5, side**2, generator=generator), dim=1) for _ in range(2))
    places = torch.randperm(side**2, generator=generator).unsqueeze(0)
    counts = torch.rand(1, side**2, generator=generator) > 0.5

    def far(a, b):
        return max(abs(a // side - b // side), abs(a % side - b % side)) > 4

    used = [n for n in range(side**2) if counts[0, n]]
    total = 0.0
    for n in used:
        place = int(places[0, n])
        positive = 2 - 2 * query[0, :, n] @ key[0, :, place]
        others = [2 - 2 * query[0, :, n] @ key[0, :, places[0, m]] for m in used if far(place, int(places[0, m]))]
        own = [2 - 2 * key[0, :, place] @ query[0, :, m] for m in range(side**2) if far(n, m)]
        total += float(F.relu(1 + positive - min(*others, *own)))
    loss = match.triplet_loss(query, key, places, counts)
    assert loss.item() == pytest.approx(total / len(used), rel=1e-5)
    few = torch.zeros_like(counts)
    few[0, :5] = True
    assert match.triplet_loss(query, key, places, few) == 0


def test_distillation_is_least_where_the_student_is_the_teacher():
    generator = torch.Generator().manual_seed(0)
    query, key, other = (F.normalize(torch.randn(2, 5, 9, generator=generator), dim=1) for _ in range(3))
    assert match.distillation_loss(query, key, query, key).abs() < 1e-6
    assert match.distillation_loss(other, key, query, key) > 0.1


def test_the_phase_and_a_power_cut(tiny_preset, tiny_pairs, tmp_path, monkeypatch):
    whole = run(tiny_preset, tiny_pairs, tmp_path / "whole")
    rows = list(csv.DictReader((tmp_path / "whole/train_log.csv").open()))
    assert [bool(row["distillation"]) for row in rows] == [False, False, True, True, True]
    assert json.loads((tmp_path / "whole/training.json").read_text())["phase"] == "match"
    save = match.save_state
    saved = []

    def save_and_die(*arguments):
        save(*arguments)
        saved.append(1)
        if len(saved) in (1, 3):
            raise RuntimeError("power cut")

    monkeypatch.setattr(match, "save_state", save_and_die)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="power cut"):
            run(tiny_preset, tiny_pairs, tmp_path / "cut")
    again = run(tiny_preset, tiny_pairs, tmp_path / "cut")
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    first = Matcher(4)
    assert set(first.state_dict()) == set(whole)


def test_rec_takes_the_trained_matcher_and_keeps_it(tiny_preset, tiny_pairs, tmp_path):
    trained = run(tiny_preset, tiny_pairs, tmp_path / "matcher")
    blocks = [getattr(tiny_preset, name) for name in ("seed", "model", "search", "loss", "train")]

    def rec(family, out):
        blocks[-1] = tiny_preset.train.model_copy(update={"rec_steps": 1, "validate_every": 1})
        train.train(
            family, tiny_pairs, out, out.with_suffix(".state"), *blocks,
            phase="rec", start=None, matcher=tmp_path / "matcher", device="cpu",
        )  # fmt: skip
        return load_model(out)

    network = rec("c2", tmp_path / "c2")
    assert all(torch.equal(value, trained[name]) for name, value in network.matcher.state_dict().items())
    assert json.loads((tmp_path / "c2/training.json").read_text())["matcher_sha256"]
    with pytest.raises(UserError, match="SSEN has no matcher; leave --matcher out"):
        rec("ssen", tmp_path / "ssen")
    wider = tiny_preset.model.model_copy(update={"dfe_width": 8})
    blocks[1] = wider
    with pytest.raises(UserError, match=r"no matcher of `model\.dfe_width: 8`"):
        rec("c2", tmp_path / "wide")
