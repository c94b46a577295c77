"""Which parameters reach which job."""

import json

import pytest
from preset_keys import all_keys

from extracter import params, projection
from extracter.errors import UserError
from extracter.families import FAMILIES
from extracter.presets import Preset


@pytest.fixture(scope="module")
def preset() -> Preset:
    return params.read("params.yaml").presets["demo"]


def test_every_key_reaches_a_job_or_changes_no_result(preset):
    sets = list(preset.data.tests)
    used = {
        *projection.kernel_keys(),
        *projection.match_keys(),
        "systems",
        "evaluation.kernels",
        "evaluation.kernel_sets",
        "evaluation.level_sets",
    }  # which jobs there are
    for name in ("train", *sets):
        used |= {*projection.download_keys(name), *projection.prepare_keys(name)}
    for family in FAMILIES:
        for phase in projection.PHASES:
            used |= set(projection.train_keys(family, phase))
    for variant in ("bicubic", "released", "extracter-rec", *FAMILIES):
        used |= set(projection.evaluate_keys(variant))
        assert set(projection.level_keys(variant)) < set(projection.evaluate_keys(variant))
    assert set(all_keys(preset)) - used == {
        "data.mirror",
        "train.checkpoint_every",
        "train.devices",
        "train.nodes",
        "evaluation.parts",
    }
    assert used <= set(all_keys(preset))


@pytest.mark.parametrize(
    ("key", "jobs"),
    [
        ("train.full_steps", {"ttsr full", "extracter full"}),
        ("train.critic_lr", {"ttsr full", "extracter full"}),
        ("loss.adv", {"extracter full"}),  # TTSR has losses of its own
        ("model.ttsr_blocks", {"ttsr rec", "ttsr full"}),
        ("search.kernel", {"extracter rec", "extracter full"}),
        ("train.lr", {"ttsr rec", "ttsr full", "extracter rec", "extracter full"}),
        ("train.checkpoint_every", set()),
    ],
)
def test_what_a_key_trains_again(key, jobs):
    trained = [(family, phase) for family in ("ttsr", "extracter") for phase in projection.PHASES]
    assert {f"{f} {p}" for f, p in trained if key in projection.train_keys(f, p)} == jobs


def test_bicubic_and_the_released_network_depend_on_no_training():
    assert projection.evaluate_keys("bicubic") == ("evaluation.border", "evaluation.padding", "evaluation.protocol")
    assert not {key for key in projection.evaluate_keys("released") if key.startswith(("model.", "seed", "train."))}
    assert "model.csfi_blocks" in projection.evaluate_keys("extracter-rec")


def test_what_is_measured_of_levels_depends_on_the_network_alone():
    assert projection.level_keys("released") == ("evaluation.precision", "search.memory")
    measured = {*projection.network_keys("ttsr"), "evaluation.precision", "search.memory"}
    assert set(projection.level_keys("ttsr-rec")) == measured


def test_only_what_was_loaded_can_be_read(preset):
    keys = projection.train_keys("ttsr", "rec")
    text = params.dump_blocks(preset, *keys)
    assert sorted(json.loads(text)) == sorted(keys)
    blocks = params.load_keys(text, None, *keys)
    assert blocks.train.lr == preset.train.lr
    assert blocks.model.model_dump() == {key: getattr(preset.model, key) for key in blocks.model.model_dump()}
    with pytest.raises(AttributeError, match="critic_lr"):
        blocks.train.critic_lr  # noqa: B018
    picked = projection.pick(keys, model=preset.model, search=preset.search, loss=preset.loss, train=preset.train)
    assert picked["search"] == {"memory": preset.search.memory}
    with pytest.raises(UserError, match=r"train\.lr.*not a number"):
        params.load_keys(text.replace("0.0005", '"5e-4"'), None, *keys)


def test_a_set_of_the_user_counts_for_its_set_alone(preset):
    data = preset.data.model_copy(update={"local": {"set14": "mine.zip"}})
    supplied = preset.model_copy(update={"data": data})
    for name, path in (("set14", "mine.zip"), ("sun80", None)):
        text = params.dump_blocks(supplied, *projection.download_keys(name))
        assert ("mine.zip" in text) == (path is not None)
        assert params.load_keys(text, None, *projection.download_keys(name)).data.local.get(name) == path


def test_a_set_that_is_not_there_is_one_sentence(preset):
    with pytest.raises(UserError, match=r"`data\.tests\.set15\.source`: the preset has no 'set15' there, only .*set14"):
        params.dump_blocks(preset, *projection.download_keys("set15"))
