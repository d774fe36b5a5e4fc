"""Every encoder architecture: the rows of sentence-transformers, whatever shares a batch, or a refusal in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling, Transformer
from transformers import AutoConfig, AutoModel

from distilcse_cli.config import EncodeSettings
from distilcse_cli.errors import ModelError
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import load_encoder
from distilcse_cli.models.probe import reads_padding
from distilcse_cli.runtime import choose_runtime
from distilcse_cli.training.model import Scale, StudentModel
from tests.tiny import WORDS, tiny_tokenizer

POSITIONS = 66
OTHER_NAMES = {
    "distilbert": {"dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2},
    "flaubert": {"emb_dim": 16, "n_layers": 2, "n_heads": 2, "n_words": 200, "pad_index": 0},
    "xlm": {"emb_dim": 16, "n_layers": 2, "n_heads": 2, "n_words": 200, "pad_index": 0},
    "longformer": {"attention_window": 8},
    "mobilebert": {"embedding_size": 8, "intra_bottleneck_size": 8, "true_hidden_size": 8},
    "squeezebert": {"embedding_size": 16},
    "modernbert": {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3},
}
FROM_PADDING_ID = {"roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "data2vec-text"}
"""Their positions begin after the padding token's id, and sentence-transformers does not shorten the input for it."""
READ_PADDING = {"convbert", "fnet", "mobilebert", "nystromformer", "yoso"}
ARCHITECTURES = (
    *("albert", "bert", "big_bird", "camembert", "convbert", "data2vec-text", "deberta", "deberta-v2", "distilbert"),
    *("electra", "ernie", "flaubert", "fnet", "longformer", "megatron-bert", "mobilebert", "modernbert", "mpnet"),
    *("nomic_bert", "nystromformer", "roberta", "roformer", "squeezebert", "xlm", "xlm-roberta", "yoso"),
)
SENTENCES = [" ".join(WORDS[(7 * i + j) % len(WORDS)] for j in range(length)) for i, length in enumerate((3, 9, 4, 90))]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`model("fnet")`: folder of a tiny random model, in plain transformers layout."""
    made: dict[str, Path] = {}

    def make(architecture: str) -> Path:
        if architecture not in made:
            common = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
            common |= {"vocab_size": 200, "pad_token_id": 0, "max_position_embeddings": POSITIONS}
            torch.manual_seed(0)
            config = AutoConfig.for_model(architecture, **common | OTHER_NAMES.get(architecture, {}))
            backbone: Any = AutoModel.from_config(config)
            with torch.no_grad():
                for parameter in backbone.parameters():
                    if parameter.ndim == 2:
                        parameter.normal_(std=0.2)
            made[architecture] = tmp_path_factory.mktemp(architecture)
            backbone.save_pretrained(made[architecture])
            tiny_tokenizer(POSITIONS - 2 if architecture in FROM_PADDING_ID else 1000).save_pretrained(
                made[architecture]
            )
        return made[architecture]

    return make


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("pooling", "mode"), [("avg", "mean"), ("cls_before_pooler", "cls")])
def test_rows_are_those_of_sentence_transformers_in_every_batch(
    model: Callable[[str], Path], architecture: str, pooling: str, mode: str
) -> None:
    folder = str(model(architecture))
    encoder = load_encoder(folder, pooler=pooling)
    theirs = SentenceTransformer(modules=[Transformer(folder), Pooling(16, pooling_mode=mode)], device="cpu")
    assert encoder.reads_padding == (architecture in READ_PADDING)
    # alone, since with company theirs reads the padding too
    expected = theirs.encode(SENTENCES, batch_size=1)
    for batch_tokens in (1, 100, 10_000):
        embedder = Embedder(encoder, choose_runtime("cpu", "float32"), EncodeSettings(batch_tokens=batch_tokens))
        np.testing.assert_allclose(embedder.sentences(SENTENCES), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", sorted(READ_PADDING))
def test_what_reads_padding_is_not_trained(model: Callable[[str], Path], architecture: str) -> None:
    with pytest.raises(ModelError, match="reads the padding of its batches, so it can embed but not be trained"):
        StudentModel(load_encoder(str(model(architecture)), pooler="avg"), Scale(20.0, 100.0))


@pytest.mark.parametrize(
    ("architecture", "fault"),
    [("lilt", "cannot be run on token ids alone"), ("canine", "has no table of token embeddings")],
)
def test_what_gives_no_rows_of_its_own_is_refused(model: Callable[[str], Path], architecture: str, fault: str) -> None:
    with pytest.raises(ModelError, match=fault):
        load_encoder(str(model(architecture)), pooler="avg")


def test_random_rows_are_refused_and_the_probe_draws_no_random_numbers(model: Callable[[str], Path]) -> None:
    encoder = load_encoder(str(model("bert")), pooler="avg")
    before = torch.get_rng_state()
    assert not reads_padding("bert", encoder.backbone, encoder.tokenizer)
    encoder.backbone.embeddings.dropout.p = 0.5
    encoder.backbone.embeddings.dropout.train()
    with pytest.raises(ModelError, match="the rows of a bert are random or depend on the rest of a batch"):
        reads_padding("bert", encoder.backbone, encoder.tokenizer)
    assert torch.equal(torch.get_rng_state(), before)
