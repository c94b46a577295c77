"""What a run prints: one line a job with its place and the time left, and on a terminal bars of what runs beneath.

Snakemake's own paragraphs go to its log file alone, which the last line names. Dry runs and `--quiet`
print what Snakemake prints, with long lists of files cut short; `--verbose` and `--printshellcmds` all of it.
"""

import json
import logging
import os
import sys
import threading
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from snakemake.logging import DefaultFormatter, LogEvent, logger

SHOWN = 5  # names of a long list
SAID = 20  # lines of the log of a job that failed
STOPPED = ("extracter: interrupted; ", "extracter: ended; ")  # begin the last line of a job that a signal ended
HEARTBEAT = 600  # seconds between lines on what runs, where there is no terminal
# Commands write here how far they are: see extracter/progress.py.
FOLDER = Path(".snakemake/extracter-progress").absolute()
# Mean core-seconds of a job of each rule in earlier runs, by preset.
MEMORY = Path(".snakemake/extracter-seconds.json").absolute()
# What Snakemake says besides, which tells a user nothing.
CHATTER = ("Assuming ", "Building DAG", "Using shell", "Provided ", "Rules claiming", "Conda env", "Singularity")
CHATTER += (
    "Select jobs",
    "Execute ",
    "Finished jobid",
    "Touching",
    "Will exit after",
    "Shutting down",
    "Exiting because",
    "Elapsed time",
)
CHATTER += ("RuleException", "CalledProcessError", "WorkflowError:\nAt least one job")


class ShortFormatter(DefaultFormatter):
    """Snakemake's formatter, with lists of files cut short: a set may have ten thousand."""

    def format(self, record: logging.LogRecord) -> str:
        """A record as text."""
        short = logging.makeLogRecord(record.__dict__)
        for key in ("input", "output"):
            names = getattr(record, key, None)
            if isinstance(names, list) and len(names) > 2 * SHOWN:
                setattr(short, key, [*names[:SHOWN], f"and {len(names) - SHOWN:,} more"])
        if len(str(getattr(record, "reason", ""))) > 500:
            short.reason = f"{record.reason[:500]} ..."
        return super().format(short)


@dataclass
class Job:
    """A job that runs."""

    rule: str
    what: str
    label: str
    logs: list[str]
    threads: int
    started: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, record: Any) -> "Job":
        """The job of which a record says that it begins."""
        given = {key: value for key, value in record.wildcards.items() if key not in ("preset", "state")}
        label = f"{given.get('family')} {record.rule_name.removeprefix('train_')}"
        return cls(record.rule_name, " ".join([record.rule_name, *given.values()]), label, record.log, record.threads)

    def said(self, lines: int) -> list[str]:
        """The last lines of what its command printed."""
        texts = [Path(log).read_text(encoding="utf-8", errors="replace") for log in self.logs if Path(log).exists()]
        return [line for line in "\n".join(texts).splitlines() if line.strip()][-lines:]


def read_progress() -> dict[str, tuple[int, int]]:
    """How far the running commands are: label, done and total."""
    found = {}
    for path in FOLDER.glob("*.json"):
        try:
            label, done, total = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # it ended meanwhile
            continue
        found[label] = (done, total)
    return found


