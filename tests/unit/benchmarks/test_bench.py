"""The benchmark measures what it says; no assertion here depends on speed."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from extracter import params
from extracter.benchmarks import bench_worker
from extracter.benchmarks.bench import bench
from extracter.benchmarks.bench_train import NAMES, PARTS, bench_train
from extracter.benchmarks.figure import figure_bench
from extracter.benchmarks.naive_search import UnfoldSearchTransfer
from extracter.benchmarks.system_search import bench_systems, make_search
from extracter.errors import UserError
from extracter.search.search import SearchConfig
from extracter.search.stm import SearchTransfer


def measure(tmp_path, **changes) -> list[dict]:
    arguments = {"sizes": [64], "kernels": [6], "methods": ["blocks"], "repeats": 2, "device": "cpu", **changes}
    parts, out = arguments.pop("parts", ["search"]), tmp_path / "bench.csv"
    bench(parts, arguments.pop("sizes"), arguments.pop("kernels"), arguments.pop("methods"), out, **arguments)
    with out.open() as file:
        return list(csv.DictReader(file))


def test_each_cell_has_a_row_and_the_figure_shows_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # a narrow table is cut off
    rows = measure(tmp_path, sizes=[64], methods=["unfold", "dense", "blocks"], parts=["search", "transfer"])
    cells = [(row["part"], row["size"], row["method"]) for row in rows]
    assert cells == [(p, "64", m) for p in ("search", "transfer") for m in ("unfold", "dense", "blocks")]
    assert all(row["result"] == "measured" and float(row["seconds"]) > 0 and row["runs"] == "2" for row in rows)
    # 64 queries and keys of 9216 and of 1024 numbers: a ninth of the arithmetic, give or take the queries completed.
    counted = [float(row["gflops"]) * float(row["seconds"]) for row in rows if row["part"] == "search"]
    assert counted[1] == pytest.approx(2 * 64**2 * 9216 / 1e9, rel=0.3)
    assert counted[0] == pytest.approx(2 * counted[1], rel=0.1)
    assert counted[2] < 0.5 * counted[1]
    assert "transfer" in capsys.readouterr().out
    figure_bench(tmp_path / "bench.csv", tmp_path / "bench.png", "transfer")
    assert len(np.unique(np.asarray(Image.open(tmp_path / "bench.png").convert("RGB")).reshape(-1, 3), axis=0)) > 10


@pytest.mark.parametrize("strategy", ["two_stage", "direct"])
def test_unfold_is_the_same_method(strategy):
    torch.manual_seed(0)
    config = SearchConfig(strategy=strategy)
    query, key = torch.rand(1, 8, 12, 10), torch.rand(1, 8, 12, 14)
    values = [torch.rand(1, 3, scale * 12, scale * 14) for scale in (4, 2, 1)]
    naive = UnfoldSearchTransfer(3, config)(query, [key], [values])
    ours = SearchTransfer(3, config, repeats=strategy == "two_stage")(query, [key], [values])
    assert torch.equal(naive[0].indices, ours[0].indices)
    for a, b in [(naive[0].scores, ours[0].scores)] + [
        pair for levels in zip(naive[1], ours[1], strict=True) for pair in zip(*levels, strict=True)
    ]:
        assert torch.allclose(a, b, atol=1e-5)


def test_what_does_not_fit_or_takes_too_long_says_so(tmp_path):
    (row,) = measure(tmp_path, methods=["dense"], sizes=[512], kernels=[3], budget_gib=0.25)
    assert (row["result"], row["seconds"]) == ("out of memory", "")
    (row,) = measure(tmp_path, methods=["chunked"], sizes=[4096], kernels=[3], limit=60)
    assert row["result"].startswith("left out: about ")


def test_the_whole_network_in_both_precisions(tmp_path):
    rows = measure(tmp_path, parts=["forward"], precisions=["32-true", "bf16-mixed"], repeats=1)
    assert [row["precision"] for row in rows] == ["32-true", "bf16-mixed"]
    assert all(row["result"] == "measured" for row in rows)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kernels": [5]}, "--kernel 5: .* allowed are 3, 6, 9"),
        ({"sizes": [8]}, "--size 8: the minimum is 32 pixels"),
        ({"precisions": ["fp8"]}, "--precision fp8: allowed are 32-true, bf16-mixed"),
        ({"methods": ["annoy"]}, "--method annoy: allowed are unfold, dense, chunked, blocks"),
    ],
)
def test_wrong_arguments_are_one_sentence(tmp_path, changes, said):
    with pytest.raises(UserError, match=said):
        measure(tmp_path, **changes)


def test_tables_of_another_kind_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        figure_bench(tmp_path / "none.csv", tmp_path / "x.png")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"other.csv: has no column `kernel`, `method`, .*; `extracter bench search`"):
        figure_bench(tmp_path / "other.csv", tmp_path / "x.png")
    (tmp_path / "other.csv").write_text(
        "part,result,method,kernel,size,seconds,peak_memory_mib\nforward,measured,blocks,6,64,1,1\n"
    )
    with pytest.raises(UserError, match="has no measurement of `search`"):
        figure_bench(tmp_path / "other.csv", tmp_path / "x.png")


def test_memory_of_results_is_counted():
    import torch

    assert bench_worker.bytes_of((torch.zeros(3), [torch.zeros(2, dtype=torch.long)], 7)) == 28


@pytest.mark.parametrize("full", [False, True])
def test_training_in_both_settings_has_the_same_losses(tiny_preset, tiny_pairs, tmp_path, full):
    fast = tiny_preset.model_copy(
        update={"train": tiny_preset.train.model_copy(update={"channels_last": True, "lr": 1e-3})}
    )
    blocks = params.dump_blocks(fast, *NAMES)
    out = tmp_path / "train.csv"
    bench_train(tiny_pairs, blocks, out, full=full, steps=2 if full else 47, device="cpu")
    with out.open() as file:
        reference, preset = csv.DictReader(file)
    assert (reference["setting"], preset["setting"]) == ("reference", "preset")
    for row in (reference, preset):
        assert float(row["images_per_second"]) > 0
        assert sum(float(row[f"share_{part}"]) for part in PARTS) == pytest.approx(1, abs=1e-3)
        assert all(float(row[f"share_{part}"]) > 0 for part in PARTS)
    assert reference["first_loss"] != reference["last_loss"]
    for key in ("first_loss", "last_loss"):
        assert float(preset[key]) == pytest.approx(float(reference[key]), abs=1e-4)


def test_the_search_of_each_system(tmp_path):
    out = tmp_path / "systems.csv"
    bench_systems(["ssen", "masa", "c2"], 64, out, device="cpu")
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["system"] for row in rows] == ["MASA", "C2-Matching"]  # SSEN has none
    assert all(float(row["seconds"]) > 0 and float(row["peak_memory_mib"]) >= 0 for row in rows)
    with pytest.raises(UserError, match="--system vgg: allowed are srntt, ttsr"):
        bench_systems(["vgg"], 64, out, device="cpu")
    assert make_search("ttsr", 64, torch.device("cpu"))().keys == 256


def test_patches_without_padding_are_not_laid_out(tmp_path):
    """C2-Matching's patches of 384 pixels take 78 MiB for each of the two images, when they are laid out."""
    out = tmp_path / "systems.csv"
    bench_systems(["c2"], 384, out, device="cpu")
    with out.open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["peak_memory_mib"]) < 78
