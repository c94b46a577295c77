"""The other systems of Table 1: parameter counts, sizes, references, and the parts that have a value of their own."""

import pytest
import torch
from torch.nn import functional as F

from extracter.models.c2_matching import AMSA, C2Matching
from extracter.models.datsr import DATSR, Found, displace
from extracter.models.dpfsr import DPFSR, ChannelAttentionExtractor, DualProjection
from extracter.models.masa import MASA, SpatialAdaptation
from extracter.models.masa_match import double, warp
from extracter.models.matcher import Matcher, correspondences, pre_offsets
from extracter.models.refsr import count_parameters
from extracter.models.srntt import SRNTT, ContentExtractor
from extracter.models.ssen import SSEN, NonLocal, OffsetEstimator, fit
from extracter.search.search import SearchConfig

TINY = {
    "DPFSR": lambda: DPFSR(8, 4, (2, 1, 1, 1)),
    "SRNTT": lambda: SRNTT(8, 4, 4),
    "SSEN": lambda: SSEN(8, (1, 1)),
    "C2Matching": lambda: C2Matching(8, 4, 1),
    "AMSA": lambda: AMSA(8, 4, 1, sizes=(1.0, 0.5)),
    "MASA": lambda: MASA(8, (1, 1, 1, 1, 1)),
    "DATSR": lambda: DATSR(4, 4, 8),  # with a shifted window in each group
}


def tiny(name):
    torch.manual_seed(0)
    network = TINY[name]().eval()
    network.initialise("random", 0)
    with torch.no_grad():  # those that begin with zeros would hide what lies before them
        for module in network.modules():
            for parameter in module.parameters(recurse=False):
                if not parameter.any():
                    parameter.normal_(0, 0.05)
    return network


