"""The workflow with the real commands, once, and what a user may do to it."""

import json
import math
import re
import shutil

import pytest
from project import Project

STATE = "results/tiny/state"


@pytest.fixture
def copy(finished, tmp_path) -> Project:
    """A copy of the finished project."""
    return finished.copy(tmp_path / "project")


def test_everything_is_made_and_recorded(finished):
    assert "DVC holds this run" in finished.printed
    assert "Traceback" not in finished.printed
    assert "validation PSNR" in finished.printed, "training shows its progress"
    finished.assert_settled()
    metrics = json.loads(finished.read("results/metrics.json"))
    assert set(metrics["set14"]) == {"bicubic", "ttsr", "ttsr_rec", "extracter", "extracter_rec", "released"}
    leaves = json.dumps(metrics)
    assert not any(word in leaves for word in ("second", "memory", "mib"))
    for table in ("table1_metrics", "table2_parameters", "table3_kernels"):
        assert finished.read(f"results/tables/{table}.md").count("|") > 20
    for figure in ("comparison", "training", "kernels"):
        assert (finished.folder / f"results/figures/{figure}.png").stat().st_size > 1000
    assert not [path for path in finished.folder.rglob("*.part*") if ".venv" not in path.parts]
    assert not list((finished.folder / STATE).glob("*"))
    # What differs from run to run is tracked by neither git nor DVC.
    tracked = finished.run("git", "ls-files", "--others", "--cached", "--exclude-standard", "results").split()
    kept = [path for path in tracked if path.endswith((".csv", ".md", ".json"))]
    assert not [path for path in kept if re.search(r"second|peak_memory|MiB", finished.read(path))]
    lock = finished.read("dvc.lock")
    assert "timings" not in lock
    assert "measured" not in lock
    assert "Seconds an image" in finished.read("results/tiny/measured/table3_kernels.md")


def test_every_plot_has_points_to_draw(finished, tmp_path):
    """What stands where numbers belong is not drawn, or drawn as 0."""
    assert finished.run("git", "check-ignore", "dvc_plots/index.html"), "where `make plots` writes"
    finished.dvc("plots", "diff", "--out", str(tmp_path))
    page = tmp_path / "index.html"
    specifications = re.findall(r"var spec = (\{.*\});", page.read_text(encoding="utf-8"))
    finished.run("python", "workflow/scripts/offline.py", str(page))
    text = page.read_text(encoding="utf-8")
    assert 'src="http' not in text, "the page opens without a network"
    assert "vegaEmbed = factory" in text
    drawn = {}
    # Of what references are worth there is nothing to draw: the preset has no set that grades them.
    for spec in filter(None, map(json.loads, specifications)):
        assert spec["transform"] == [{"filter": "datum.dvc_inferred_y_value !== ''"}]
        points = [point for point in spec["data"]["values"] if point["dvc_inferred_y_value"] != ""]
        axes = [(axis["field"], axis["type"]) for name, axis in spec["encoding"].items() if name in "xy"]
        for field in [field for field, kind in axes if kind == "quantitative"]:
            assert all(math.isfinite(float(point[field])) for point in points), field
        drawn[spec["title"]["text"]] = {point["field"] for point in points}
    trained = {"ttsr-rec", "ttsr", "extracter-rec", "extracter"}
    assert drawn["Validation PSNR by training step"] == trained
    assert drawn["PSNR by image"] == {"bicubic", *trained, "released"}
    assert drawn["PSNR by set and kernel size"] == {"blocks", "chunked", "dense"}


def test_the_report_is_made_of_the_run(copy):
    copy.snakemake("--", "report")
    page = copy.read("results/tiny/report/report.html")
    table = copy.read("results/tables/table1_metrics.csv")
    scores = re.search(r"^Extracter-rec,measured,this run,.*", table, re.MULTILINE)[0]
    psnr = next(f"{float(cell):.2f}" for cell in scores.split(",") if re.fullmatch(r"\d\d\.\d{4}", cell))
    assert psnr in page
    assert copy.planned() == {}, "it is no artefact"
    assert "up to date" in copy.dvc("status")
    copy.snakemake("--report", "report.html")
    front = re.search(r"var workflow_desc = (.*);", copy.read("report.html"))[1]
    assert psnr in front
    assert "Extracter-rec" in front
    assert '"arXiv": 2310.01379' in copy.read("report.html"), "else the graph of the rules comes first"


def test_a_killed_training_goes_on_to_the_same_weights(copy):
    folder = "results/tiny/checkpoints/extracter-rec"

    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (copy.folder / folder).iterdir()}

    before = files()
    copy.run("rm", "-r", folder)
    state = copy.folder / STATE
    target = f"{folder}/model.safetensors"
    copy.kill(lambda: any(state.glob("extracter-rec.*.pt")), "snakemake", "--cores", "all", "--", target)
    assert not (copy.folder / target).exists()
    assert "--unlock" in copy.snakemake("--", target, fails=True)
    copy.run("snakemake", "--unlock", "--cores", "1")
    copy.snakemake("--", target)
    assert "resuming after step" in copy.read("logs/tiny/train_rec/extracter.log")
    assert files() == before, "log and provenance, too"


def test_a_second_run_leaves_the_working_tree_clean(copy):
    """Of the same files: what a training writes is compared above."""
    copy.commit("first")
    copy.run("rm", "-r", "results/tiny/evaluation/released", "results/tiny/images/released", "results/metrics.json")
    copy.run("rm", "-r", "results/tiny/kernels/set14", "results/tables", "results/plots", "results/figures")
    copy.snakemake()
    assert copy.run("git", "status", "--porcelain") == ""
    copy.assert_settled()


def test_a_checkpoint_of_another_network_is_refused_in_one_sentence(copy):
    other, own = (copy.folder / f"results/tiny/checkpoints/{name}" for name in ("ttsr", "extracter"))
    for path in own.iterdir():
        path.unlink()
    for path in other.iterdir():
        shutil.copy(path, own)
    said = copy.snakemake("--", "results/tiny/evaluation/extracter/set14.json", fails=True)
    sentences = [line for line in said.splitlines() if line.startswith("  extracter: ")]
    assert len(sentences) == 1
    assert "results/tiny/checkpoints/extracter" in sentences[0]
    assert "Traceback" not in said
