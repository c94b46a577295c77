"""Tiled against whole: the network's own forward is the reference."""

import dataclasses

import numpy as np
import pytest
import torch
from devices import DEVICE
from hypothesis import given, settings
from hypothesis import strategies as st

from extracter.inference.tiling import budget, engine, search, textures, trust
from extracter.inference.tiling.network import Margins
from extracter.inference.tiling.windows import InsufficientMemoryError, Window, from_signed, to_signed
from extracter.models.extracter import Extracter
from extracter.models.ttsr import TTSR
from extracter.search import stm
from extracter.search.block_search import block_scores
from extracter.search.search import Matches
from extracter.search.search import search as search_whole
from extracter.search.stm import with_repeats

WIDTH = 16


def network(seed: int = 0, ttsr: bool = False, **changes):
    """Small, and with weights so large that every part of it matters in the result."""
    torch.manual_seed(seed)
    if ttsr:
        model = TTSR(features=8, dfe_width=WIDTH, blocks=changes.get("blocks", (1, 1, 1, 1)))
    else:
        blocks = {"ife_blocks": 1, "csfi_blocks": (1, 1, 1), "gde_blocks": (1, 1, 1)}
        model = Extracter(**{"features": 8, "dfe_width": WIDTH, **blocks, **changes})
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if not name.startswith("dfe") and weight.ndim == 4:
                weight.mul_(1.5)
    return model.eval().to(DEVICE)


def images(seed: int, lr: tuple[int, int], refs: list[tuple[int, int]], dtype=np.uint8) -> engine.Inputs:
    rng = np.random.default_rng(seed)

    def image(height: int, width: int) -> np.ndarray:
        return rng.integers(0, np.iinfo(dtype).max + 1, (height, width, 3)).astype(dtype)

    height, width = lr
    return engine.Inputs(
        image(height, width), image(4 * height, 4 * width), [image(*s) for s in refs], [image(*s) for s in refs]
    )


def whole(model, inputs: engine.Inputs, matches: Matches | None) -> torch.Tensor:
    """The network's own forward.

    Features of a tile and of the whole may differ in the last bit, and with them which of two keys of equal score wins.
    So the whole's search is held against the tiled one up to rounding, and the rest goes on from the tiled matches.
    """

    def compare(query, keys, u, config):
        own = search_whole(query, keys, u, config)
        if model.stm.repeats:
            torch.testing.assert_close(with_repeats(own).scores, matches.scores, atol=2e-6, rtol=0)
            return own
        assert own.keys == matches.keys
        real = own.scores != 0
        at_found = block_scores(query, keys, matches.indices, config.stride)
        torch.testing.assert_close(at_found[real], matches.scores[real], atol=2e-6, rtol=0)
        torch.testing.assert_close(own.scores[:, 0], matches.scores[:, 0], atol=2e-6, rtol=0)
        # In stage two a key that lost by rounding in stage one may be missing.
        near = (own.scores - matches.scores).abs() <= 2e-6
        assert near.float().mean() > 0.99
        assert (own.indices == matches.indices).float().mean() > 0.99
        return matches

    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(stm, "search", compare)
        return model(
            to_signed(inputs.lr).to(DEVICE),
            to_signed(inputs.lr_up).to(DEVICE),
            [to_signed(x).to(DEVICE) for x in inputs.refs],
            [to_signed(x).to(DEVICE) for x in inputs.refs_du],
        ).cpu()


def floating(inputs: engine.Inputs) -> engine.Inputs:
    """With LR in float32, so that the result is not rounded."""
    return dataclasses.replace(inputs, lr=from_signed(to_signed(inputs.lr), np.dtype(np.float32)))


def difference(model, inputs: engine.Inputs, memory: float, edge: int | None = None) -> float:
    """Largest difference of tiled and whole in units of [-1, 1]; tiles of `edge` cells instead of the budget's."""
    with pytest.MonkeyPatch.context() as patch:
        if edge is not None:
            patch.setattr(budget, "least_needed", lambda *_: 0)
            patch.setattr(budget, "plan_tiles", lambda n, area, stride, bytes_, slack: (area.split(edge, edge), bytes_))
        sr, matches = engine.super_resolve(model, floating(inputs), memory=memory)
    wanted = whole(model, inputs, matches)
    assert wanted.std() > 0.05
    return float((to_signed(sr) - wanted).abs().max())


