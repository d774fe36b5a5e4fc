"""The folders and files of a run: whose they are, where they may be, and what happens if somebody has edited them."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distilcse_cli import files, paths
from distilcse_cli.errors import DataError
from distilcse_cli.training import curves, run_folder
from distilcse_cli.training.curves import draw_curves
from distilcse_cli.training.metrics import Journal
from distilcse_cli.training.run_folder import RunFolder
from tests.training.conftest import Job

Damage = Callable[[Path], object]


def _edited(**changes: Any) -> Damage:
    """Change fields of a JSON file; None takes a field out."""

    def edit(file: Path) -> None:
        fields = json.loads(file.read_text()) | changes
        file.write_text(json.dumps({name: value for name, value in fields.items() if value is not None}))

    return edit


def _text(text: str) -> Damage:
    return lambda file: file.write_text(text)


_FIELDS = ("run", "identity", "step", "tally", "selection", "metrics_bytes", "speed_bytes", "seconds", "seconds_marked")
NO_VALUES: list[Any] = [None, [], True]
NO_OBJECTS: list[Any] = [[], "text", 5]
STATES = [
    *(_edited(**{name: value}) for name in _FIELDS for value in NO_VALUES),
    *(_edited(step=step) for step in (0, 2, 10**9)),
    *(_edited(tally=tally) for tally in ({}, {"num_sentences": "8"})),
    *(_edited(selection=one) for one in ({}, {"best_score": "x", "best_step": 0, "ended": False})),
    *(_text(text) for text in ("", "[]", "{}", "null", '{"format_version": 3}')),
]
METRICS = [Path.unlink, *(_text(text) for text in ("", "{}\n" * 200, "x" * 4000, "[1]\n" * 1000, "null\n" * 1000))]


def test_a_checkpoint_that_somebody_edited_is_one_line(interrupted: Job, tmp_path: Path) -> None:
    work, kept = interrupted.out.with_name("student.run"), tmp_path / "kept"
    shutil.copytree(work, kept)
    state = "checkpoints/step-00000001/state.json"
    for name, damages in ((state, STATES), ("metrics.jsonl", METRICS)):
        for number, damage in enumerate(damages):
            damage(work / name)
            with pytest.raises(DataError) as refused:
                interrupted.run(resume=True)
            assert name.removesuffix("/state.json") in refused.value.message, f"{name}, damage {number}"
            assert refused.value.hint
            shutil.copyfile(kept / name, work / name)
    interrupted.run(resume=True)
    assert not work.exists()


def test_a_finished_student_whose_record_somebody_edited_is_one_line(job: Job) -> None:
    job.to(job.out, max_steps=1).run()
    record = job.out / "distilcse.json"
    whole = record.read_text()
    for damage in (
        *(_edited(**{name: value}) for name in ("asked", "settings", "result") for value in NO_OBJECTS),
        *(_edited(result=value) for value in ({}, {"folder": 5, "agreement": None}, {"agreement": "x"})),
        *(_text(text) for text in ("", "[]", "null")),
    ):
        damage(record)
        with pytest.raises(DataError, match=r"distilcse\.json"):
            job.to(job.out, max_steps=1).run(resume=True)
        record.write_text(whole)


def test_a_folder_beside_out_is_ours_only_if_a_run_made_it(job: Job) -> None:
    work = job.out.with_name("student.run")
    work.mkdir()
    (work / "metrics.jsonl").write_text("mine")
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(DataError, match="holds files that are not of a run"):
            job.run(**options)
    assert [path.name for path in work.iterdir()] == ["metrics.jsonl"]


def test_a_file_that_somebody_puts_into_the_work_folder_stays(interrupted: Job) -> None:
    notes = interrupted.out.with_name("student.run") / "notes.txt"
    notes.write_text("mine")
    interrupted.run(resume=True)
    assert (interrupted.out / "modules.json").is_file()
    assert notes.read_text() == "mine"
    assert {path.name for path in notes.parent.iterdir()} == {"notes.txt", ".lock"}
    interrupted.to(interrupted.out, max_steps=1).run(overwrite=True)
    assert notes.read_text() == "mine"


def test_a_link_at_out_stays_and_the_student_is_where_it_leads(job: Job, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    job.out.symlink_to(disk / "here")
    job.to(job.out, max_steps=1).run()
    assert job.out.is_symlink()
    assert (disk / "here" / "modules.json").is_file()
    assert [path.name for path in disk.iterdir()] == ["here"]


@pytest.fixture
def mounted(job: Job, monkeypatch: pytest.MonkeyPatch) -> Job:
    """OUT is a mount point."""
    job.out.mkdir()
    for module in (files, paths, run_folder):
        monkeypatch.setattr(module, "is_mount", lambda folder: folder == job.out)
    return job.to(job.out, max_steps=2)


def test_a_mount_point_gets_the_student_and_then_another_one(mounted: Job) -> None:
    place = mounted.out.stat().st_ino
    mounted.run()
    first = (mounted.out / "model.safetensors").read_bytes()
    (mounted.out / "notes.txt").write_text("goes with the old student, as in any other folder")
    mounted.to(mounted.out, seed=7).run(overwrite=True)
    assert mounted.out.stat().st_ino == place
    assert (mounted.out / "model.safetensors").read_bytes() != first
    assert not {".distilcse", "notes.txt"} & {path.name for path in mounted.out.iterdir()}


@pytest.mark.parametrize("num_moves", [1, 3, 9])
def test_killed_while_a_mount_point_is_filled_it_can_be_resumed(
    mounted: Job, num_moves: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, moves = Path.rename, []

    def stop(path: Path, target: Path) -> Path:
        if Path(target).parent in (mounted.out, mounted.out / ".distilcse" / "replaced"):
            moves.append(path)
            if len(moves) == num_moves:
                raise MemoryError
        return rename(path, target)

    mounted.run()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", stop)
        with pytest.raises(MemoryError):
            mounted.to(mounted.out, seed=7).run(overwrite=True)
    mounted.to(mounted.out, seed=7).run(resume=True, overwrite=True)
    assert (mounted.out / "distilcse.json").is_file()
    assert not (mounted.out / ".distilcse").exists()


def test_a_work_folder_on_another_disk_is_refused_before_the_work(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    work = job.out.with_name("student.run")
    work.symlink_to(job.out.parent)
    with pytest.raises(DataError, match="has to be a folder beside"), RunFolder(job.out).locked():
        pass
    work.unlink()
    monkeypatch.setattr(run_folder, "is_mount", lambda folder: folder == work)
    with pytest.raises(DataError, match="has to be a folder beside"), RunFolder(job.out).locked():
        pass
    assert not work.exists()


STEP = {"kind": "step", "step": 1, "loss": 1.0, "grad_norm": 1.0, "scale": 20.0}


def test_curves_are_drawn_whatever_backend_a_notebook_names(tmp_path: Path) -> None:
    code = f"""
