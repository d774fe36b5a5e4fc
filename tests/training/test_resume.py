"""A run that is killed, at any moment, and resumed ends as one that never was."""

import json
import os
import random
import signal
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from distilcse_cli.config import CorpusSettings
from distilcse_cli.errors import DataError, UsageError
from distilcse_cli.setting import settings_of
from distilcse_cli.training.distillation import Distillation
from distilcse_cli.training.run_folder import RunFolder
from distilcse_cli.training.settings import DistillSettings
from distilcse_cli.training.steps import Interrupted
from tests.training.conftest import Job
from tests.training.processes import FileEvents, run_all, start, start_group

NUM_KILLS = 10


def _remove_nothing(_place: RunFolder) -> None:
    pass


def _keep_work() -> None:
    """Leave the last checkpoint, to compare optimizer and bank too."""
    RunFolder.remove_work = _remove_nothing  # type: ignore[method-assign]


def _run(job: Job, *, kill_at: int | None = None, count_in: Path | None = None, **options: Any) -> None:
    _keep_work()
    events = FileEvents(kill_at)
    job.run(**options)
    if count_in:
        count_in.write_text(str(events.count))


def _run_rank(job: Job, kill_at: int | None, options: dict[str, Any]) -> None:
    _run(job, kill_at=kill_at if os.environ["RANK"] == "0" else None, **options)


def _everything(out: Path) -> dict[str, bytes]:
    """The bytes of all that a run leaves and that the clock has no part in."""
    checkpoint = sorted((out.with_name(out.name + ".run") / "checkpoints").glob("step-*"))[-1]
    files = [out / "model.safetensors", out / "metrics.jsonl", *checkpoint.glob("*.safetensors")]
    last = out.with_name(out.name + ".last") / "model.safetensors"
    if last.exists():
        files.append(last)
    return {path.relative_to(out.parent).as_posix().replace(out.name, "OUT", 1): path.read_bytes() for path in files}


