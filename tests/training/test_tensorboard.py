"""What TensorBoard itself reads of a run: the metrics, each step once, also of one that was stopped or killed."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from distilcse_cli.training.steps import Interrupted
from distilcse_cli.training.watch import Watch
from tests.training.conftest import Job
from tests.training.processes import run_all, start


@pytest.fixture
def watched(job: Job) -> Job:
    return job.to(job.out, tensorboard=True)


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Tag -> step -> value, as TensorBoard shows them."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    shown = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    for points in shown.values():
        assert len({point.step for point in points}) == len(points), "no step twice"
    return {tag: {point.step: point.value for point in points} for tag, points in shown.items()}


def written_down(out: Path) -> dict[str, dict[int, float]]:
    """The same of the metrics' lines."""
    expected: dict[str, dict[int, float]] = {}
    for file in ("metrics.jsonl", "speed.jsonl"):
        for line in (out / file).read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            kind, step = record.pop("kind"), record.pop("step")
            for name, value in record.items():
                if not isinstance(value, str):
                    # event files hold single precision
                    expected.setdefault(f"{kind}/{name}", {})[step] = pytest.approx(value, rel=1e-6)
    return expected


def make_older(folder: Path) -> None:
    """Files are read in the order of their names, which tell the second that they were begun in."""
    for file in folder.iterdir():
        events, out, kind, second, *rest = file.name.split(".")
        file.rename(folder / ".".join([events, out, kind, str(int(second) - 10), *rest]))


def stop_at(step: int, wish: signal.Signals) -> None:
    """From now on a run of this process gets the signal before it writes this step down."""
    after_step = Watch.after_step

    def after(watch: Watch, state: Any, record: Any, *, stop: bool) -> None:
        if record.step == step:
            os.kill(os.getpid(), wish)
        after_step(watch, state, record, stop=stop)

    Watch.after_step = after  # type: ignore[method-assign]


def _run_killed(job: Job, step: int) -> None:
    stop_at(step, signal.SIGKILL)
    job.run(resume=True)


def test_the_event_files_hold_the_metrics_and_lie_in_the_student(watched: Job) -> None:
    watched.run()
    shown = scalars(watched.out / "tensorboard")
    assert shown == written_down(watched.out)
    assert list(shown["step/loss"]) == list(range(1, 21))
    assert list(shown["evaluation/dev_score"]) == [5, 10, 15, 20]


def test_a_run_that_was_stopped_and_killed_shows_each_step_once(watched: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Watch, "after_step", Watch.after_step)  # to be put back
        stop_at(7, signal.SIGINT)
        with pytest.raises(Interrupted):
            watched.run()
    # checkpoints are at 3, 6, 8 (where it stopped), 9 and 12; step 13 was taken and is lost
    assert list(scalars(watched.out.with_name("student.run") / "tensorboard")["step/loss"]) == list(range(1, 9))
    make_older(watched.out.with_name("student.run") / "tensorboard")
    assert run_all([start(_run_killed, watched, 14)]) == [-signal.SIGKILL]
    make_older(watched.out.with_name("student.run") / "tensorboard")
    watched.run(resume=True)
    assert scalars(watched.out / "tensorboard") == written_down(watched.out)


def test_a_run_without_it_leaves_no_event_files(job: Job) -> None:
    job.run()
    assert not (job.out / "tensorboard").exists()
