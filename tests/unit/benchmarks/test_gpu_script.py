"""`benchmarks/gpu.sh`, with tiny sizes on the CPU."""

import importlib.util
import os
import subprocess
from pathlib import Path

from extracter.benchmarks import bench_worker

ROOT = Path(__file__).parents[3]


def script():
    spec = importlib.util.spec_from_file_location("gpu", ROOT / "benchmarks/gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_part_runs_within_its_limit_and_its_end_is_noted(tmp_path):
    environment = {**os.environ, "PARTS": "versions"}
    command = [ROOT / "benchmarks/gpu.sh", tmp_path / "results", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "missing: nothing" in done.stdout
    assert (tmp_path / "results/summary.txt").read_text().startswith("versions: ok, ")


def test_a_part_that_fails_does_not_end_the_script(tmp_path):
    environment = {**os.environ, "PARTS": "versions search", "PYTHON": "false"}
    command = [ROOT / "benchmarks/gpu.sh", tmp_path, "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    lines = (tmp_path / "summary.txt").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["versions: failed with 1", "search: failed with 1"]


def test_cells_are_measured_in_one_process(tmp_path):
    gpu = script()
    jobs = [job for job in gpu.cells("search", "cpu", tiny=True) if (job["size"], job["kernel"]) == (64, 12)]
    assert [job["method"] for job in jobs] == ["blocks", "chunked", "dense"]
    (found,) = [gpu.measure_one({**job, "repeats": 1}, bench_worker.run) for job in jobs[:1]]
    assert found["result"] == "measured"
    assert found["seconds"] > 0
    assert gpu.measure_one({**jobs[0], "precision": "none"}, bench_worker.run)["result"].startswith("failed: ")
    large = gpu.cells("search", "cuda:0", tiny=False)
    assert {job["size"] for job in large} == {160, 320, 512, 1024, 2048}


def test_pairs_of_noise_can_be_trained_on(tmp_path):
    from extracter.data.datasets import TrainingPairs

    pairs = TrainingPairs(script().make_pairs(tmp_path / "pairs", 64, 3))
    assert (len(pairs), pairs.size) == (3, 64)