def images(height, width, *sizes, batch=1, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def image(h, w):
        smooth = torch.rand(batch, 3, h // 4 + 2, w // 4 + 2, generator=generator)
        return F.interpolate(smooth, (h, w), mode="bicubic").clamp(0, 1) * 2 - 1

    refs = [image(*size) for size in sizes]
    return image(height, width), image(4 * height, 4 * width), refs, refs


def test_parameter_counts_at_the_published_sizes():
    with torch.device("meta"):
        assert count_parameters(DPFSR()) == 6_907_459
        assert count_parameters(ChannelAttentionExtractor(64, 16)) == 1_262_528
        assert [count_parameters(DualProjection(64, c)) for c in (256, 128, 64)] == [229_632, 155_904, 119_040]
        srntt = SRNTT()
        assert count_parameters(srntt.dfe) == 555_328
        assert count_parameters(srntt.content) == 1_222_528
        assert count_parameters(srntt) - count_parameters(srntt.dfe) - count_parameters(srntt.content) == 2_865_347
        assert count_parameters(SSEN()) == 3_178_905
        assert count_parameters(OffsetEstimator(64)) == 378_098
        c2 = C2Matching()
        frozen = count_parameters(c2.dfe) + count_parameters(c2.matcher)
        assert frozen == 3 * 555_328
        assert count_parameters(c2) - frozen == 8_865_547
        assert count_parameters(c2.content) == 1_183_488
        assert count_parameters(AMSA()) - frozen == 9_749_084
        datsr = DATSR()
        assert count_parameters(datsr) - frozen == 18_026_971
        assert count_parameters(datsr.content) == 2_364_928
        assert [count_parameters(level.body) for level in datsr.levels] == [1_362_720] * 5
        masa = MASA()
        assert count_parameters(masa.encoder) == 961_920
        assert count_parameters(masa) == 4_028_291


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize(("height", "width", "refs"), [
    (1, 1, [(4, 4)]),
    (5, 7, [(16, 60)]),
    (9, 8, [(8, 8), (40, 44)]),
    (16, 16, [(64, 64)]),
])  # fmt: skip
def test_any_size_and_any_reference(name, height, width, refs):
    network = tiny(name)
    inputs = images(height, width, *refs)
    with torch.inference_mode():
        sr = network(*inputs)
    assert sr.shape == (1, 3, 4 * height, 4 * width)
    assert sr.isfinite().all()
    assert sr.abs().max() <= 1


def test_ssen_does_not_hold_the_scores_of_all_positions():
    """They are quadratic in pixels. PyTorch's fused attention takes some layouts of its inputs alone."""
    block, x = NonLocal(8), torch.rand(2, 8, 24, 20)
    with torch.no_grad():
        block.out.weight.normal_()
        with torch.profiler.profile() as profile:
            found = block(x)
        query, key, value = (conv(x).flatten(2) for conv in (block.theta, block.phi, block.g))
        wanted = x + block.out((value @ (query.mT @ key).softmax(2).mT).unflatten(2, (24, 20)))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert "aten::_scaled_dot_product_attention_math" not in {event.key for event in profile.key_averages()}


def test_offsets_are_trained_at_the_published_rates():
    """As shares: 0.01 where offsets are largest, at the small level, and 0.1 at the medium one."""
    for name, small, medium in (("C2Matching", [0], [1]), ("AMSA", [0], [1]), ("DATSR", [2], [1, 3])):
        network = tiny(name)
        offsets = {weight for weight, _ in network.named_parameters() if "offsets" in weight}
        for start, share in network.rates.items():
            covered = {weight for weight in offsets if weight.startswith(start)}
            assert covered, start
            assert share == (0.01 if int(start.split(".")[1]) in small else 0.1)
            offsets -= covered
        assert {int(weight.split(".")[1]) for weight in offsets}.isdisjoint({*small, *medium}), name


@pytest.mark.parametrize("name", TINY)
def test_batch_equals_one_by_one(name):
    network = tiny(name)
    lr, lr_up, refs, _ = images(16, 8, (64, 40), batch=2)
    with torch.inference_mode():
        whole = network(lr, lr_up, refs, refs)
        single = [network(*(x[i : i + 1] for x in (lr, lr_up, refs[0], refs[0]))) for i in range(2)]
    torch.testing.assert_close(whole, torch.cat(single), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", TINY)
def test_a_copy_of_a_reference_changes_nothing_and_another_reference_does(name):
    network = tiny(name)
    lr, lr_up, refs, _ = images(16, 16, (48, 64), (64, 64))
    with torch.inference_mode():
        one = network(lr, lr_up, refs[:1], refs[:1])
        two = network(lr, lr_up, [refs[0], refs[0].clone()], [refs[0], refs[0].clone()])
        other = network(lr, lr_up, refs[1:], refs[1:])
    torch.testing.assert_close(two, one, atol=1e-5, rtol=1e-5)
    assert (other - one).abs().max() > 1e-5


@pytest.mark.parametrize("name", TINY)
def test_gradient_reaches_every_weight_that_is_trained_and_two_runs_agree_to_the_bit(name):
    torch.use_deterministic_algorithms(True)
    gradients = []
    for _ in range(2):
        network = tiny(name).train()
        lr, lr_up, refs, refs_du = images(16, 16, (64, 64), (48, 48), batch=2)
        network(lr, lr_up, refs, refs_du).square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in network.named_parameters()})
    for parameter, gradient in gradients[0].items():
        frozen = parameter.startswith(network.frozen) if network.frozen else False
        assert (gradient is None) == frozen, parameter
        assert frozen or gradient.any(), parameter
        assert frozen or torch.equal(gradient, gradients[1][parameter])


def test_dual_projection_is_its_formula():
    torch.manual_seed(0)
    part = DualProjection(4, 6)
    x, texture, soft = torch.rand(1, 4, 5, 5), torch.rand(1, 6, 5, 5), torch.rand(1, 1, 5, 5)
    narrow = part.narrow(texture)
    filled = x + part.to_feature(narrow - x)
    other = narrow + part.to_texture(x - narrow)
    wanted = x + part.merge(torch.cat((filled, other), 1)) * soft
    torch.testing.assert_close(part(x, [texture], [soft]), wanted)


def test_fit_takes_the_middle_or_surrounds_with_zeros():
    image = torch.arange(1.0, 13).view(1, 1, 3, 4)
    assert torch.equal(fit(image, (1, 2)), image[..., 1:2, 1:3])
    around = fit(image, (5, 8))
    assert torch.equal(around[..., 1:4, 2:6], image)
    assert around.sum() == image.sum()


def test_srntt_batch_norm_learns_statistics_and_keeps_them_in_evaluation():
    network = SRNTT(8, 4, 4).train()
    before = network.content.stage[-1].running_mean.clone()
    inputs = images(8, 8, (32, 32), batch=2)
    network(*inputs)
    assert not torch.equal(network.content.stage[-1].running_mean, before)
    network.eval()
    with torch.no_grad():
        assert torch.equal(network(*inputs), network(*inputs))
    assert isinstance(network.content, ContentExtractor)


def test_pre_offsets_are_the_votes_of_the_patches_that_cover_a_pixel():
    generator = torch.Generator().manual_seed(0)
    flow = torch.randint(-5, 6, (1, 2, 4, 3), generator=generator).float()
    height, width = 6, 5
    for scale, taps in zip((1, 2, 4), pre_offsets(flow), strict=True):
        assert taps.shape == (1, 18, scale * height, scale * width)
        for i in range(3):
            for j in range(3):
                for y in range(scale * height):
                    for x in range(scale * width):
                        row, column = y // scale - i, x // scale - j
                        inside = 0 <= row < 4 and 0 <= column < 3
                        vote = scale * flow[0, :, row, column] if inside else torch.zeros(2)
                        tap = 2 * (3 * i + j)
                        assert torch.equal(taps[0, tap : tap + 2, y, x], vote)


def test_correspondences_find_a_shifted_copy():
    generator = torch.Generator().manual_seed(0)
    key = torch.randn(1, 8, 9, 11, generator=generator)
    query = key[:, :, 2:8, 3:10]
    flow, scores = correspondences(query, key, SearchConfig(3, 1, 0, "direct"))
    assert torch.equal(flow, torch.tensor([2.0, 3.0]).view(1, 2, 1, 1).expand_as(flow))
    torch.testing.assert_close(scores, torch.ones_like(scores))


def test_displace_by_loops():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 5, 7, generator=generator)
    flow = torch.randint(-4, 5, (2, 2, 4, 6), generator=generator).float()
    found = displace(x, flow)
    for n in range(2):
        for row in range(4):
            for column in range(6):
                y, across = row + int(flow[n, 0, row, column]), column + int(flow[n, 1, row, column])
                inside = 0 <= y < 5 and 0 <= across < 7
                wanted = x[n, :, y, across] if inside else torch.zeros(3)
                assert torch.equal(found[n, :, row, column], wanted)


