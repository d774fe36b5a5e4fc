"""The seven transfer tasks against SentEval's own code, on real embeddings.

Encoding some 100,000 sentences takes minutes, so this runs only where it is asked for.
"""

import json
import os
from pathlib import Path

import pytest

import senteval
from distilcse_cli.config import EncodeSettings
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.runtime import choose_runtime


@pytest.mark.golden
@pytest.mark.real_model
@pytest.mark.skipif(not os.environ.get("DISTILCSE_SLOW"), reason="takes minutes: set DISTILCSE_SLOW=1")
def test_transfer_accuracies_of_minilm(minilm: Path, data_dir: Path, golden_dir: Path) -> None:
    golden = json.loads((golden_dir / "transfer_minilm.json").read_text(encoding="utf-8"))
    encoder = load_encoder(str(minilm), pooler="avg")
    # as users of SentEval hand embeddings over: not normalized, though the model's folder asks for it
    settings = EncodeSettings(normalize=False, max_length=512)
    results = senteval.evaluate(
        Embedder(encoder, choose_runtime("cpu", "float32"), settings).sentences,
        "transfer",
        data=data_dir / "senteval",
    )
    accuracies = {task: results.headline(task) for task in senteval.TRANSFER_TASKS}
    assert accuracies == pytest.approx(golden["acc"], abs=0.3)
    assert results.avg_transfer == pytest.approx(golden["avg"], abs=0.1)
