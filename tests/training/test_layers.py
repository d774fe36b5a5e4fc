"""`--layers N`: the layers are chosen once, kept through a stop, written down, and the same in every process."""

import json
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distilcse_cli.errors import DataError, UsageError
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.training import layers as choosing
from distilcse_cli.training.steps import Interrupted
from tests.training.conftest import Job
from tests.training.processes import run_all, start_group


@pytest.fixture
def deep(job: Job, tiny: Callable[..., Path]) -> Job:
    """A student of four layers, of which two are chosen."""
    student = tiny("bert", width=16, num_layers=4, seed=2)
    return replace(job, student=student).to(job.out, layers=2, max_steps=3, dropout=False)


def facts_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "distilcse.json").read_text(encoding="utf-8"))


def test_the_chosen_layers_are_written_down_everywhere(deep: Job, capsys: pytest.CaptureFixture[str]) -> None:
    report = deep.run()
    shown = capsys.readouterr().err
    layers = report.kept_layers
    assert len(layers) == 2
    names = ",".join(map(str, layers))
    assert f"layers: {names}, best of 6 on 88 sentences\n" in shown
    assert "ten nearest shared" in shown
    assert load_encoder(str(deep.out)).num_layers == 2
    facts = facts_of(deep.out)
    assert facts["result"]["kept_layers"] == facts["student"]["keep_layers"] == layers
    assert facts["settings"]["layers"] == 2
    assert f"| layers kept | {layers[0]}, {layers[1]} of {deep.student} |" in (deep.out / "README.md").read_text()
    # the settings file names the layers, so that it repeats the run without a choice
    written = tomllib.loads((deep.out / "distilcse.toml").read_text(encoding="utf-8"))
    assert written["keep_layers"] == layers
    assert "layers" not in written
    assert written["lr"] == facts["settings"]["lr"] == 1e-3  # what two layers take


def test_the_choice_is_made_once_and_repeated_by_name_gives_the_same_student(
    deep: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = deep.run()
    capsys.readouterr()
    monkeypatch.setattr(choosing, "rank_layers", None)  # it is not called again
    second = deep.to(tmp_path / "again")
    assert second.run().kept_layers == first.kept_layers
    assert "on 88 sentences, ranked before [" in capsys.readouterr().err
    named = deep.to(tmp_path / "named", layers=None)
    named.run(keep_layers=tuple(first.kept_layers))
    weights = [(out / "model.safetensors").read_bytes() for out in (deep.out, second.out, named.out)]
    assert weights[0] == weights[1] == weights[2]


def test_a_resumed_run_keeps_the_layers_it_began_with(deep: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        _stop_after_a_step(patch)
        with pytest.raises(Interrupted):
            deep.run()
    # today the choice would be another one
    monkeypatch.setattr("distilcse_cli.training.distill.choose_layers", lambda *_, **__: (0, 1))
    with pytest.raises(UsageError, match="layers was 2, is 3"):
        deep.to(deep.out, layers=3).run(resume=True)
    begun = json.loads(next(deep.out.parent.glob("student.run/checkpoints/*/state.json")).read_text())
    layers = begun["identity"]["kept_layers"]
    assert layers != [0, 1], "of no use here"
    assert deep.run(resume=True).kept_layers == layers


def _stop_after_a_step(patch: pytest.MonkeyPatch) -> None:
    import os
    import signal

    from distilcse_cli.training.distillation import Distillation

    backward = Distillation.backward

    def stop(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return backward(*arguments)

    patch.setattr(Distillation, "backward", stop)


def test_a_damaged_ranking_is_a_one_line_error(deep: Job, home: Path, tmp_path: Path) -> None:
    deep.run()
    (manifest,) = (home / "layers").glob("*/manifest.json")
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"ranking": [{}]}))
    with pytest.raises(DataError, match="is damaged"):
        deep.to(tmp_path / "again").run()


def test_more_layers_than_the_student_has_end_the_run_before_the_teacher_runs(deep: Job, home: Path) -> None:
    with pytest.raises(UsageError, match=r"--layers 5: .* has 4 layers"):
        deep.to(deep.out, layers=5).run()
    assert not (home / "embeddings").exists()


def _run(job: Job) -> None:
    job.run()


def test_of_two_processes_one_chooses_for_both(deep: Job, tmp_path: Path) -> None:
    alone, two = deep.to(tmp_path / "alone", batch_size=8), deep.to(tmp_path / "two", batch_size=4)
    alone.run()
    assert run_all(start_group(2, _run, two)) == [0, 0]
    assert facts_of(two.out)["result"]["kept_layers"] == facts_of(alone.out)["result"]["kept_layers"]


def test_layers_by_number_and_by_name_exclude_each_other(distilcse: Callable[..., Any]) -> None:
    refused = distilcse("distill", "--teacher", "t", "--student", "s", "--layers", "2", "--keep-layers", "0,1", code=2)
    assert refused.stderr == (
        "error: --layers chooses the layers that --keep-layers names (leave one of the two out)\n"
    )


def test_the_report_says_whose_space_the_vectors_live_in(job: Job, tmp_path: Path) -> None:
    teacher = load_encoder(str(job.teacher), pooler="avg")
    its = {"name": str(job.teacher), "fingerprint": teacher.fingerprint}
    short = job.to(job.out, max_steps=2)
    assert short.run().space is None, "the projection to the teacher's width is dropped"
    assert short.to(tmp_path / "kept", space="teacher").run().space == its
    same_width = replace(short, student=job.teacher)
    assert same_width.to(tmp_path / "same").run().space == its
    assert facts_of(tmp_path / "same")["result"]["space"] == its