sides = st.integers(1, 30)


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(sides, sides),
    st.lists(st.tuples(st.integers(1, 80), st.integers(1, 80)), min_size=1, max_size=2),
    st.sampled_from([3, 6, 12]),
    st.integers(1, 5),
    st.sampled_from([300e6, 60e6, 35e6]),
    st.sampled_from(["two_stage", "direct", "ttsr", "gate", "trust"]),
    st.booleans(),
)
def test_tiled_equals_whole(lr, refs, kernel, blocks, memory, kind, skip):
    if kind == "ttsr":
        model = network(ttsr=True, bicubic_skip=skip)
    elif kind in ("gate", "trust"):
        trust = {"trust": (0.45, 0.55), "idle": (0.2, 0.5, 0.8)} if kind == "trust" else {}
        model = network(align=True, gate=True, bicubic_skip=skip, **trust)
    else:
        model = network(strategy=kind, bicubic_skip=skip)
    model.search = dataclasses.replace(model.search, kernel=kernel, stride=kernel // 3, padding=kernel // 3)
    inputs = images(sum(lr), lr, refs)
    assert difference(model, inputs, memory, 4 * blocks) <= 1e-4


@settings(max_examples=10, deadline=None)
@given(st.tuples(sides, sides), st.sampled_from([3, 6]), st.integers(1, 5))
def test_without_a_reference_nothing_is_searched(lr, kernel, blocks):
    model = network(align=True, gate=True, trust=(0.45, 0.55), idle=(0.2, 0.5, 0.8))
    model.search = dataclasses.replace(model.search, kernel=kernel, stride=kernel // 3, padding=kernel // 3)
    model.dfe.register_forward_pre_hook(lambda *_: pytest.fail("features of no reference"))
    inputs = images(sum(lr), lr, [])
    assert difference(model, inputs, 300e6, 4 * blocks) <= 1e-4
    assert engine.super_resolve(model, inputs, memory=300e6)[1] is None


@pytest.mark.parametrize("ttsr", [False, True])
def test_tiles_far_from_the_edges_need_their_whole_margin(ttsr):
    model = network(ttsr=ttsr)
    inputs = images(1, (150, 90), [(60, 80)])
    assert difference(model, inputs, 300e6, 24) <= 1e-4


@pytest.mark.parametrize("field", ["inputs", "synthesised", "mixed", "entered", "lr"])
def test_smaller_margins_would_show(monkeypatch, field):
    """The test above can fail: with a third of one margin left, tiles differ from the whole."""
    real = Margins.of

    def smaller(model):
        margins = real(model)
        value = getattr(margins, field)
        if isinstance(value, int):
            cut = value // 3
        else:
            cut = tuple(tuple(n // 3 for n in v) if isinstance(v, tuple) else v // 3 for v in value)
        return dataclasses.replace(margins, **{field: cut})

    monkeypatch.setattr(engine.Margins, "of", smaller)
    model = network(csfi_blocks=(2, 2, 2), gde_blocks=(2, 2, 2))
    try:
        shown = difference(model, images(1, (150, 90), [(60, 80)]), 300e6, 24)
    except (RuntimeError, AssertionError):
        return  # maps that no longer cover one another
    assert shown > 1e-4


@pytest.mark.parametrize(("gradient", "compiled"), [("bytes", True), ("normalised", False)])
def test_networks_of_the_authors_structure(gradient, compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(textures, "list_sources", None)
    model = network(
        strategy="two_stage", gfe_blocks=2, gde_closing=False, gradient=gradient, constant_coverage=True, repeats=True
    )
    assert difference(model, images(1, (40, 26), [(60, 80)]), 300e6, 8) <= 1e-4
    ttsr = network(ttsr=True)
    ttsr.stm.constant_coverage = True
    assert difference(ttsr, images(1, (40, 26), [(60, 80)]), 300e6, 8) <= 1e-4


def test_paper_margins():
    """At the paper's block counts, in LR pixels: 9 blocks a level, 16, 8 and 4 in CSFI, 4 in IFE."""
    margins = Margins.of(Extracter())
    assert margins.inputs == (39, 17, 6)
    assert margins.entered == (33, 73, 51)
    assert margins.lr == 44
    assert Margins.of(TTSR()).inputs == ()


@pytest.mark.parametrize("kernel", [3, 6, 12])
@pytest.mark.parametrize("strategy", ["two_stage", "direct"])
def test_many_strips_and_tiles_of_the_search(monkeypatch, kernel, strategy):
    """Budgets so small that keys come in strips and queries in tiles."""
    monkeypatch.setattr(search, "bytes_at_once", lambda width: 0)
    monkeypatch.setattr(budget, "least_needed", lambda *_: 0)
    monkeypatch.setattr(budget, "plan_tiles", lambda needed, area, *_: ([area], 1e9))
    model = network(strategy=strategy)
    model.search = dataclasses.replace(model.search, kernel=kernel, stride=kernel // 3, padding=kernel // 3)
    steps = []
    inputs = floating(images(kernel, (60, 25), [(300, 90), (33, 50)]))
    sr, matches = engine.super_resolve(
        model, inputs, memory=kernel * 3.8e5, report=lambda phase, done, total: steps.append((phase, done, total))
    )
    found = [(done, total) for phase, done, total in steps if phase == "search"]
    assert found == [(n, len(found)) for n in range(1, len(found) + 1)]
    assert len(found) >= (12 if strategy == "two_stage" else 6)
    assert float((to_signed(sr) - whole(model, inputs, matches)).abs().max()) <= 1e-4


def test_features_that_do_not_fit_are_computed_again():
    model = network()
    inputs = images(3, (40, 40), [(300, 300)])
    for rest in (0.0, 1e6, 1e9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(budget, "plan_tiles", lambda n, area, *_, rest=rest: (area.split(16, 20), rest))
            sr, matches = engine.super_resolve(model, floating(inputs), memory=300e6)
        assert float((to_signed(sr) - whole(model, inputs, matches)).abs().max()) <= 1e-4


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_are_rounded_to_the_nearest(dtype):
    model = network()
    inputs = images(5, (12, 9), [(32, 28)], dtype)
    sr, matches = engine.super_resolve(model, inputs, memory=300e6)
    wanted = (whole(model, inputs, matches)[0].movedim(0, -1).double().numpy() + 1) / 2 * np.iinfo(dtype).max
    assert sr.dtype == dtype
    assert np.abs(sr - wanted).max() <= 0.51 + (dtype is np.uint16) * 0.05


def test_reduced_precision_stays_near():
    model = network()
    inputs = floating(images(5, (12, 9), [(32, 28)]))
    full, _ = engine.super_resolve(model, inputs, memory=300e6)
    half, _ = engine.super_resolve(model, inputs, memory=300e6, precision=torch.bfloat16)
    assert 0 < np.abs(full - half).mean() < 0.02


def test_too_little_memory_says_how_much_is_wanted():
    model = network()
    inputs = images(5, (40, 40), [(160, 160)])
    with pytest.raises(InsufficientMemoryError, match=r"MiB are needed besides") as error:
        engine.super_resolve(model, inputs, memory=10e6)
    engine.super_resolve(model, inputs, memory=error.value.needed)
    with pytest.raises(InsufficientMemoryError):
        engine.super_resolve(model, inputs, memory=error.value.needed - 1)
    with pytest.raises(InsufficientMemoryError):
        budget.plan_tiles(lambda height, width: 1e6 + 100 * height * width, Window(0, 400, 0, 400), 1, 1.3e6)


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([1, 2, 4]), st.floats(2e3, 1e6))
def test_tiles_fit_the_memory_and_no_square_ones_are_less_work(rows, columns, stride, memory):
    def needed(height, width):
        return 10.0 * (height + 8) * (width + 8)

    area = Window(0, stride * rows, 0, stride * columns)
    if needed(stride, stride) > 0.75 * memory:
        with pytest.raises(InsufficientMemoryError):
            budget.plan_tiles(needed, area, stride, memory)
        return
    tiles, rest = budget.plan_tiles(needed, area, stride, memory)
    largest = max(needed(tile.height, tile.width) for tile in tiles)
    assert largest <= 0.75 * memory
    assert rest == pytest.approx(0.75 * (memory - largest))
    seen = np.zeros((area.height, area.width), int)
    for tile in tiles:
        assert tile.top % stride == tile.left % stride == 0
        seen[tile.slices] += 1
    assert (seen == 1).all()
    work = len(tiles) * largest
    for edge in range(stride, 60, stride):
        if needed(edge, edge) <= 0.75 * memory:
            assert work <= len(area.split(edge, edge)) * needed(edge, edge) + 1e-6


def test_windows_cover_without_overlap():
    area = Window(0, 13, 0, 9)
    seen = np.zeros((13, 9), int)
    for window in area.split(4, 5):
        seen[window.top : window.bottom, window.left : window.right] += 1
    assert (seen == 1).all()
    assert Window(4, 8, 4, 8).grow(3, area, 2) == Window(0, 12, 0, 9)


def test_without_gde():
    model = network(gde_blocks=())
    assert model.gde is None
    inputs = floating(images(1, (9, 14), [(24, 40)]))
    sr, matches = engine.super_resolve(model, inputs, memory=2**27)
    assert float((to_signed(sr) - whole(model, inputs, matches)).abs().max()) <= 1e-4


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(("kernel", "gate"), [(3, True), (6, False)])
def test_alignment_and_gate_in_tiles_and_strips(kernel, gate, compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(textures, "list_sources", None)
    monkeypatch.setattr(trust, "_AT_ONCE", 40)  # strips of a row or two
    monkeypatch.setattr(textures, "_AT_ONCE", 2**12)
    bounds = {"trust": (0.45, 0.55), "idle": (0.2, 0.5, 0.8)} if gate else {}
    model = network(align=True, gate=gate, kernel=kernel, stride=kernel // 3, padding=kernel // 3, **bounds)
    inputs = images(3, (26, 21), [(60, 52), (340, 36)])
    assert difference(model, inputs, 300e6, edge=6 * (kernel // 3)) < 1e-4