class Estimate:
    """The time that is left, from what jobs of each rule took in this run, or else in earlier ones."""

    def __init__(self, preset: str, cores: int):
        self.preset, self.cores = preset, cores
        self.left: Counter = Counter()
        self.took: dict[str, list[float]] = defaultdict(list)
        try:
            self.earlier = json.loads(MEMORY.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.earlier = {}

    def finish(self, job: Job) -> None:
        """Learn from a job that has just ended."""
        self.took[job.rule].append((time.monotonic() - job.started) * job.threads)

    def of_rule(self, rule: str) -> float | None:
        """Core-seconds of a job; None where no job of the rule ever ran."""
        return mean(self.took[rule]) if self.took.get(rule) else self.earlier.get(self.preset, {}).get(rule)

    def describe(self, running: list[Job]) -> str:
        """Such as `about 5 min left`; empty where nothing is known."""
        progress, total, unknown = read_progress(), 0.0, False
        waiting = self.left - Counter(job.rule for job in running)
        for rule, count in waiting.items():
            cost = self.of_rule(rule)
            unknown |= cost is None
            total += count * (cost or 0)
        for job in running:
            passed = (time.monotonic() - job.started) * job.threads
            done, steps = progress.get(job.label, (0, 0))
            cost = passed * steps / done if done else self.of_rule(job.rule)
            unknown |= cost is None
            total += max((cost or 0) - passed, 0)
        seconds = total / self.cores
        return "" if seconds < 1 else f"{'at least' if unknown else 'about'} {duration(seconds)} left"

    def remember(self) -> None:
        """Keep what was learned for the next run, which estimates without it where it cannot be written."""
        known = self.earlier.get(self.preset, {}) | {rule: mean(took) for rule, took in self.took.items()}
        with suppress(OSError):
            MEMORY.write_text(json.dumps({**self.earlier, self.preset: known}), encoding="utf-8")


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, as a reader says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Reporter(logging.Handler):
    """Prints a run's lines on a stream.

    Args:
        stream: where to; bars are drawn where it is a terminal.
        preset: the preset in use.
        cores: that the run may use.
        formatter: of what is printed as Snakemake has it.
    """

    def __init__(self, stream: TextIO, preset: str, cores: int, formatter: logging.Formatter):
        super().__init__()
        self.setFormatter(formatter)
        self.stream = stream
        self.estimate = Estimate(preset, cores)
        self.running: dict[int, Job] = {}
        self.done = self.total = 0
        self.bars = None
        if stream.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[left]}"),
            )
            self.bars = Progress(*columns, console=Console(file=stream), transient=True)
        self.tasks: dict[str, TaskID] = {}
        self.ended = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Print what a user wants to know of an event."""
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO:
            self._start(record.stats)
        elif event == LogEvent.JOB_INFO:
            self.running[record.jobid] = Job.of(record)
        elif event == LogEvent.JOB_FINISHED:
            self._finish(record.job_id)
        elif event == LogEvent.JOB_ERROR:
            self._fail(record)
        elif event in (None, LogEvent.ERROR):
            text = self.format(record)
            if text and not text.lstrip().startswith(CHATTER):
                self.say(text)

    def say(self, text: str) -> None:
        """Print a line, above the bars where there are any."""
        if self.bars is not None and self.tasks:
            self.bars.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=self.stream, flush=True)

    def _start(self, stats: dict[str, int]) -> None:
        if self.total:
            return
        self.total = stats["total"]
        self.estimate.left = Counter({rule: count for rule, count in stats.items() if rule != "total"})
        left = self.estimate.describe([])
        self.say(f"{self.total} jobs{left and ': '}{left}")
        if self.bars is not None:
            self.tasks[""] = self.bars.add_task("all jobs", total=self.total, left=left)
            self.bars.start()
        threading.Thread(target=self._watch, daemon=True).start()

    def _finish(self, number: int) -> None:
        job = self.running.pop(number, None)
        if job is None:
            return
        self.done += 1
        self.estimate.left[job.rule] -= 1
        if job.rule == "all" or not job.logs:
            return
        self.estimate.finish(job)
        parts = [f"[{self.done} of {self.total}] {job.what}", duration(time.monotonic() - job.started)]
        said, left = job.said(1), self.estimate.describe(list(self.running.values()))
        parts += [said[0][:200]] if said and "DVC runs this" not in said[0] else []
        self.say("; ".join([*parts, left] if left else parts))
        self._draw()

    def _fail(self, record: Any) -> None:
        job = self.running.pop(record.jobid, None) or Job(record.rule_name, record.rule_name, "", record.log, 1)
        said = job.said(SAID)
        if said and said[-1].startswith(STOPPED):
            head, lines = f"stopped {job.what}; run the same command again to resume", []
        else:
            head = f"FAILED {job.what}; the end of {' '.join(job.logs)}:"
            lines = said or [f"failed without a message: {record.shellcmd}"]
        # A cluster says by which number it knows the job, why it did not take it, or why it ended it.
        lines += str(getattr(record, "rule_msg", None) or "").splitlines()[:SHOWN]
        self.say("\n".join([head, *(f"  {line}" for line in lines)]))

    def _watch(self) -> None:
        """Draw the bars, or now and then a line on what runs, until the end."""
        last = time.monotonic()
        while not self.ended.wait(0.5 if self.bars is not None else 5):
            if self.bars is not None:
                self._draw()
            elif time.monotonic() - last > HEARTBEAT:
                last = time.monotonic()
                steps = (f"{label} {done:,} of {total:,}" for label, (done, total) in sorted(read_progress().items()))
                self.say(
                    "; ".join(["running: " + ", ".join(steps), self.estimate.describe(list(self.running.values()))])
                )

    def _draw(self) -> None:
        if self.bars is None or not self.tasks:
            return
        self.bars.update(self.tasks[""], completed=self.done, left=self.estimate.describe(list(self.running.values())))
        progress = read_progress()
        for label, (done, total) in progress.items():
            if label not in self.tasks:
                self.tasks[label] = self.bars.add_task(f"  {label}", total=total, left="")
            self.bars.update(self.tasks[label], completed=done, total=total)
        for label in [label for label in self.tasks if label and label not in progress]:
            self.bars.remove_task(self.tasks.pop(label))

    def close(self) -> None:
        """Take the bars away."""
        self.ended.set()
        if self.bars is not None and self.tasks:
            self.bars.stop()
            self.tasks.clear()
        if self.total:
            self.estimate.remember()
        super().close()


def install(workflow: Any, preset: str, cores: int) -> None:
    """Let this run print its lines; called while Snakemake reads the Snakefile."""
    handlers = {handler.name: handler for handler in logger.handlers}
    stream = handlers.get("DefaultStreamHandler")
    settings = workflow.output_settings
    formatter = ShortFormatter(settings.quiet, settings.show_failed_logs)
    for handler in handlers.values() if not (settings.verbose or settings.printshellcmds) else ():
        if isinstance(handler.formatter, DefaultFormatter):
            handler.setFormatter(formatter)
    ordinary = {str(kind) for kind in settings.quiet or ()} <= {"host"}
    special = settings.dryrun or settings.verbose or settings.printshellcmds
    if stream is None or not workflow.is_main_process or special or not ordinary:
        return
    for left in FOLDER.glob("*.json"):
        left.unlink(missing_ok=True)
    os.environ["EXTRACTER_PROGRESS"] = str(FOLDER)
    reporter = Reporter(sys.stderr, preset, cores, formatter)
    reporter.addFilter(stream.filters[0])
    logger.removeHandler(stream)
    logger.addHandler(reporter)
