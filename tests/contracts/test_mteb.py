"""mteb scores a student by the code in its card, and keeps the results of two folders apart."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import spearmanr

from distilcse_cli.models.encoder import load_encoder
from tests.contracts.test_snippets import blocks, run, save

NUM_PAIRS = 40


def first_pairs(data_dir: Path) -> dict[str, list[Any]]:
    """The first pairs of STS-B's development set, in mteb's columns."""
    file = data_dir / "senteval" / "downstream" / "STS" / "STSBenchmark" / "sts-dev.csv"
    lines = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()[:NUM_PAIRS]]
    scores, first, second = zip(*(line[4:7] for line in lines), strict=True)
    return {"sentence1": list(first), "sentence2": list(second), "score": [float(score) for score in scores]}


def local_task(pairs: dict[str, list[Any]]) -> Any:
    """A task of mteb over pairs that need no hub."""
    from datasets import Dataset
    from mteb.abstasks.sts import AbsTaskSTS
    from mteb.abstasks.task_metadata import TaskMetadata

    class LocalStsB(AbsTaskSTS):
        metadata = TaskMetadata(
            name="LocalStsB",
            description="STS-B from this disk",
            type="STS",
            eval_langs=["eng-Latn"],
            main_score="cosine_spearman",
            dataset={"path": "local/stsb", "revision": "1"},
        )
        min_score, max_score = 0, 5

        def load_data(self, num_proc: int | None = None, **_: Any) -> None:  # noqa: ARG002
            self.dataset, self.data_loaded = {"test": Dataset.from_dict(pairs)}, True

    return LocalStsB()


def test_two_folders_of_one_name_get_a_score_each(
    tiny: Callable[..., Path], tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mteb

    cache, found = mteb.ResultCache(tmp_path / "results"), []
    evaluate, pairs = mteb.evaluate, first_pairs(data_dir)
    monkeypatch.setattr(mteb, "get_tasks", lambda **_: [local_task(pairs)])
    monkeypatch.setattr(mteb, "evaluate", lambda *given: found.append(evaluate(*given, cache=cache, co2_tracker=False)))
    for seed in (0, 1):
        folder = save(load_encoder(str(tiny("bert", seed=seed)), pooler="avg"), tmp_path / str(seed) / "student")
        model = run(blocks(folder)[-1])["model"]
        first, second = (model.encode(pairs[name], normalize_embeddings=True) for name in ("sentence1", "sentence2"))
        expected = spearmanr((first * second).sum(axis=1), pairs["score"]).statistic
        assert found[-1].task_results[0].get_score() == pytest.approx(expected, abs=1e-4)
    assert len({one.task_results[0].get_score() for one in found}) == 2
    names = {path.name for path in (tmp_path / "results").glob("results/*")}
    assert len(names) == 2
    assert all(name.startswith("distilcse__student-") for name in names)
