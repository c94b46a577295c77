"""Released weights of the other systems: files with the official names and shapes, made here, load strictly."""

import pickle
import zipfile

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from typer.testing import CliRunner

from extracter.cli import app
from extracter.errors import UserError
from extracter.models.checkpoint import load_model
from extracter.models.convert import convert
from extracter.models.convert_srntt import read_arrays

WIDTH, FEATURES = 4, 8


def conv(out, inside, side=3):
    return {"weight": torch.randn(out, inside, side, side) * 0.1, "bias": torch.randn(out) * 0.1}


def state(parts):
    return {f"{name}.{key}": value for name, layer in parts.items() for key, value in layer.items()}


def blocks(name, count, f=FEATURES):
    return {f"{name}.{n}.conv{k}": conv(f, f) for n in range(count) for k in (1, 2)}


def c2_state(amsa=False):
    f, parts = FEATURES, {"content_extractor.conv_first": conv(FEATURES, 3), **blocks("content_extractor.body", 2)}
    for level, c in (("small", 4 * WIDTH), ("medium", 2 * WIDTH), ("large", WIDTH)):
        at = f"dyn_agg_restore.{level}"
        parts |= {
            f"{at}_offset_conv1": conv(c, f + c),
            f"{at}_offset_conv2": conv(c, c),
            f"{at}_dyn_agg": conv(c, c),
            f"{at}_dyn_agg.conv_offset_mask": conv(27, c),
            f"dyn_agg_restore.head_{level}.0": conv(f, f + c),
            **blocks(f"dyn_agg_restore.body_{level}", 2),
        }
        if amsa:
            parts |= {f"{at}_deform_conv": conv(c, c), f"{at}_deform_conv.conv_offset_mask": conv(27, c)}
    for level in ("small", "medium"):
        parts[f"dyn_agg_restore.tail_{level}.0"] = conv(4 * f, f)
    parts |= {"dyn_agg_restore.tail_large.0": conv(f // 2, f), "dyn_agg_restore.tail_large.2": conv(3, f // 2)}
    return state(parts)


def vgg_layers():
    w = WIDTH
    return {0: (w, 3), 2: (w, w), 5: (2 * w, w), 7: (2 * w, 2 * w), 10: (4 * w, 2 * w)}


def matcher_state():
    names = ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1")
    tensors = {}
    for number in (1, 2):
        at = f"feature_extraction_image{number}"
        tensors |= state({f"{at}.model.{n}": conv(*s) for n, s in zip(names, vgg_layers().values(), strict=True)})
        tensors[f"{at}.mean"] = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
        tensors[f"{at}.std"] = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    return tensors


def vgg_state():
    return state(
        {f"features.{place}": conv(*shape) for place, shape in vgg_layers().items()} | {"classifier.0": conv(2, 2)}
    )


def masa_state():
    f = FEATURES
    parts = {"enc.conv_L1": conv(f, 3), "enc.conv_L2": conv(f, f), "enc.conv_L3": conv(f, f)}
    for level in (1, 2, 3):
        parts |= {**blocks(f"enc.blk_L{level}", 1), **blocks(f"decoder.blk_L{level}", 1)}
        parts[f"decoder.conv_L{level}"] = conv(f, f if level == 3 else 2 * f)
    for scale in (1, 2, 4):
        parts |= blocks(f"decoder.blk_x{scale}", 1)
    for scale in (2, 4):
        for which in "ab":
            parts[f"decoder.dram_x{scale}.conv_down_{which}"] = conv(f, f)
            parts[f"decoder.dram_x{scale}.conv_up_{which}"] = conv(f, f)
        parts[f"decoder.dram_x{scale}.conv_cat"] = conv(f, 2 * f)
    parts |= {"decoder.merge_warp_x1": conv(f, 2 * f), "decoder.pAda.conv_shared.0": conv(f, 2 * f)}
    parts |= {"decoder.pAda.conv_gamma": conv(f, f), "decoder.pAda.conv_beta": conv(f, f)}
    return state(parts | {"decoder.conv_out": conv(3, f)})


def datsr_state():
    f, parts = 2 * FEATURES, {"content_extractor.conv_first": conv(2 * FEATURES, 3), **datsr_blocks()}
    at = "dyn_agg_restore"
    tensors = {}
    for way, size, c in (
        ("down", "large", WIDTH), ("down", "medium", 2 * WIDTH), ("up", "small", 4 * WIDTH),
        ("up", "medium", 2 * WIDTH), ("up", "large", WIDTH),
    ):  # fmt: skip
        parts |= {
            f"{at}.{way}_{size}_offset_conv1": conv(c, f + 2 * c),
            f"{at}.{way}_{size}_offset_conv2": conv(c, c),
            f"{at}.{way}_{size}_dyn_agg": conv(c, c),
            f"{at}.{way}_{size}_dyn_agg.conv_offset_mask": conv(27, c),
            f"{at}.{way}_head_{size}.0": conv(f, f + c),
        }
        body = f"{at}.{way}_body_{size}"
        tensors |= state({f"{body}.{norm}": linear(f) for norm in ("patch_embed.norm", "norm")})
        for group in range(2):
            parts[f"{body}.layers.{group}.conv"] = conv(f, f)
            for n in range(2):
                block = f"{body}.layers.{group}.residual_group.blocks.{n}"
                layers = {
                    "norm1": linear(f),
                    "norm2": linear(f),
                    "attn.qkv": linear(3 * f, f),
                    "attn.proj": linear(f, f),
                }
                layers |= {"mlp.fc1": linear(2 * f, f), "mlp.fc2": linear(f, 2 * f)}
                tensors |= state({f"{block}.{name}": layer for name, layer in layers.items()})
                tensors[f"{block}.attn.relative_position_bias_table"] = torch.randn(225, 4)
                tensors[f"{block}.attn.relative_position_index"] = torch.zeros(64, 64, dtype=torch.long)
                tensors[f"{block}.attn_mask"] = torch.zeros(25, 64, 64)
    parts |= {f"{at}.unet_head": conv(f, 3)}
    parts |= {f"{at}.down_tail_{size}": conv(f, f) for size in ("large", "medium")}
    parts |= {f"{at}.up_tail_{size}.0": conv(4 * f, f) for size in ("small", "medium")}
    parts |= {f"{at}.up_tail_large.0": conv(f // 2, f), f"{at}.up_tail_large.2": conv(3, f // 2)}
    return state(parts) | tensors


def datsr_blocks():
    return blocks("content_extractor.body", 4, 2 * FEATURES)


def linear(*shape):
    return {"weight": torch.randn(*shape) * 0.1, "bias": torch.randn(shape[0]) * 0.1}


@pytest.fixture
def files(tmp_path):
    torch.manual_seed(0)

    def write(name, tensors):
        torch.save(tensors, tmp_path / name)
        return tmp_path / name

    return write


@pytest.mark.parametrize("amsa", [False, True])
def test_c2_and_amsa_load_strictly(files, tmp_path, amsa):
    theirs, matching, vgg = c2_state(amsa), matcher_state(), vgg_state()
    source = files("restoration.pth", theirs)
    beside = [files("feature_extraction.pth", matching), files("vgg19.pth", vgg)]
    config = convert(source, tmp_path / "out", beside=beside)
    assert config == {"architecture": "AMSA" if amsa else "C2Matching", "features": 8, "dfe_width": 4, "blocks": 2}
    model = load_model(tmp_path / "out")
    assert torch.equal(
        model.levels[1].offsets[4].weight, theirs["dyn_agg_restore.medium_dyn_agg.conv_offset_mask.weight"]
    )
    assert torch.equal(model.content[3].conv2.bias, theirs["content_extractor.body.1.conv2.bias"])
    name = "feature_extraction_image2.model.conv2_1.weight"
    assert torch.equal(model.matcher.key.features[5].weight, matching[name])
    assert torch.equal(model.dfe.features[7].bias, vgg["features.7.bias"])
    if amsa:
        assert torch.equal(model.levels[0].align.weight, theirs["dyn_agg_restore.small_deform_conv.weight"])


def test_datsr_loads_strictly(files, tmp_path):
    theirs = datsr_state()
    beside = [files("feature_extraction.pth", matcher_state()), files("vgg19.pth", vgg_state())]
    config = convert(files("restoration_mse.pth", theirs), tmp_path / "out", beside=beside)
    assert config == {"architecture": "DATSR", "features": 8, "dfe_width": 4, "blocks": 8}
    model = load_model(tmp_path / "out")
    ours = {
        "levels.2.body.groups.1.0.mlp.3.weight": "up_body_small.layers.1.residual_group.blocks.0.mlp.fc2.weight",
        "levels.0.body.norm_in.bias": "down_body_large.patch_embed.norm.bias",
        "levels.3.head.weight": "up_head_medium.0.weight",
        "levels.4.offsets.4.bias": "up_large_dyn_agg.conv_offset_mask.bias",
        "downs.1.weight": "down_tail_medium.weight",
    }
    weights = model.state_dict()
    assert all(torch.equal(weights[name], theirs[f"dyn_agg_restore.{key}"]) for name, key in ours.items())
    table = "layers.0.residual_group.blocks.1.attn.relative_position_bias_table"
    attention = model.levels[3].body.groups[0][1].attn
    assert torch.equal(attention.relative_position_bias_table, theirs[f"dyn_agg_restore.up_body_medium.{table}"])
    assert attention.relative_position_index.max() == 224  # ours, not the file's


def test_the_matcher_is_asked_for(files, tmp_path):
    with pytest.raises(UserError, match=r"name feature_extraction\.pth with --with"):
        convert(files("restoration.pth", c2_state()), tmp_path / "out")
    wrong = matcher_state()
    wrong["feature_extraction_image1.mean"] = torch.zeros(1, 3, 1, 1)
    with pytest.raises(UserError, match=r"image1\.mean is not ImageNet's"):
        convert(files("r.pth", c2_state()), tmp_path / "out", beside=[files("f.pth", wrong)])


@pytest.mark.parametrize("make", [c2_state, masa_state, datsr_state])
@pytest.mark.parametrize("damage", ["missing", "extra", "shape"])
def test_what_does_not_fit_is_named(files, tmp_path, make, damage):
    theirs = make()
    key = next(name for name in reversed(theirs) if name.endswith("bias"))
    if damage == "missing":
        del theirs[key]
        says = "1 keys missing"
    elif damage == "extra":
        theirs["decoder.more.weight"] = torch.zeros(1)
        says = r"1 unknown keys \(decoder\.more\.weight\)"
    else:
        theirs[key] = torch.zeros(99)
        says = rf"1 other shapes \({key} \(99,\)\)"
    beside = [files("f.pth", matcher_state()), files("v.pth", vgg_state())] if make is not masa_state else []
    with pytest.raises(UserError, match=says):
        convert(files("damaged.pth", theirs), tmp_path / "out", beside=beside)


def test_masa_in_rgb_is_theirs_in_bgr(files, tmp_path):
    theirs = masa_state()
    assert convert(files("masa.pth", theirs), tmp_path / "out")["blocks"] == [1, 1, 1, 1, 1]
    model = load_model(tmp_path / "out")
    bgr = load_model(tmp_path / "out")
    with torch.no_grad():
        bgr.encoder.convs[0].weight.copy_(theirs["enc.conv_L1.weight"])
        bgr.tail.weight.copy_(theirs["decoder.conv_out.weight"])
        bgr.tail.bias.copy_(theirs["decoder.conv_out.bias"])
        lr, lr_up, ref = (torch.rand(1, 3, side, side) * 2 - 1 for side in (16, 64, 64))
        expected = bgr(*(x.flip(1) for x in (lr, lr_up, ref, ref))).flip(1)
        torch.testing.assert_close(model(lr, lr_up, ref, ref), expected, atol=1e-5, rtol=1e-5)


def arrays_of_srntt(n=4):
    rng = np.random.default_rng(0)

    def weights(inside, out, side=3, bias=False):
        yield rng.standard_normal((side, side, inside, out)).astype(np.float32) * 0.1
        if bias:
            yield rng.standard_normal(out).astype(np.float32)

    def norm():
        yield from (rng.random(FEATURES).astype(np.float32) for _ in range(4))

    def stage(count):
        for _ in range(2 * count + 1):
            yield from weights(FEATURES, FEATURES)
            yield from norm()

    f = FEATURES
    srntt = []
    for number, (c, count) in enumerate(((4 * WIDTH, n), (2 * WIDTH, n // 2), (WIDTH, n // 4))):
        srntt += [*weights(f + c, f, bias=True), *stage(count)]
        srntt += weights(f, 4 * f, bias=True) if number < 2 else []
    srntt += [*weights(f, f // 2, bias=True), *weights(f // 2, 3, side=1, bias=True)]
    upscale = [*weights(3, f, bias=True), *stage(n)]
    for _ in range(2):
        upscale += weights(f, 4 * f, bias=True)
    return srntt, [*upscale, *weights(f, 3, side=1, bias=True)]


def write_npz(path, arrays):
    content = np.empty(len(arrays), object)
    content[:] = arrays
    np.savez(path, params=content)
    return path


def test_srntt_loads_strictly(files, tmp_path):
    srntt, upscale = arrays_of_srntt()
    vgg = vgg_state()
    beside = [write_npz(tmp_path / "upscale.npz", upscale), files("vgg19.pth", vgg)]
    config = convert(write_npz(tmp_path / "srntt.npz", srntt), tmp_path / "out", beside=beside)
    assert config == {"architecture": "SRNTT", "features": 8, "dfe_width": 4, "blocks": 4, "caffe": True}
    model = load_model(tmp_path / "out")
    assert torch.equal(model.content.head.weight, torch.from_numpy(upscale[0]).permute(3, 2, 0, 1))
    first = model.content.stage[0]
    for place, name in ((3, "bias"), (4, "weight"), (5, "running_mean"), (6, "running_var")):
        assert torch.equal(getattr(first.bn1, name), torch.from_numpy(upscale[place]))
    assert torch.equal(model.tail[1].bias, torch.from_numpy(srntt[-1]))
    assert torch.equal(model.dfe.features[0].weight, vgg["features.0.weight"].flip(1))
    image = torch.rand(1, 3, 4, 4) * 2 - 1
    bytes_of_bgr = (image.flip(1) + 1) * 127.5 - torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1)
    wanted = F.relu(F.conv2d(bytes_of_bgr, vgg["features.0.weight"], vgg["features.0.bias"], padding=1))
    torch.testing.assert_close(model.dfe(image)[0], wanted, atol=1e-3, rtol=1e-4)


def test_sub_pixels_of_tensorflow_come_out_in_their_places(files, tmp_path):
    srntt, upscale = arrays_of_srntt()
    beside = [write_npz(tmp_path / "upscale.npz", upscale), files("vgg19.pth", vgg_state())]
    convert(write_npz(tmp_path / "srntt.npz", srntt), tmp_path / "out", beside=beside)
    up = load_model(tmp_path / "out").ups[0]
    place = 2 + 10 * 4 + 5
    weight, bias = (torch.from_numpy(x) for x in srntt[place : place + 2])
    x = torch.rand(1, FEATURES, 3, 5)
    theirs = F.conv2d(x, weight.permute(3, 2, 0, 1), bias, padding=1)[0]  # depth to space: channel (row, column, c)
    expected = torch.zeros(FEATURES, 6, 10)
    for row in range(2):
        for column in range(2):
            start = (2 * row + column) * FEATURES
            expected[:, row::2, column::2] = theirs[start : start + FEATURES]
    torch.testing.assert_close(up(x)[0], expected.relu(), atol=1e-5, rtol=1e-5)


class _Harmful:
    def __reduce__(self):
        return (print, ("harm",))


def test_nothing_in_a_pickle_is_run(tmp_path, capsys):
    path = tmp_path / "bad.npz"
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    header += b" " * (64 - (10 + len(header) + 1) % 64) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + pickle.dumps([_Harmful()])
        archive.writestr("params.npy", content)
    with pytest.raises(UserError, match=r"builtins\.print is no array.*nothing in it was run"):
        read_arrays(path)
    assert "harm" not in capsys.readouterr().out
    path.write_bytes(b"no zip")
    with pytest.raises(UserError, match="nothing in it was run"):
        read_arrays(path)


@pytest.mark.parametrize("damage", ["short", "long", "shape"])
def test_arrays_that_do_not_fit_are_named(files, tmp_path, damage):
    srntt, upscale = arrays_of_srntt()
    beside = [write_npz(tmp_path / "upscale.npz", upscale), files("vgg19.pth", vgg_state())]
    if damage == "short":
        srntt, says = srntt[:-1], "98 arrays are not those of SRNTT"
    elif damage == "long":
        srntt, says = [*srntt, srntt[-1]], "100 arrays are not those of SRNTT"
    else:
        srntt[7], says = (
            srntt[7][:, :, :3],
            r"array 7 is \(3, 3, 3, 8\), which does not fit scales.0.stage.0.conv2.weight",
        )
    with pytest.raises(UserError, match=says):
        convert(write_npz(tmp_path / "srntt.npz", srntt), tmp_path / "out", beside=beside)


def test_the_command(files, tmp_path):
    source = files("masa_rec.pth", masa_state())
    result = CliRunner().invoke(app, ["convert", str(source), "-o", str(tmp_path / "out")])
    assert result.exit_code == 0
    assert "architecture: MASA" in result.output
    assert isinstance(load_model(tmp_path / "out"), nn.Module)