def test_killed_at_any_touch_of_the_disk_and_resumed_it_ends_bit_for_bit_the_same(job: Job, tmp_path: Path) -> None:
    whole = job.to(tmp_path / "whole")
    assert run_all([start(_run, whole)]) == [0]
    # a second one, for the number of events once corpus and teacher rows are there
    again = job.to(tmp_path / "again")
    assert run_all([start(_count, again, tmp_path / "events")]) == [0]
    expected, num_events = _everything(whole.out), int((tmp_path / "events").read_text())
    assert _everything(again.out) == expected

    choose, num_killed, num_runs = random.Random(0), 0, 0
    while num_killed < NUM_KILLS:
        num_runs += 1
        broken = job.to(tmp_path / f"broken-{num_runs}")
        for kill_at in [choose.randint(1, num_events // 3) for _ in range(NUM_KILLS)]:
            [code] = run_all([start(_run_killed, broken, kill_at)])
            assert code in (0, -signal.SIGKILL)
            num_killed += code == -signal.SIGKILL
        assert run_all([start(_run_killed, broken, None)]) == [0]
        assert _everything(broken.out) == expected


def _run_killed(job: Job, kill_at: int | None) -> None:
    _run(job, kill_at=kill_at, resume=True)


def _count(job: Job, report: Path) -> None:
    _run(job, count_in=report)


def test_two_processes_killed_and_resumed_end_bit_for_bit_the_same(job: Job, tmp_path: Path) -> None:
    whole = job.to(tmp_path / "whole", batch_size=4, bank="per-rank")
    assert run_all(start_group(2, _run_rank, whole, None, {})) == [0, 0]
    broken = whole.to(tmp_path / "broken")
    codes = run_all(start_group(2, _run_rank, broken, 120, {}))
    assert codes[0] == -signal.SIGKILL
    assert run_all(start_group(2, _run_rank, broken, None, {"resume": True})) == [0, 0]
    assert _everything(broken.out) == _everything(whole.out)


def test_interrupted_it_saves_after_the_step_and_says_how_to_resume(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = job.to(tmp_path / "whole")
    whole.run()

    take_step = Distillation.backward

    def press_ctrl_c(objective: Distillation, state: Any, rows: np.ndarray) -> torch.Tensor:
        if state.step == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return take_step(objective, state, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Distillation, "backward", press_ctrl_c)
        with pytest.raises(Interrupted, match="after step 7 of 20") as stopped:
            job.run()
    assert stopped.value.exit_code == 130
    assert "--resume" in str(stopped.value.hint)
    assert not job.out.exists()

    job.run(resume=True)
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (job.out / name).read_bytes() == (whole.out / name).read_bytes()
    assert not job.out.with_name("student.run").exists()


def test_other_settings_are_refused_by_name_with_both_values(interrupted: Job) -> None:
    other = interrupted.to(interrupted.out, lr=3e-3, bank_size=40)
    with pytest.raises(UsageError, match=r"lr was 0\.0005, is 0\.003; bank_size was 50, is 40"):
        other.run(resume=True)


def test_settings_that_change_no_number_may_change(interrupted: Job) -> None:
    interrupted.to(interrupted.out, save_every=7).run(resume=True)
    assert (interrupted.out / "model.safetensors").exists()


def test_an_interrupted_run_is_neither_forgotten_nor_trodden_on(interrupted: Job) -> None:
    with pytest.raises(DataError, match="interrupted at step 1") as refused:
        interrupted.run()
    assert "--resume" in str(refused.value.hint)
    interrupted.run(overwrite=True)
    steps = [json.loads(line)["step"] for line in (interrupted.out / "metrics.jsonl").read_text().splitlines()]
    assert steps[0] == 1
    assert steps[-1] == 20


def test_a_finished_student_is_replaced_only_when_asked_to(job: Job) -> None:
    first = job.run()
    with pytest.raises(DataError, match="not an empty folder"):
        job.run()
    assert not job.out.with_name("student.run").exists()
    before = (job.out / "model.safetensors").read_bytes()
    assert job.run(resume=True) == first
    with pytest.raises(UsageError, match=r"corpus was \['.*corpus\.txt'\], is \['.*other\.txt'\]"):
        replace(job, corpus=job.corpus.with_name("other.txt")).run(resume=True)
    job.to(job.out, seed=7).run(overwrite=True)
    assert (job.out / "model.safetensors").read_bytes() != before


def test_overwrite_spares_what_is_no_student(job: Job) -> None:
    job.out.mkdir()
    (job.out / "thesis.txt").write_text("three years")
    with pytest.raises(DataError, match="no student of ours"):
        job.run(overwrite=True)
    assert (job.out / "thesis.txt").read_text() == "three years"


def test_the_last_two_checkpoints_are_kept_and_hold_no_pickle(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunFolder, "remove_work", _remove_nothing)
    job.run()
    folder = job.out.with_name("student.run") / "checkpoints"
    # saved every third step and after the last one
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000018", "step-00000020"]
    newest = folder / "step-00000020"
    names = {path.name for path in newest.iterdir()}
    assert names == {"state.json", *(f"{name}.safetensors" for name in ("model", "optimizer", "bank", "rng-0"))}
    assert len(load_file(newest / "bank.safetensors")["rows"]) == 50


def test_a_second_run_in_the_same_folder_is_kept_out(job: Job) -> None:
    with RunFolder(job.out).locked(), pytest.raises(DataError, match="another run works in"):
        job.run()
    job.run()


def test_a_refused_run_leaves_the_folder_and_the_lock_of_the_first_one(tmp_path: Path) -> None:
    folders = [RunFolder(tmp_path / "student") for _ in range(3)]

    def refused(folder: RunFolder) -> None:
        with pytest.raises(DataError, match="another run works in"), folder.locked():
            pass

    with folders[0].locked():
        # the first run has written nothing yet: its folder holds the lock alone
        refused(folders[1])
        assert folders[0].work.is_dir()
        refused(folders[2])
    assert not folders[0].work.exists()  # and none of the three leaves a trace


def test_a_run_that_fails_before_its_first_step_leaves_no_trace(job: Job) -> None:
    job.corpus.write_text("")
    with pytest.raises(DataError):
        job.run()
    assert not job.out.with_name("student.run").exists()
    assert not job.out.exists()


def test_stopped_before_its_first_checkpoint_it_promises_nothing(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def press_ctrl_c(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Distillation, "new_model", press_ctrl_c)
        with pytest.raises(Interrupted, match="stopped before the first checkpoint") as stopped:
            job.run()
    assert "--resume" not in str(stopped.value.hint)
    assert not job.out.with_name("student.run").exists()


def test_an_interrupted_run_of_an_older_release_can_be_overwritten(interrupted: Job) -> None:
    [checkpoint] = (interrupted.out.with_name("student.run") / "checkpoints").iterdir()
    state = json.loads((checkpoint / "state.json").read_text())
    (checkpoint / "state.json").write_text(json.dumps(state | {"format_version": 2}))
    with pytest.raises(DataError, match="has format version 2") as refused:
        interrupted.run(resume=True)
    assert "--overwrite" in str(refused.value.hint)
    assert interrupted.run(overwrite=True).num_steps == 20


def test_a_student_finished_by_an_older_release_is_recognized(job: Job) -> None:
    first = job.run()
    facts = json.loads((job.out / "distilcse.json").read_text())
    # such a folder has no distilcse.toml, its settings stand in another order, and it names no newer ones
    facts["settings"] = dict(reversed(facts["settings"].items()))
    del facts["settings"]["save_dtype"], facts["settings"]["vocab_size"], facts["result"]["vocab_size"]
    (job.out / "distilcse.json").write_text(json.dumps(facts))
    (job.out / "distilcse.toml").unlink()
    assert job.run(resume=True) == first


def test_every_run_writes_the_settings_file_that_repeats_it(job: Job) -> None:
    job.to(job.out, patience=None, lr=5e-5).run()
    written = tomllib.loads((job.out / "distilcse.toml").read_text(encoding="utf-8"))
    paths = {"teacher": job.teacher, "student": job.student, "out": job.out}
    assert {name: written[name] for name in paths} == {name: str(path) for name, path in paths.items()}
    assert written["corpus"] == [str(job.corpus)]
    assert (written["pooler"], written["teacher_pooler"], written["compute_dtype"]) == ("avg", "avg", "float32")
    settings = {name: value for name, value in written.items() if name in settings_of(DistillSettings)}
    assert DistillSettings(**settings) == replace(job.settings, lr=5e-5)
    assert CorpusSettings(**{name: written[name] for name in settings_of(CorpusSettings) if name in written}) == (
        CorpusSettings()
    )
    # None is left out, and settings without an option
    assert not {"patience", "keep_layers", "embeddings", "mse_raw", "shuffle"} & written.keys()


def test_random_generators_continue_where_they_were() -> None:
    from distilcse_cli.training.state import rng_tensors, set_rng

    random.gauss(0, 1)
    saved = rng_tensors()
    draws = [(random.gauss(0, 1), random.random(), np.random.rand(), torch.rand(()).item()) for _ in range(3)]  # noqa: NPY002
    set_rng(saved)
    assert draws == [(random.gauss(0, 1), random.random(), np.random.rand(), torch.rand(()).item()) for _ in range(3)]  # noqa: NPY002
