"""The networks: sizes, parameter counts, and the parts that have a value of their own."""

import dataclasses
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from extracter.errors import UserError
from extracter.families import FAMILIES
from extracter.models.blocks import resize, upsample
from extracter.models.checkpoint import build_model, load_model, save_model
from extracter.models.critic import Critic
from extracter.models.csfi import Fusion
from extracter.models.extracter import Extracter
from extracter.models.gde import gradient_density
from extracter.models.refsr import count_parameters
from extracter.models.ttsr import TTSR
from extracter.models.vgg import VGG19, initialise_vgg

SMALL = {"features": 8, "dfe_width": 4}


def small(**changes) -> Extracter:
    torch.manual_seed(0)
    return Extracter(**SMALL | {"ife_blocks": 1, "csfi_blocks": (1, 1, 1), "gde_blocks": (1, 1, 1)} | changes).eval()


def images(height: int, width: int, *ref: tuple[int, int], batch: int = 1, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)

    def image(h, w):
        return torch.rand(batch, 3, h, w, generator=generator) * 2 - 1

    refs = [image(*size) for size in ref]
    return image(height, width), image(4 * height, 4 * width), refs, [image(*size) for size in ref]


def test_parameter_counts_at_the_papers_configuration():
    extracter = Extracter()
    assert count_parameters(extracter.dfe) == 555_328
    assert count_parameters(extracter) == 9_315_203
    assert count_parameters(TTSR()) == 6_729_603


