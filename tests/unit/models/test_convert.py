"""Converted state dicts compute what the authors' networks compute."""

import json
import pickle

import numpy as np
import pytest
import torch
from official_networks import Official
from safetensors.torch import save_file
from typer.testing import CliRunner

from extracter.cli import app
from extracter.errors import UserError
from extracter.inference.tiling.engine import Inputs, super_resolve
from extracter.models.checkpoint import load_model
from extracter.models.convert import convert
from extracter.models.extracter import Extracter
from extracter.models.state_files import read_state
from extracter.models.ttsr import TTSR

CASES = [
    ("SR", (2, 3, 2, 1), (2, 1, 3, 2), 2, 6),
    ("SR", (1, 1, 1, 1), (3, 1, 1, 1), 3, 3),
    ("CSFI", (1, 2, 1, 1), (1, 2, 1, 1), 3, 6),
    ("MainNet", (1, 1, 2, 1), (1, 1, 1, 2), 2, 12),
    ("TTSR", (2, 1, 2, 1), None, 1, 3),
]


def official(layout, counts, gradient_counts, u, kernel, seed=0) -> Official:
    torch.manual_seed(seed)
    return Official(layout, 8, 4, counts, gradient_counts, u, kernel).eval()


def run(*arguments):
    return CliRunner().invoke(app, ["convert", *map(str, arguments)])


@pytest.mark.parametrize(("layout", "counts", "gradient_counts", "u", "kernel"), CASES)
@pytest.mark.parametrize("wrapped", [False, True])
def test_converted_equals_official(tmp_path, layout, counts, gradient_counts, u, kernel, wrapped):
    theirs = official(layout, counts, gradient_counts, u, kernel)
    state = theirs.released()
    if wrapped:
        state = {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}
    torch.save(state, tmp_path / "official.pt")
    result = run(tmp_path / "official.pt", "-o", tmp_path / "ours", "--kernel", kernel)
    assert result.exit_code == 0, result.output
    ours = load_model(tmp_path / "ours")
    generator = torch.Generator().manual_seed(1)
    shapes = [(24, 16), (96, 64), (64, 80), (64, 80)]
    images = [torch.rand(1, 3, *shape, generator=generator) * 2 - 1 for shape in shapes]
    with torch.inference_mode():
        wanted = theirs(*images)
        assert wanted.std() > 0.01
        torch.testing.assert_close(ours(*images), wanted, atol=1e-5, rtol=0)
    arrays = [image[0].movedim(0, -1).numpy() for image in images]
    tiled, _ = super_resolve(ours, Inputs(arrays[0], arrays[1], [arrays[2]], [arrays[3]]), memory=1e9)
    np.testing.assert_allclose(tiled, wanted[0].movedim(0, -1).numpy(), atol=1e-5)