def test_datsr_finds_a_shifted_copy_at_every_level():
    generator = torch.Generator().manual_seed(0)
    values = [torch.rand(1, 2, 4 * 9, 4 * 9, generator=generator), torch.rand(1, 2, 18, 18, generator=generator)]
    values.append(torch.rand(1, 2, 9, 9, generator=generator))
    flow = torch.tensor([2.0, 1.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4)
    found = Found(values, flow, torch.full((1, 1, 4, 4), 0.5))
    for level, scale in enumerate((4, 2, 1)):
        inside = found.warped[level][..., : 4 * scale, : 4 * scale]
        moved = values[level][..., 2 * scale : 6 * scale, scale : 5 * scale]
        assert torch.equal(inside, moved)
        assert found.similarities[level][..., 0].max() == 0  # the frame has no patch
        assert found.similarities[level][..., scale:-scale, scale:-scale].min() == 0.5
    assert found.scores.min() == 0.5


def test_c2_at_its_first_weights_gathers_at_the_matches():
    torch.manual_seed(0)
    network = C2Matching(8, 4, 1)
    level = network.levels[0]
    values = torch.rand(1, 16, 9, 11)
    with torch.no_grad():
        level.aggregate.weight.zero_()
        for channel in range(16):  # the middle tap copies; the mask halves
            level.aggregate.weight[channel, channel, 1, 1] = 2
    flow = torch.tensor([2.0, 3.0]).view(1, 2, 1, 1).expand(1, 2, 4, 5)
    (offset, *_) = pre_offsets(flow)
    taken = []
    level.head.register_forward_pre_hook(lambda module, args: taken.append(args[0][:, 8:]))
    level(torch.rand(1, 8, 6, 7), values, offset)
    # The middle tap has the vote of the patch that began one pixel before; the last two rows and columns have none.
    torch.testing.assert_close(taken[0][..., 1:5, 1:6], values[..., 3:7, 4:9])


def test_matchers_see_what_their_networks_compute():
    matcher = Matcher(4)
    image = torch.rand(1, 3, 16, 16) * 2 - 1
    query, key = matcher(image, image)
    torch.testing.assert_close(query.norm(dim=1), torch.ones(1, 4, 4))
    assert not torch.equal(query, key)
    assert query.min() < 0  # before the ReLU


def test_spatial_adaptation_begins_with_the_statistics_of_lr():
    network = MASA(8, (1, 1, 1, 1, 1))
    lr, ref = torch.randn(2, 8, 6, 7) * 3 + 1, torch.randn(2, 8, 6, 7)
    result = network.adapt(lr, ref)
    torch.testing.assert_close(result.mean((2, 3)), lr.mean((2, 3)), atol=1e-4, rtol=1e-4)
    # The reference is divided by its deviation over all pixels, LR's is of a sample.
    torch.testing.assert_close(result.std((2, 3), correction=0), lr.std((2, 3)), atol=1e-3, rtol=1e-3)
    assert isinstance(network.adapt, SpatialAdaptation)


def test_masa_copies_a_reference_that_is_the_input():
    torch.manual_seed(0)
    query = torch.randn(1, 8, 16, 24)
    values = [torch.randn(1, 8, 4 * 16, 4 * 24), torch.randn(1, 8, 2 * 16, 2 * 24), query]
    _, textures = warp(query, query, values)
    # Patches that reach the margin, which repeats the edge, are found elsewhere, and so is what they cover.
    inside = (..., slice(2, 8), slice(2, 8))
    torch.testing.assert_close(textures[2][inside], query[inside], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(textures[0][..., 8:32, 8:32], values[0][..., 8:32, 8:32], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (7, 4)])
def test_double_is_bilinear(size):
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(double(x), F.interpolate(x, scale_factor=2, mode="bilinear"))