def test_correlation_shape_at_160_pixels():
    model = small()
    shapes = []
    model.stm.register_forward_hook(lambda module, args, out: shapes.append((out[0].indices.shape[2], out[0].keys)))
    with torch.inference_mode():
        for kernel in (3, 6, 12):
            search = dataclasses.replace(model.search, kernel=kernel, stride=kernel // 3, padding=kernel // 3)
            model.search = search
            model(*images(40, 40, (160, 160)))
    assert shapes == [(1600, 1600), (400, 400), (100, 100)]


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 13),
    st.integers(1, 13),
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=2),
    st.sampled_from([3, 6, 12]),
    st.booleans(),
)
def test_any_size_any_reference_any_kernel(height, width, refs, kernel, skip):
    inputs = images(height, width, *refs)
    for model in (small(bicubic_skip=skip), TTSR(**SMALL, blocks=(1, 1, 1, 1), bicubic_skip=skip).eval()):
        model.search = dataclasses.replace(model.search, kernel=kernel, stride=kernel // 3, padding=kernel // 3)
        with torch.inference_mode():
            sr = model(*inputs)
        assert sr.shape == (1, 3, 4 * height, 4 * width)
        assert sr.isfinite().all()
        assert sr.abs().max() <= 1


def test_images_of_sizes_that_do_not_fit_are_refused():
    lr, lr_up, refs, refs_du = images(8, 8, (32, 32))
    with pytest.raises(ValueError, match="four times lr is"):
        small()(lr, lr_up[..., 1:], refs, refs_du)
    with pytest.raises(ValueError, match="ref_du of the same size"):
        small()(lr, lr_up, refs, [refs_du[0][..., 1:]])


def test_batch_equals_one_by_one():
    model = small()
    lr, lr_up, refs, refs_du = images(10, 8, (32, 40), batch=3)
    with torch.inference_mode():
        whole = model(lr, lr_up, refs, refs_du)
        single = [model(lr[i : i + 1], lr_up[i : i + 1], refs[0][i : i + 1], refs_du[0][i : i + 1]) for i in range(3)]
    torch.testing.assert_close(whole, torch.cat(single), atol=1e-5, rtol=1e-5)


def test_bicubic_skip_starts_at_bicubic():
    lr, lr_up, *refs = images(8, 8, (32, 32))
    with torch.inference_mode():
        torch.testing.assert_close(small(bicubic_skip=True)(lr, lr_up, *refs), lr_up)


def test_reference_changes_the_result_and_gradient_reaches_every_weight():
    torch.use_deterministic_algorithms(True)
    model = small().train()
    lr, lr_up, refs, refs_du = images(8, 8, (32, 32))
    sr = model(lr, lr_up, refs, refs_du)
    assert not torch.equal(sr, model(lr, lr_up, [refs[0].flip(3)], [refs_du[0].flip(3)]))
    sr.square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_scores_carry_the_gradient_of_query_and_key():
    model = small().train()
    lr, lr_up, refs, refs_du = images(8, 8, (32, 32))
    lr_up.requires_grad_()
    refs_du[0].requires_grad_()
    model(lr, lr_up, refs, refs_du).sum().backward()
    assert lr_up.grad.any()
    assert refs_du[0].grad.any()


def test_fusion_is_equation_7():
    torch.manual_seed(0)
    fusion = Fusion(4, 6, 2).double()
    x = torch.rand(1, 4, 6, 6).double()
    textures = [torch.rand(1, 6, 6, 6).double() for _ in range(2)]
    soft = [torch.rand(1, 1, 3, 3).double() for _ in range(2)]
    wanted = x.clone()
    for conv, t, s in zip(fusion.convs, textures, soft, strict=True):
        s = F.interpolate(s, (6, 6), mode="bicubic")
        wanted += F.conv2d(torch.cat((x, t * s), 1), conv.weight, conv.bias, padding=1) * s
    torch.testing.assert_close(fusion(x, textures, soft), wanted)


def test_fusion_without_textures_is_one_of_zeros():
    torch.manual_seed(0)
    fusion = Fusion(4, 6, 3).double()
    x, weights = torch.rand(2, 4, 6, 5).double(), torch.rand(3).double()
    wanted = fusion(x, [torch.zeros(2, 6, 6, 5).double()] * 3, [w.expand(2, 1, 3, 3) for w in weights])
    torch.testing.assert_close(fusion.alone(x, weights), wanted)


def test_gradient_density_of_a_ramp_and_a_flat_image():
    ramp = torch.linspace(-1, 1, 9).view(1, 1, 1, 9).expand(1, 3, 9, 9)
    # The Sobel kernel sums to 8 steps of the ramp, which rises by 1/8 a pixel in [0, 1].
    torch.testing.assert_close(gradient_density(ramp)[0, :, 4, 4], torch.tensor(1.0 + 1e-6).sqrt().expand(3))
    assert gradient_density(torch.zeros(1, 3, 5, 5))[0, 0, 2, 2] == pytest.approx(1e-3)


def test_vgg_levels_and_published_layout():
    from torchvision.models import vgg19

    network = VGG19(depth=5)
    wanted = {k: v for k, v in vgg19(weights=None).state_dict().items() if k in network.state_dict()}
    network.load_state_dict(wanted)
    assert list(network.state_dict())[-1] == "features.28.bias"
    shapes = [tuple(x.shape) for x in VGG19(depth=3)(torch.zeros(1, 3, 21, 16))]
    assert shapes == [(1, 64, 21, 16), (1, 128, 10, 8), (1, 256, 5, 4)]
    image = torch.rand(1, 3, 16, 16)
    assert torch.equal(network(image, levels=2)[1], network(image)[1])
    assert len(network(image, levels=2)) == 2
    a, b, c = VGG19(depth=3), VGG19(depth=3), VGG19(depth=3)
    for x, seed in ((a, 1), (b, 1), (c, 2)):
        initialise_vgg(x, "random", seed)
    assert torch.equal(a.features[0].weight, b.features[0].weight)
    assert not torch.equal(a.features[0].weight, c.features[0].weight)


def test_vgg_weights_that_cannot_be_fetched_are_refused_not_replaced(monkeypatch):
    from torchvision.models import VGG19_Weights

    def fail(self, **kwargs):
        raise OSError("network is unreachable")

    monkeypatch.setattr(VGG19_Weights, "get_state_dict", fail)
    with pytest.raises(UserError, match=r"network is unreachable.*vgg_weights: random"):
        initialise_vgg(VGG19(depth=3), "imagenet", 0)


def test_critic_scores_each_image():
    assert Critic(64)(torch.zeros(3, 3, 64, 64)).shape == (3, 1)


@pytest.mark.parametrize("size", [(10, 14), (20, 28), (30, 42), (3, 5), (7, 7), (10, 28)])
def test_bicubic_resizing_is_interpolate_in_both_directions(size):
    x = torch.rand(2, 3, 5, 7, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, 3, *size, dtype=torch.float64)
    torch.use_deterministic_algorithms(False)
    ours, theirs = resize(x, size), F.interpolate(x, size, mode="bicubic")
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    (ours,) = torch.autograd.grad((ours * weights).sum(), x)
    (theirs,) = torch.autograd.grad((theirs * weights).sum(), x)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 5, 1, 2), (1, 64, 33, 20)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_upsampling_is_interpolate_in_every_precision_and_under_autocast(shape, factor, layout):
    x = torch.rand(shape).contiguous(memory_format=layout)
    double = x.double()
    expected = F.interpolate(double, scale_factor=factor, mode="bicubic")
    torch.testing.assert_close(upsample(double, factor), expected, atol=1e-13, rtol=1e-13)
    expected = F.interpolate(x, scale_factor=factor, mode="bicubic")
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(upsample(x, factor), expected, atol=1e-6, rtol=1e-6)
    rounded = x.bfloat16()
    expected = F.interpolate(rounded.float(), scale_factor=factor, mode="bicubic").bfloat16()
    torch.testing.assert_close(upsample(rounded, factor), expected, atol=2**-8, rtol=2**-7)


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpoint_round_trip(family, tiny_preset, tmp_path):
    model = build_model(family, tiny_preset.model, tiny_preset.search).eval()
    save_model(model, model.state_dict(), tmp_path, {"family": family})
    again = load_model(tmp_path)
    inputs = images(8, 8, (32, 32))
    with torch.inference_mode():
        assert torch.equal(model(*inputs), again(*inputs))
        assert torch.equal(model(*inputs), type(model).from_pretrained(tmp_path)(*inputs))
    assert again.search == model.search
    (weights := dict(model.state_dict())).popitem()
    save_model(model, weights, tmp_path, {"family": family})
    with pytest.raises(UserError, match="Missing key"):
        type(model).from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:500]), "damaged"),
        (lambda f: (f / "model.safetensors").unlink(), "no such file"),
        (lambda f: (f / "config.json").write_text("{"), "not valid JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "unknown architecture"),
        (lambda f: edit(f, architecture="UNet"), "unknown architecture 'UNet'"),
        (lambda f: edit(f, features=16), "does not fit"),
        (lambda f: edit(f, csfi_blocks=3), "does not fit"),
        (lambda f: edit(f, depth=3), "unknown keys depth"),
    ],
)
def test_broken_checkpoints_are_one_sentence(damage, message, tmp_path):
    model = small()
    save_model(model, model.state_dict(), tmp_path, {})
    damage(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        load_model(tmp_path)
    assert str(tmp_path) in str(error.value)


def edit(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
