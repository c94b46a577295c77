"""Tables from results that are written here."""

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from summaries import kernel, levels, summary, write

from extracter.errors import UserError
from extracter.families import FAMILIES
from extracter.models.ttsr import TTSR
from extracter.reporting.published import ELSEWHERE, SETS, TABLE1, TABLE2, TABLE3
from extracter.reporting.table_kernels import table_kernels
from extracter.reporting.table_metrics import best_two, table_metrics
from extracter.reporting.table_parameters import correlation_shape, table_parameters
from extracter.reporting.tables import collect_metrics, print_scores, read_kernels, show


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def markdown(path: Path) -> dict[tuple[str, ...], list[str]]:
    """Cells of a Markdown table, by the first two of a row."""
    lines = [line for line in path.read_text().splitlines() if line.startswith("|")]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert len({len(row) for row in table}) == 1
    return {tuple(row[:2]): row[2:] for row in table}


def test_reported_figures_are_in_table_1_with_the_papers_own_bold(tmp_path):
    table_metrics([], tmp_path / "t.csv")
    table = markdown(tmp_path / "t.md")
    assert table["Method", "Provenance"] == ["CUFED5", "Sun80", "Urban100", "Set14"]
    assert table["DPFSR-rec", "reported"][0] == "**27.25** / **0.808**"
    assert table["DPFSR-rec", "reported"][1:] == ["**30.10** / **0.815**", "**26.03** / **0.787**", "–"]
    assert table["Extracter-rec", "reported"][1] == "**30.02** / **0.816**"
    assert table["TTSR-rec", "reported"] == [
        "27.03 / 0.802",
        "**30.02** / 0.814",
        "25.88 / 0.784",
        "**28.10** / **0.782**",
    ]
    assert table["DPFSR", "reported"][1] == "28.59 / 0.774†"
    assert table["TTSR", "reported"][1] == "28.59 / 0.774"
    assert table["MASA-rec", "reported, its paper"][0] == "27.54 / 0.814"
    assert table["Extracter-rec", "measured"] == ["not available"] * 4
    # Each of the paper's methods twice, bicubic measured, and what others say.
    assert len(rows(tmp_path / "t.csv")) == 2 * len(TABLE1) + 1 + len(ELSEWHERE)
    protocol = {row["method"]: row["protocol"] for row in rows(tmp_path / "t.csv") if row["provenance"] == "reported"}
    assert all(protocol.values())
    assert protocol["C2-Matching-rec"] == "most similar reference; 4 px of the border cut"
    assert table["Extracter-rec", "reported, the authors' README"][0] == "27.43 / 0.813"


def test_stand_ins_are_named_and_never_compete_with_reported_figures(tmp_path):
    better = [
        summary(tmp_path, variant, "set14", 40 + place, 0.9 + place / 100)
        for place, variant in enumerate(("bicubic", "ttsr", "extracter-rec"))
    ]
    table_metrics(better, tmp_path / "t.csv")
    text, table = (tmp_path / "t.md").read_text(), markdown(tmp_path / "t.md")
    assert "stand-in photographs and not comparable" in text
    assert table["Method", "Provenance"][3] == "Set14 (measured: stand-in, 3 images)"
    assert table["Bicubic", "measured"][3] == "40.00 / 0.900"
    assert table["Extracter-rec", "measured"][3] == "**42.00** / **0.920**"
    assert table["TTSR-rec", "reported"][3] == "**28.10** / **0.782**"
    record = next(row for row in rows(tmp_path / "t.csv") if (row["method"], row["provenance"]) == ("TTSR", "measured"))
    assert record["set14_psnr_y"] == "41.0000"
    assert record["set14_images"] == "stand-in, 3 images"
    assert record["sun80_images"] == "not available"


def test_the_protocol_of_each_measured_row_is_told(tmp_path):
    told = {"border": 4, "padding": "zeros", "several": "merged", "references": "pooled"}
    files = [summary(tmp_path, "c2-rec", "cufed5", 25, 0.8, **told), summary(tmp_path, "ttsr", "cufed5", 25, 0.8)]
    table_metrics([*files, summary(tmp_path, "ttsr", "set14", 25, 0.8, references="self")], tmp_path / "t.csv")
    protocol = {row["method"]: row["protocol"] for row in rows(tmp_path / "t.csv") if row["provenance"] == "measured"}
    assert protocol["C2-Matching-rec"] == (
        "CUFED5 pooled; several references: merged; 4 px of the border cut; padded by zeros"
    )
    assert protocol["TTSR"] == "CUFED5 own, Set14 self; no border cut"
    assert "without 4 pixels at each edge" in (tmp_path / "t.md").read_text()


