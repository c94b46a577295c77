"""What a run prints, and what it says where something about the project's folder is in its way."""

import os
import pty
import re
import shutil
import subprocess
import sys

import pytest
from project import ORDINARY, ROOT, Project


@pytest.fixture(scope="module")
def shared(completed, tmp_path_factory) -> Project:
    """A copy for tests that leave it as they found it."""
    return completed.copy(tmp_path_factory.mktemp("shared") / "project")


def test_a_log_has_a_line_for_each_job_and_no_control_codes(completed):
    lines = completed.printed.splitlines()
    assert "\x1b" not in completed.printed
    jobs = int(re.search(r"(?m)^(\d+) jobs$", completed.printed)[1])
    numbered = [line for line in lines if re.match(rf"\[\d+ of {jobs}\] ", line)]
    assert len(numbered) == jobs - 1, "all but `all`"
    assert len(lines) < jobs + 12
    assert any(line.startswith("[") and "evaluate extracter-rec set14; " in line for line in numbered)
    assert "DVC holds this run" in numbered[-1]
    log = re.search(r"Complete log\(s\): (.*)", completed.printed)[1]
    with open(log, encoding="utf-8") as file:
        assert "rule train_rec:" in file.read(), "Snakemake's own words are kept"


def test_a_terminal_has_bars_beneath(complete):
    complete.write("extracter/reporting/tables.py", complete.read("extracter/reporting/tables.py") + "\n# edited\n")
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*ORDINARY, "snakemake", "--cores", "all"], cwd=complete.folder, env={**complete.environment, "TERM": "xterm"},
        stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
    ) as process:  # fmt: skip
        os.close(theirs)
        said = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux says so at the end
                break
            if not part:
                break
            said += part
    os.close(ours)
    assert process.returncode == 0, said.decode()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.decode())
    assert "all jobs" in text
    assert "table_metrics; " in text
    assert "localrule" not in text


def test_a_failed_job_says_why_in_its_own_words(complete):
    shutil.rmtree(complete.folder / "results/tiny/images/bicubic")
    text = complete.read("extracter/cli.py")
    complete.write(
        "extracter/cli.py",
        text.replace("def stand_in() -> None:", "def stand_in() -> None:\n    sys.exit('extracter: no')", 1),
    )
    said = complete.snakemake(fails=True)
    assert "FAILED evaluate bicubic set14; the end of logs/tiny/evaluate/bicubic_set14.log:\n  extracter: no\n" in said
    assert "Traceback" not in said
    interrupted = "extracter: interrupted; run the same command again to resume"
    complete.write("extracter/cli.py", complete.read("extracter/cli.py").replace("extracter: no", interrupted))
    said = complete.snakemake(fails=True)
    assert "stopped evaluate bicubic set14; run the same command again to resume\n" in said
    assert "FAILED" not in said


@pytest.mark.parametrize("name", ["data", "results"])
def test_a_linked_folder_is_refused_at_the_start(shared, tmp_path, name):
    folder = shared.folder / name
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    try:
        said = shared.snakemake("--dry-run", fails=True).splitlines()[-1]
        assert said.startswith(f"{name}: a symbolic link, through which DVC cannot record; make it a folder")
    finally:
        folder.unlink()
        (tmp_path / "elsewhere").rename(folder)


@pytest.mark.parametrize("name", ["", "results"])
def test_a_folder_that_cannot_be_written_to_is_named_at_the_start(project, name):
    folder = project.folder / name
    folder.mkdir(exist_ok=True)
    folder.chmod(0o555)
    try:
        said = project.snakemake(fails=True).splitlines()
        assert said[-1].startswith(f"{folder}: cannot be written to; change its owner or permissions, or run a copy")
        assert not any("Traceback" in line for line in said)
    finally:
        folder.chmod(0o755)


def test_a_mistake_in_the_parameters_is_one_line_for_make_stages_too(project):
    path = project.folder / "params.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("rec_steps:", "rec_step:"), encoding="utf-8")
    (line,) = project.run("python", "workflow/scripts/stages.py", fails=True).splitlines()
    assert re.search(r"^stages: .*params\.yaml: .*rec_step: unknown key", line)


def test_a_folder_of_another_user_is_named_with_the_command_that_allows_it(project):
    script = "import sys; sys.path[:0] = ['workflow/scripts']; import record; print(record.ownership())"
    assert project.run("python", "-c", script).strip() == ""
    said = project.run("python", "-c", script, GIT_TEST_ASSUME_DIFFERENT_OWNER="1").strip()
    assert said == f"after `git config --global --add safe.directory {project.folder}`"