def test_every_key_is_in_the_tables(tmp_path):
    """Nothing of a state dict is left out silently: without any one key, conversion fails and names it or its place."""
    state = official(*CASES[0]).released()
    for name in list(state)[::7]:
        torch.save({key: tensor for key, tensor in state.items() if key != name}, tmp_path / "part.pt")
        if "sub_mean" in name:
            continue
        with pytest.raises(UserError, match=r"missing|no key"):
            convert(tmp_path / "part.pt", tmp_path / "ours")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update({"SR.more.weight": torch.zeros(1)}), r"1 unknown keys \(SR.more.weight\)"),
        (lambda s: s.update({"SR.fuse.weight": torch.zeros(8, 16, 1, 1)}), r"other shapes \(SR.fuse.weight"),
        (lambda s: s.update({"FE.sub_mean.bias": torch.zeros(3)}), "FE.sub_mean.bias is not the constant"),
        (lambda s: s.pop("SR.SFE.conv_head.weight"), "no key SFE.conv_head.weight.*convert --help"),
        (lambda s: s.pop("SR.RB11.1.conv1.bias"), r"1 keys missing, in our names \(csfi.stages.0.0.1.conv1.bias\)"),
    ],
)
def test_what_is_another_networks_is_named(tmp_path, change, message):
    state = official(*CASES[0]).released()
    change(state)
    torch.save(state, tmp_path / "official.pt")
    with pytest.raises(UserError, match=message):
        convert(tmp_path / "official.pt", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_files_that_are_no_state_dicts(tmp_path):
    torch.save({"a": 1}, tmp_path / "numbers.pt")
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    (tmp_path / "code.pt").write_bytes(pickle.dumps(print))
    (tmp_path / "text.pt").write_text("hello")
    for name, message in [
        ("numbers.pt", "holds no state dict"),
        ("tensor.pt", "holds no state dict"),
        ("code.pt", "not a file of weights alone"),
        ("text.pt", "not a file of weights alone"),
        ("none.pt", "cannot be read"),
    ]:
        with pytest.raises(UserError, match=message):
            convert(tmp_path / name, tmp_path / "ours")


def test_what_is_written(tmp_path):
    torch.save(official(*CASES[2]).released(), tmp_path / "official.pt")
    result = run(tmp_path / "official.pt", "-o", tmp_path / "ours", "--gradient", "bytes")
    assert result.exit_code == 0, result.output
    assert "gradient: bytes" in result.output
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert config["csfi_blocks"] == [2, 1, 1]
    assert config["gde_blocks"] == [2, 1, 1]
    assert (config["textures"], config["strategy"], config["repeats"]) == (3, "two_stage", True)
    training = json.loads((tmp_path / "ours" / "training.json").read_text())
    assert training["phase"] == "converted"
    assert training["source"]["file"] == "official.pt"


def other(state):
    return {name: tensor + 1 for name, tensor in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"params_ema": s, "params": other(s)},
        lambda s: {"params": s},
        lambda s: {"model_state_dict": s, "optimizer_state_dict": {"state": {}}, "epoch": 7},
        lambda s: {"state_dict": {f"model.{name}": x for name, x in s.items()}, "global_step": 3, "callbacks": {}},
        lambda s: {f"_orig_mod.{name}": x for name, x in s.items()},
        lambda s: {f"module._orig_mod.{name}": x for name, x in s.items()},
        lambda s: {name.replace("SR.", "SR._orig_mod."): x for name, x in s.items()},
        lambda s: {"model": {"state_dict": {f"net.module.{name}": x for name, x in s.items()}}},
    ],
)
def test_wrappers_and_prefixes(tmp_path, wrap):
    state = official(*CASES[1]).released()
    torch.save(state, tmp_path / "plain.pt")
    torch.save(wrap(state), tmp_path / "wrapped.pt")
    plain, wrapped = (read_state(tmp_path / f"{name}.pt") for name in ("plain", "wrapped"))
    assert plain.keys() == wrapped.keys() == state.keys()
    assert all(torch.equal(plain[name], wrapped[name]) for name in plain)
    convert(tmp_path / "wrapped.pt", tmp_path / "ours")


def test_safetensors_whatever_the_suffix(tmp_path):
    state = official(*CASES[0]).released()
    for name in ("a.safetensors", "b.pth"):
        save_file(state, tmp_path / name)
        assert read_state(tmp_path / name).keys() == state.keys()


def test_two_networks_in_one_file_are_refused(tmp_path):
    state = official(*CASES[1]).released()
    both = {f"{prefix}.{name}": x for prefix in ("student", "module") for name, x in state.items()}
    torch.save(both, tmp_path / "both.pt")
    with pytest.raises(UserError, match="twice"):
        convert(tmp_path / "both.pt", tmp_path / "ours")


@pytest.mark.parametrize(("white", "option"), [(1, ()), (255, ("--gradient", "bytes"))])
def test_both_versions_of_the_later_code(tmp_path, white, option):
    """The same keys, and the gradient of LR in [0, 1] or in [0, 255]: the current code's is the default, and said."""
    torch.manual_seed(0)
    theirs = Official("SR", 8, 4, (1, 1, 1, 1), (1, 1, 1, 1), 2, 6, white).eval()
    torch.save(theirs.released(), tmp_path / "official.pt")
    result = run(tmp_path / "official.pt", "-o", tmp_path / "ours", *option)
    assert result.exit_code == 0, result.output
    assert ("--gradient bytes" in result.output and "docs/checkpoints.md" in result.output) == (not option)
    images = [torch.rand(1, 3, *size) * 2 - 1 for size in [(24, 16), (96, 64), (64, 80), (64, 80)]]
    ours = load_model(tmp_path / "ours")
    with torch.inference_mode():
        wanted = theirs(*images)
        torch.testing.assert_close(ours(*images), wanted, atol=1e-5, rtol=0)
        ours.gde.gradient = "bytes" if white == 1 else "unit"
        assert (ours(*images) - wanted).abs().max() > 0.01  # so the choice matters


@pytest.mark.parametrize("cls", [Extracter, TTSR])
def test_what_save_pretrained_wrote_is_read_back(tmp_path, cls):
    torch.manual_seed(0)
    options = {"blocks": (1, 1, 1, 1)} if cls is TTSR else {"csfi_blocks": (1, 1, 1), "gde_blocks": (1, 1, 1)}
    model = cls(features=8, dfe_width=4, **options).eval()
    model.save_pretrained(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert type(again) is cls
    assert all(torch.equal(x, again.state_dict()[name]) for name, x in model.state_dict().items())