def test_the_whole_published_set_competes_and_a_part_of_it_does_not(tmp_path):
    whole = summary(tmp_path, "extracter-rec", "set14", 29.0, 0.79, stand_in=False, images=14)
    part = summary(tmp_path, "extracter-rec", "urban100", 29.0, 0.79, stand_in=False, images=25)
    table_metrics([whole, part], tmp_path / "t.csv")
    text, table = (tmp_path / "t.md").read_text(), markdown(tmp_path / "t.md")
    assert table["Method", "Provenance"][2:] == ["Urban100 (measured: 25 of 100 images)", "Set14"]
    assert table["Extracter-rec", "measured"][2:] == ["**29.00** / **0.790**"] * 2
    assert table["Extracter-rec", "reported"][3] == "28.09 / **0.782**"
    assert table["TTSR-rec", "reported"][3] == "**28.10** / **0.782**"
    assert table["Extracter-rec", "reported"][2] == "**26.04** / **0.785**"
    assert "stand-in" not in text


def test_how_the_networks_differ_from_the_papers_is_said(tmp_path):
    told = summary(tmp_path, "ttsr", "set14", 20.0, 0.5, vgg_weights="random", bicubic_skip=True)
    table_metrics([told], tmp_path / "t.csv")
    assert "random weights instead of VGG19's" in (tmp_path / "t.md").read_text()
    assert "to the bicubic enlargement" in (tmp_path / "t.md").read_text()


@given(st.lists(st.tuples(st.integers(200, 210), st.integers(700, 705)), min_size=1, max_size=8))
def test_bold_are_those_with_fewer_than_two_better(scores):
    table = [(f"m{i}", "measured", "this run", {"s": (a / 10, b / 1000)}) for i, (a, b) in enumerate(scores)]
    marks = best_two(table, "s", apart=False)
    for metric in (0, 1):
        column = [pair[metric] for pair in scores]
        assert {row for row, of in marks if of == metric} == {
            row for row, value in enumerate(column) if sum(other > value for other in column) < 2
        }


def test_results_of_two_runs_are_refused(tmp_path):
    a = summary(tmp_path / "a", "ttsr", "set14", 20.0, 0.5)
    same = summary(tmp_path / "b", "ttsr", "set14", 20.0, 0.5)
    other = summary(tmp_path / "c", "bicubic", "set14", 20.0, 0.5, stand_in=False, images=14)
    for pair, says in (((a, same), "given twice"), ((a, other), "not of the same images of set14")):
        with pytest.raises(UserError, match=says):
            table_metrics(list(pair), tmp_path / "t.csv")
    twice = [kernel(tmp_path / folder, "sun80", 3, "dense") for folder in "ab"]
    with pytest.raises(UserError, match="given twice"):
        table_kernels(twice, tmp_path / "t.csv")
    assert not (tmp_path / "t.csv").exists()


def test_files_of_another_kind_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"x.json: `variant` is missing, so `extracter evaluate` did not write it"):
        table_metrics([write(tmp_path / "x.json", {"set": "sun80"})], tmp_path / "t.csv")
    with pytest.raises(UserError, match=r"none.json: no such file"):
        table_kernels([tmp_path / "none.json"], tmp_path / "t.csv")
    with pytest.raises(UserError, match=r"none.md: no such file"):
        show([tmp_path / "none.md"])