def test_what_dvc_says_is_shown_where_it_cannot_record(project):
    bin_folder, results = project.folder / "bin", project.folder / "results/tiny"
    bin_folder.mkdir()
    results.mkdir(parents=True)
    (bin_folder / "dvc").write_text("#!/bin/sh\necho 'ERROR: the cache is full' >&2\nexit 255\n")
    (bin_folder / "dvc").chmod(0o755)
    script = "import sys; sys.path[:0] = ['workflow/scripts']; import sources; print(sources.digest(sources.SOURCES))"
    version = project.run("python", "-c", script).strip()
    record = ["python", "workflow/scripts/record.py", "--objection=", "--version", version]
    path = f"{bin_folder}:{project.environment['PATH']}"
    said = project.run(*record, "--stamp", str(results / "recorded"), "params.yaml", PATH=path, fails=True)
    assert said.startswith(
        "ERROR: the cache is full\nrecord: the results are complete, but `dvc commit` could not record"
    )


def test_restoring_while_snakemake_has_its_lock(shared):
    lock = shared.folder / ".snakemake/locks/0.input.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text("x")
    said = shared.restore(fails=True)
    assert "locked by Snakemake" in said
    assert "snakemake --unlock" in said
    lock.unlink()


def test_a_moved_project_is_up_to_date_and_its_own(complete, tmp_path):
    moved = Project(complete.folder.rename(tmp_path / "moved here"))
    for folder in ("data", "results"):
        assert not [path for path in (moved.folder / folder).rglob("*") if path.is_symlink()]
    moved.assert_settled()


def test_what_parameters_of_earlier_runs_left_leaves_with_the_next(complete):
    project = complete
    left = project.folder / "results/tiny/kernels/set14/set14_k12_dense.json"
    left.write_text("of a kernel that is no longer measured")
    state = project.folder / "results/tiny/state/extracter.0.pt"
    state.parent.mkdir()
    state.write_text("of a complete training")
    project.write("extracter/reporting/tables.py", project.read("extracter/reporting/tables.py") + "\n# edited\n")
    project.snakemake()
    assert not left.exists()
    assert not state.exists()
    project.assert_settled()


def test_what_was_finished_after_a_kill_is_made_again(complete):
    """Snakemake was killed and what it had started ended well: it has no record, but no file has to be deleted."""
    project = complete
    path = "results/tiny/evaluation/bicubic/set14.json"
    project.run("snakemake", "--cores", "1", "--cleanup-metadata", path)
    said = project.snakemake()
    assert f"{path}: left by a run that was killed, made again" in said
    assert project.ran()["evaluate"] == 1
    project.assert_settled()
    weights = "results/tiny/checkpoints/ttsr-rec/model.safetensors"
    project.run("snakemake", "--cores", "1", "--cleanup-metadata", weights)
    assert f"{weights}: Snakemake has no record of how it was made" in project.snakemake("--dry-run", fails=True)
    state = project.folder / "results/tiny/state/ttsr-rec.0.pt"
    state.parent.mkdir()
    state.write_text("complete")
    assert project.planned()["train_rec"] == 1


def test_the_environment_of_a_moved_folder_is_made_again(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".venv").mkdir()
    for name in (".locked", ".complete", ".made_in"):
        (tmp_path / ".venv" / name).write_text("/somewhere/else\n")
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_text("")
    done = subprocess.run(["make", "--dry-run", "setup"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "was moved or copied from /somewhere/else; its environment .venv is made again" in done.stdout
    assert "-m venv --clear" in done.stdout
    (tmp_path / ".venv/.made_in").write_text(f"{tmp_path}\n")
    done = subprocess.run(["make", "--dry-run", "setup"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "moved" not in done.stdout


def test_a_home_that_cannot_be_written_is_no_matter(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    command = ["make", "--eval", "show: ; @echo cache=$${XDG_CACHE_HOME:-}", "show"]
    for home, cache in (("/proc/none", tmp_path / ".cache"), (tmp_path, "")):
        environment = {**os.environ, "HOME": str(home)}
        environment.pop("XDG_CACHE_HOME", None)
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == f"cache={cache}"


def test_a_command_writes_no_control_codes_into_a_file(tmp_path):
    environment = {**os.environ, "FORCE_COLOR": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "extracter", "show", str(ROOT / "results/tables/table1_metrics.md")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stdout + done.stderr
    assert "| Extracter-rec" in done.stdout