import os
from pathlib import Path
from distilcse_cli.training.curves import draw_curves
from distilcse_cli.training.metrics import Journal
draw_curves([{STEP}], Path("curves.png"), dev_measure="")
assert os.environ["MPLBACKEND"] == "module://nowhere"
"""
    environment = os.environ | {"MPLBACKEND": "module://nowhere"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_log_that_cannot_be_written_is_a_warning_and_a_metric_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "metrics.jsonl", tmp_path / "speed.jsonl", None, {}, 0)
    for file in (journal._metrics, journal._speed):
        monkeypatch.setattr(file, "_file", Path("/dev/full").open("r+b", buffering=0))  # noqa: SIM115
    journal.write({"kind": "speed", "step": 1})
    assert "the log misses step 1: cannot write /dev/full: No space left on device" in capsys.readouterr().err
    with pytest.raises(DataError, match="cannot write /dev/full") as refused:
        journal.write(STEP)
    assert "--resume" in str(refused.value.hint)
    journal.close()


def test_a_picture_that_cannot_be_drawn_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "curves.png").mkdir()
    draw_curves([STEP], tmp_path / "curves.png", dev_measure="")
    assert "curves.png is not drawn" in capsys.readouterr().err


def test_without_matplotlib_there_is_no_picture_and_the_log_says_so_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "find_spec", lambda name: None if name == "matplotlib" else 1 / 0)
    curves._can_draw.cache_clear()
    for name in ("first.png", "second.png"):
        draw_curves([STEP], tmp_path / name, dev_measure="")
    curves._can_draw.cache_clear()
    assert capsys.readouterr().err == "curves.png is not drawn: it needs matplotlib (pip install matplotlib)\n"
    assert list(tmp_path.iterdir()) == []