def test_table_3_says_out_of_memory_only_where_a_run_did(tmp_path):
    results = [
        kernel(tmp_path, "urban100", 12, "chunked"),
        kernel(tmp_path, "sun80", 3, "chunked"),
        kernel(tmp_path, "sun80", 3, "dense", fits=False),
        kernel(tmp_path, "sun80", 6, "dense"),
    ]
    table_kernels(results, tmp_path / "t.csv", timings=tmp_path / "timings", measured=tmp_path / "m.csv")
    lines = [line for line in (tmp_path / "m.md").read_text().splitlines() if line.startswith("| ")][2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells == [
        ["Sun80 (stand-in)", "3x3", "dense", "OFM", "> 1,024", "–", "OFM"],
        ["Sun80 (stand-in)", "3x3", "chunked", "25.50 / 0.750", "321", "0.50", "–"],
        ["Sun80 (stand-in)", "6x6", "dense", "25.50 / 0.750", "321", "0.50", "30.02 / 0.816"],
        ["Urban100 (stand-in)", "12x12", "chunked", "25.50 / 0.750", "321", "0.50", "–"],
    ]
    assert "fit into 1 GiB" in (tmp_path / "t.md").read_text()
    assert not any(
        word in (tmp_path / f"t.{kind}").read_text().lower()
        for word in ("memory (", "second")
        for kind in ("md", "csv")
    )
    (tmp_path / "timings/sun80_k6_dense.json").unlink()
    table_kernels(results, tmp_path / "t.csv", timings=tmp_path / "timings", measured=tmp_path / "m.csv")
    assert "| 25.50 / 0.750          | –                 | –                |" in (tmp_path / "m.md").read_text()
    assert [row["fits"] for row in rows(tmp_path / "t.csv")] == ["False", "True", "True", "True"]
    assert read_kernels(results)[0]["method"] == "dense"


def test_metrics_json_holds_numbers_and_no_timings(tmp_path):
    summaries = [
        summary(tmp_path, "extracter-rec", "set14", 25.12345678, 0.7),
        summary(tmp_path, "bicubic", "set14", 24, 0.6),
    ]
    cells = [kernel(tmp_path, "sun80", 3, "dense", fits=False), kernel(tmp_path, "sun80", 3, "chunked")]
    gains = [levels(tmp_path, "extracter-rec", "views", {"level_1": 0.5})]
    collect_metrics(summaries, cells, gains, tmp_path / "m.json")
    assert json.loads((tmp_path / "m.json").read_text()) == {
        "set14": {"bicubic": {"psnr": 24, "ssim": 0.6}, "extracter_rec": {"psnr": 25.1235, "ssim": 0.7}},
        "kernels": {
            "sun80": {
                "dense": {"kernel_3": {"fits": 0}},
                "chunked": {"kernel_3": {"fits": 1, "psnr": 25.5, "ssim": 0.75}},
            }
        },
        "references": {
            "views": {
                "extracter_rec": {
                    "none": {"gain": 1.0, "worst": 0.5},
                    "level_1": {"gain": 0.5, "harmed": 1, "worst": -0.5},
                }
            }
        },
    }
    first = (tmp_path / "m.json").read_bytes()
    slower = summary(tmp_path, "bicubic", "set14", 24, 0.6, device="cuda")
    collect_metrics([slower, summaries[0]], cells[::-1], gains, tmp_path / "m.json")
    assert (tmp_path / "m.json").read_bytes() == first


def test_table_2_counts_and_measures(tmp_path):
    table_parameters(tmp_path / "t.csv")
    table = {row["method"]: row for row in rows(tmp_path / "t.csv")}
    assert [table[name]["parameters"] for name in TABLE2] == ["6729603", "6907459", "9315203"]
    assert [table[name]["correlation_shape"] for name in TABLE2] == ["1600x1600", "1600x1600", "400x400"]
    assert table["C2-Matching"]["correlation_shape"] == table["SRNTT"]["correlation_shape"] == "1444x1444"
    assert table["MASA"]["correlation_shape"] == "25x1600 + 1600x169"
    assert [table[family.title]["parameters"] for family in FAMILIES.values()] == [
        "4087875", "6729603", "3178905", "6907459", "8865547", "9315203", "4028291", "9749084", "18026971",
    ]  # fmt: skip
    assert table["TTSR"]["correlation_gib"] == "16"
    assert table["Extracter"]["difference_percent"] == "0.056"
    cells = markdown(tmp_path / "t.md")["Extracter", "9,315,203"]
    assert cells[:6] == ["0", "9.31", "+0.06 %", "6x6, stride 2, padding 2", "400x400", "800x800"]
    # Twice the multiplications and additions that the specification of the systems counts by hand.
    by_hand = {"TTSR": 95, "SSEN": 11, "DPFSR": 98, "C2-Matching": 150, "MASA": 67, "SRNTT": 69, "AMSA": 148 + 10}
    by_hand["DATSR"] = 346 - 8  # without its content extractor, which is not run
    assert {name: float(table[name]["gflop"]) for name in by_hand} == pytest.approx(by_hand, rel=0.03, abs=1)


def test_the_correlation_shape_is_that_of_the_network(tmp_path):
    network = TTSR(features=4, dfe_width=4, blocks=(0, 0, 0, 0), kernel=6, stride=2, padding=2).eval()
    assert correlation_shape(network, 64) == (64, 64)  # (16 + 4 - 6) / 2 + 1 = 8 along a side
    assert not network.stm._forward_hooks


def test_show_says_where_the_tables_lie(tmp_path, capsys):
    table_kernels([kernel(tmp_path, "sun80", 3, "dense", fits=False)], tmp_path / "table3.csv")
    show([tmp_path / "table3.md"])
    printed = capsys.readouterr().out
    assert (tmp_path / "table3.md").read_text() in printed
    assert f"{tmp_path / 'table3.md'}  {tmp_path / 'table3.csv'}" in printed
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n")
    for name, said in (("none.md", "no such file"), ("picture.png", "not a text file")):
        with pytest.raises(UserError, match=said):
            show([tmp_path / name])


def test_the_reported_figures_are_complete():
    assert len(TABLE1) == 10
    assert [len(scores) for scores in TABLE1.values()] == [4, 4, 4, 4, 1, 3, 3, 3, 4, 4]
    assert set(TABLE3) == {(side, name) for side in (3, 6, 12) for name in ("sun80", "urban100")}
    assert print_scores(*TABLE1["SRNTT"]["cufed5"]) == ["25.61", "0.764"]
    assert [images for _, images in SETS.values()] == [126, 80, 100, 14]
