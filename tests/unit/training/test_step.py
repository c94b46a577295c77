"""One training step: nothing that a GPU would be waited for, precision where it is due, and float16's scale."""

from types import SimpleNamespace

import pytest
import torch
from dispatched import count_dispatched
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.plugins.precision import MixedPrecision
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from extracter.data.datasets import TrainingPairs
from extracter.image_tensors import to_signed
from extracter.models.checkpoint import build_model
from extracter.search import correlation, transfer
from extracter.search import search as search_module
from extracter.training import step
from extracter.training.distributed import launch
from extracter.training.objective import losses_of
from extracter.training.step import Learner

CPU = torch.device("cpu")


def make_learner(preset, pairs: TrainingPairs, fabric: Fabric, *, phase: str = "full", **changes) -> Learner:
    params = preset.train.model_copy(update=changes)
    torch.manual_seed(0)
    network = build_model("extracter", preset.model, preset.search)
    network.initialise("random", 0)
    terms = losses_of("extracter", phase, preset.loss)
    size = pairs.size if phase == "full" else None
    return Learner(fabric, network, preset.model, terms, params, steps=9, seed=1, size=size)


def test_a_step_waits_for_nothing(tiny_preset, tiny_pairs, monkeypatch):
    monkeypatch.setattr(correlation, "merge_row", None)
    monkeypatch.setattr(transfer, "gather_row", None)
    monkeypatch.setattr(search_module, "_on_cpu", lambda x: False)
    # Adam reads its step counter, which is on the CPU whatever the device.
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self, closure=None: None)
    pairs = TrainingPairs(tiny_pairs)
    learner = make_learner(tiny_preset, pairs, launch(CPU, 1, 1, "32-true"), clip=1.0, ema=0.9)
    batch = pairs.batch(0, tiny_preset.train, 1)
    assert all(images.dtype == torch.uint8 for images in batch.values())
    learner.step(0, batch)
    counts = count_dispatched(lambda: learner.step(1, batch))
    # The average's counter is read, which is on the CPU, whatever the device.
    assert counts.waits == 1
    assert learner.average.n_averaged.device == CPU
    assert counts.launches > 500


def test_the_average_of_the_weights(tiny_preset, tiny_pairs):
    """As PyTorch's own moving average with the decay of each step."""
    pairs = TrainingPairs(tiny_pairs)
    learner = make_learner(tiny_preset, pairs, launch(CPU, 1, 1, "32-true"), phase="rec", ema=0.5)
    wanted = AveragedModel(learner.network)
    for number in range(4):
        learner.step(number, pairs.batch(number, tiny_preset.train, 1))
        wanted.multi_avg_fn = get_ema_multi_avg_fn(min(0.5, (1 + number) / (10 + number)))
        wanted.update_parameters(learner.network)
    assert learner.average.n_averaged == 4
    for found, right in zip(learner.average.parameters(), wanted.parameters(), strict=True):
        assert torch.equal(found, right)


def test_the_first_pairs_go_without_their_references(gated_preset, tiny_pairs):
    pairs = TrainingPairs(tiny_pairs)
    batch = pairs.batch(0, gated_preset.train.model_copy(update={"batch": 4}), 1)
    learner = make_learner(
        gated_preset, pairs, launch(CPU, 1, 1, "32-true"), phase="rec", batch=4, without_reference=0.75, gate_lr=0.0
    )
    torch.nn.init.normal_(learner.network.tail[-1].weight, std=0.1)  # which begins at bicubic, whatever the reference
    lr, up, ref, du, hr = (to_signed(batch[key]) for key in ("lr", "lr_up", "ref", "ref_du", "hr"))
    gate = {name: weight.clone() for name, weight in learner.network.gate.named_parameters()}
    with torch.no_grad():
        learner.network.eval()
        sr = [learner.network(lr[:3], up[:3], [], []), learner.network(lr[3:], up[3:], ref[3:], du[3:])]
        of_all = learner.network(lr, up, ref, du)
        learner.network.train()
    assert (sr[0] - of_all[:3]).abs().max() > 1e-4, "references make a difference"
    # `trust` holds while the gate is frozen, so that the network in training and in use are the same.
    assert learner.step(0, batch)["rec"].item() == pytest.approx((torch.cat(sr) - hr).abs().mean().item(), rel=1e-5)
    assert all(torch.equal(gate[name], weight) for name, weight in learner.network.gate.named_parameters())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_first_loss_is_that_of_bicubic_in_every_precision(tiny_preset, tiny_pairs, precision):
    """Images and the bicubic skip are not rounded: a network that starts at bicubic has exactly its loss."""
    pairs = TrainingPairs(tiny_pairs)
    batch = pairs.batch(0, tiny_preset.train, 1)
    fabric = launch(CPU, 1, 1, precision)
    learner = make_learner(tiny_preset, pairs, fabric)
    measured = learner.step(0, batch)
    bicubic = (to_signed(batch["lr_up"]) - to_signed(batch["hr"])).abs().mean()
    assert measured["rec"] == bicubic
    assert all(value.dtype == torch.float32 for value in measured.values())


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_float16_survives_overflow_and_resumes_with_its_scale(device, tiny_preset, tiny_pairs, monkeypatch):
    """With the optimiser of either device."""
    chosen = step._fused
    monkeypatch.setattr(
        step, "_fused", lambda fabric: chosen(SimpleNamespace(device=torch.device(device), strategy=fabric.strategy))
    )
    pairs = TrainingPairs(tiny_pairs)
    batch = pairs.batch(0, tiny_preset.train, 1)

    def start() -> Learner:
        # The scale is far too large at first, as 65,536 may be: gradients are infinite and the step is left out.
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120)
        precision = MixedPrecision("16-mixed", device="cpu", scaler=scaler)
        fabric = Fabric(accelerator="cpu", devices=1, plugins=[precision, LightningEnvironment()])
        return make_learner(tiny_preset, pairs, fabric, phase="rec", clip=1.0)

    learner = start()
    before = {name: value.clone() for name, value in learner.network.state_dict().items()}
    learner.step(0, batch)
    assert all(torch.equal(before[name], value) for name, value in learner.network.state_dict().items())
    state = learner.parts["precision"].state_dict()
    assert state["scale"] == 2.0**119
    again = start()
    again.parts["precision"].load_state_dict(state)
    again.step(0, batch)
    assert again.parts["precision"].state_dict()["scale"] == 2.0**118
