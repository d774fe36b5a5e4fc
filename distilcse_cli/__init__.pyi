"""DistilCSE: make a small, fast student of a large sentence-embedding model, and prove what it kept.

The functions are those of the commands. Nothing is imported before one is used.
"""

import collections.abc
import os
import pathlib
import typing

from distilcse_cli.errors import DataError as DataError
from distilcse_cli.errors import DeviceError as DeviceError
from distilcse_cli.errors import DistilCSEError as DistilCSEError
from distilcse_cli.errors import ModelError as ModelError
from distilcse_cli.errors import NetworkError as NetworkError
from distilcse_cli.errors import UsageError as UsageError
from distilcse_cli.errors import VerdictError as VerdictError
from distilcse_cli.evaluation.compared import CompareResult
from distilcse_cli.evaluation.report import Report as EvalReport
from distilcse_cli.jobs.model import Model as Model
from distilcse_cli.jobs.teacher import ExtractReport, ImportReport
from distilcse_cli.models.convert import Conversion
from distilcse_cli.serving.align import AlignReport
from distilcse_cli.serving.index import IndexReport
from distilcse_cli.serving.search import Hit
from distilcse_cli.training.report import DistillReport, FinetuneReport

__version__: str
__all__ = [
    "DataError",
    "DeviceError",
    "DistilCSEError",
    "Model",
    "ModelError",
    "NetworkError",
    "UsageError",
    "VerdictError",
    "__version__",
    "align",
    "compare",
    "convert",
    "distill",
    "download",
    "evaluate",
    "export_asymmetric",
    "export_onnx",
    "export_web",
    "extract",
    "finetune",
    "import_vectors",
    "index",
    "load",
    "push",
    "search",
]

def align(
    student: str | os.PathLike[str],
    *,
    to: str | os.PathLike[str],
    out: str | os.PathLike[str],
    pooler: typing.Literal[
        "cls",
        "cls_before_pooler",
        "avg",
        "avg_top2",
        "avg_first_last",
        "avg_layer1_last",
        "weighted_mean",
        "last_token",
    ]
    | None = None,
    revision: str | None = None,
    base: str | None = None,
    tokenizer: str | None = None,
    prompt: str | None = None,
    prompt_name: str | None = None,
    sentences: int = 400,
    held_out: int = 1000,
    seed: int = 42,
    device: str | None = None,
    compute_dtype: typing.Literal["auto", "float32", "bfloat16"] = "auto",
    progress: bool = False,
) -> AlignReport:
    """Fit one linear map behind a student, so that it can query its teacher's index.

    Nothing is written if the map does not help.

    Args:
        student: Model to align: folder, catalogue name or hub id.
        to: Embedding store of the teacher.
        out: Folder for the aligned student; must not exist or be empty.
        pooler: How token vectors become the vector of a sentence: cls, cls_before_pooler, avg, avg_top2,
            avg_first_last, avg_layer1_last, weighted_mean, last_token. Default: what the model's folder says, else
            cls.
        revision: Branch, tag or commit of a hub model.
        base: For a file of weights (.pth): the model it was trained from. Default: read from its tensors.
        tokenizer: For a file of weights: the model whose tokenizer it has. Default: the base's, else one of that
            size.
        prompt: Text before every sentence. Default: the folder's default prompt; '' for none.
        prompt_name: A prompt of the model's folder, by its name.
        sentences: Sentences of the store to fit the map on.
        held_out: Other sentences of the store, to judge the map by.
        seed: Decides which sentences these are.
        device: cpu, cuda or cuda:N. Default: a GPU if there is one.
        compute_dtype: Number format of matrix products. auto takes bfloat16 where it is faster here.
        progress: Draw bars and print log lines, on stderr or in the notebook. Default: the logger `distilcse_cli`
            gets them.

    Returns:
        How well student and teacher agree on held-out sentences, before and after.

    Raises:
        DataError: The store has too few rows, or `out` is in the way.
        VerdictError: The student is no better with the map.
    """

def compare(
    *,
    teacher: str | os.PathLike[str],
    student: str | os.PathLike[str] | collections.abc.Sequence[str | os.PathLike[str]],
    corpus: str | os.PathLike[str] | collections.abc.Iterable[str | os.PathLike[str]] | None = None,
    keep_layers: collections.abc.Sequence[int | str] | None = None,
    pooler: typing.Literal[
        "cls",
        "cls_before_pooler",
        "avg",
        "avg_top2",
        "avg_first_last",
        "avg_layer1_last",
        "weighted_mean",
        "last_token",
    ]
    | None = None,
    revision: str | None = None,
    base: str | None = None,
    tokenizer: str | None = None,
    prompt: str | None = None,
    prompt_name: str | None = None,
    teacher_pooler: typing.Literal[
        "cls",
        "cls_before_pooler",
        "avg",
        "avg_top2",
        "avg_first_last",
        "avg_layer1_last",
        "weighted_mean",
        "last_token",
    ]
    | None = None,
    teacher_revision: str | None = None,
    teacher_prompt: str | None = None,
    teacher_prompt_name: str | None = None,
    split_sentences: bool = False,
    min_words: int = 1,
    max_words: int | None = None,
    on_bad_line: typing.Literal["stop", "skip"] = "stop",
    text_column: str | None = None,
    encoding: str | None = None,
    num_queries: int = 2000,
    num_pairs: int = 20000,
    seed: int = 0,
    price_per_hour: float | None = None,
    memory: bool = True,
    device: str | None = None,
    compute_dtype: typing.Literal["auto", "float32", "bfloat16"] = "auto",
    labels: str | os.PathLike[str] | None = None,
    queries: str | os.PathLike[str] | None = None,
    documents: str | os.PathLike[str] | None = None,
    qrels: str | os.PathLike[str] | None = None,
    least: collections.abc.Mapping[str, float] = {"spearman_random": 0.72, "spearman_near": 0.4, "rank_ratio": 0.5},
    report: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> CompareResult:
    """Compare students with their teacher without labels: closeness, speed, size; and a verdict.

    Args:
        teacher: A model, or the folder of its embeddings.
        student: Model to judge, or a list of them.
        corpus: Sentences to compare on. Default: those of a teacher that is a store.
        labels: Table of your own: sentence1, sentence2, score.
        queries: Queries of your own: _id, text.
        documents: Documents for `queries`: _id, text, perhaps title.
        qrels: Which answer which: query-id, corpus-id, score.
        least: Least values of metrics, by which the verdict is made.
        report: File to write as a page of HTML with pictures.
        keep_layers: Cut the student: numbers of the layers to keep, such as 0,3,5.
        pooler: How token vectors become the vector of a sentence: cls, cls_before_pooler, avg, avg_top2,
            avg_first_last, avg_layer1_last, weighted_mean, last_token. Default: what the model's folder says, else
            cls.
        revision: Branch, tag or commit of a hub model.
        base: For a file of weights (.pth): the model it was trained from. Default: read from its tensors.
        tokenizer: For a file of weights: the model whose tokenizer it has. Default: the base's, else one of that
            size.
        prompt: Text before every sentence. Default: the folder's default prompt; '' for none.
        prompt_name: A prompt of the model's folder, by its name.
        teacher_pooler: The teacher's pooling, as for pooler. Default: what its folder says, else cls.
        teacher_revision: Branch, tag or commit of a hub teacher.
        teacher_prompt: As prompt, before the sentences that the teacher gets.
        teacher_prompt_name: As prompt_name, of the teacher's folder.
        split_sentences: Split each text into its sentences.
        min_words: Drop sentences with fewer words.
        max_words: Drop sentences with more words.
        on_bad_line: At a line that is not UTF-8: stop with its number, or skip and count it.
        text_column: Column that holds the text, in a csv, JSON or parquet file or a hub data set.
        encoding: Encoding of the text, such as utf-16 or cp1252. Default: UTF-8.
        num_queries: Sentences, drawn by the seed, whose neighbours among all others are compared.
        num_pairs: Random pairs of sentences whose cosines are compared, beside the near ones.
        seed: Seed of what is drawn.
        price_per_hour: Price of an hour of this machine; shows what a million sentences cost.
        memory: Measure each model's peak memory, in a process of its own.
        device: cpu, cuda or cuda:N. Default: a GPU if there is one.
        compute_dtype: Number format of matrix products. auto takes bfloat16 where it is faster here.
        progress: Draw bars and print log lines, on stderr or in the notebook. Default: the logger `distilcse_cli`
            gets them.

    Returns:
        The figures of teacher and students, and the verdict; its `require()` raises it where a student is no good.

    Raises:
        DistilCSEError: A model, the corpus, a table or a setting cannot be used.
    """

def convert(
    weights: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    corpus: str | os.PathLike[str] | collections.abc.Iterable[str | os.PathLike[str]] | None = None,
    pooler: typing.Literal[
        "cls",
        "cls_before_pooler",
        "avg",
        "avg_top2",
        "avg_first_last",
        "avg_layer1_last",
        "weighted_mean",
        "last_token",
    ]
    | None = None,
    revision: str | None = None,
    base: str | None = None,
    tokenizer: str | None = None,
    prompt: str | None = None,
    prompt_name: str | None = None,
    max_length: int | None = None,
    vocab_size: int | None = None,
    save_dtype: typing.Literal["float32", "float16", "bfloat16"] = "float32",
    progress: bool = False,
) -> Conversion:
    """Turn a file of weights into a model folder, or a model folder into a smaller one.

    Args:
        weights: State dict, .pth or .safetensors, or a catalogue name of one. To make it smaller, also a model folder.
        out: Folder for the model; must not exist or be empty.
        corpus: Sentences for `vocab_size`.
        pooler: How token vectors become the vector of a sentence: cls, cls_before_pooler, avg, avg_top2,
            avg_first_last, avg_layer1_last, weighted_mean, last_token. Default: what the model's folder says, else
            cls.
        revision: Branch, tag or commit of a hub model.
        base: For a file of weights (.pth): the model it was trained from. Default: read from its tensors.
        tokenizer: For a file of weights: the model whose tokenizer it has. Default: the base's, else one of that
            size.
        prompt: Text before every sentence. Default: the folder's default prompt; '' for none.
        prompt_name: A prompt of the model's folder, by its name.
        max_length: Cut sentences to that many tokens, special tokens included. Default: the model's own limit.
        vocab_size: Cut the student's vocabulary to that many entries: those that the corpus uses most, and all that
            a text falls back on. Default: keep it.
        save_dtype: Number format of the weights on disk; checkpoints keep all digits. Computing is as with float32.
        progress: Draw bars and print log lines, on stderr or in the notebook. Default: the logger `distilcse_cli`
            gets them.

    Returns:
        Architecture and sizes of the model.

    Raises:
        UsageError: `vocab_size` without `corpus`, or a folder that would stay as it is.
        DataError: The corpus cannot be read, or `out` is in the way.
        ModelError: The file, the base or the tokenizer is unfit.
    """

def distill(
    *,
    student: str | os.PathLike[str],
    teacher: str | os.PathLike[str] | None = None,
    corpus: str | os.PathLike[str] | collections.abc.Iterable[str | os.PathLike[str]] | None = None,
    embeddings: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    keep_layers: collections.abc.Sequence[int | str] | None = None,
    pooler: typing.Literal[
        "cls",
        "cls_before_pooler",
        "avg",
        "avg_top2",
        "avg_first_last",
        "avg_layer1_last",
        "weighted_mean",
        "last_token",
    ]
    | None = None,
    revision: str | None = None,
    base: str | None = None,
    tokenizer: str | None = None,
    prompt: str | None = None,
    prompt_name: str | None = None,
    teacher_pooler: typing.Literal[
        "cls",
        "cls_before_pooler",
        "avg",
        "avg_top2",
        "avg_first_last",
        "avg_layer1_last",
        "weighted_mean",
        "last_token",
    ]
    | None = None,
    teacher_revision: str | None = None,
    teacher_prompt: str | None = None,
    teacher_prompt_name: str | None = None,
    split_sentences: bool = False,
    min_words: int = 1,
    max_words: int | None = None,
    on_bad_line: typing.Literal["stop", "skip"] = "stop",
    text_column: str | None = None,
    encoding: str | None = None,
    batch_size: int = 64,
    lr: float | None = None,
    logit_scale: float = 2.718281828459045,
    eval_every: int = 400,
    loss: typing.Literal["ckd", "mse", "ckd+mse", "cosine", "kl"] = "mse",
    bank_size: int = 65536,
    bank: typing.Literal["shared", "per-rank"] = "shared",
    false_negative_cosine: float | None = None,
    teacher_dropout: bool = False,
    vocab_size: int | None = None,
    layers: int | None = None,
    space: typing.Literal["own", "teacher"] = "own",
    epochs: int = 1,
    max_steps: int | None = None,
    micro_batch_tokens: int | None = None,
    mask_same_text: bool = True,
    warmup_epochs: float = 0.1,
    learn_logit_scale: bool = True,
    max_length: int = 64,
    grad_clip: float = 1.0,
    num_held_out: int = 1000,
    dropout: bool = False,
    patience: float | None = None,
    save_every: int = 500,
    tensorboard: bool = False,
    save_dtype: typing.Literal["float32", "float16", "bfloat16"] = "float32",
    seed: int = 1111,
    device: str | None = None,
    compute_dtype: typing.Literal["auto", "float32", "bfloat16"] = "auto",
    rendezvous_timeout: float = 10.0,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> DistillReport:
    """Stage 1: train a student on its teacher's embeddings, and save it as a folder.

    Args:
        student: The model that the student starts from: folder, catalogue name, hub id or file of weights.
        teacher: The model to learn from; None if `embeddings` is all that there is of it.
        corpus: Text. Default: the sentences of `embeddings`, else News-5m if downloaded, else those of news-articles.
        embeddings: Folder that `extract` or `import_vectors` wrote. Default: made now, and kept in the data home.
        out: Folder for the student; must not exist or be empty. Default: named after the models, in the working folder.
        resume: Continue an interrupted run; without one, start it. Of a finished run, return the report.
        overwrite: Replace the student in `out`, or start an interrupted run anew.
        keep_layers: Cut the student: numbers of the layers to keep, such as 0,3,5.
        pooler: How token vectors become the vector of a sentence: cls, cls_before_pooler, avg, avg_top2,
            avg_first_last, avg_layer1_last, weighted_mean, last_token. Default: what the model's folder says, else
            cls.
        revision: Branch, tag or commit of a hub model.
        base: For a file of weights (.pth): the model it was trained from. Default: read from its tensors.
        tokenizer: For a file of weights: the model whose tokenizer it has. Default: the base's, else one of that
            size.
        prompt: Text before every sentence. Default: the folder's default prompt; '' for none.
        prompt_name: A prompt of the model's folder, by its name.
        teacher_pooler: The teacher's pooling, as for pooler. Default: what its folder says, else cls.
        teacher_revision: Branch, tag or commit of a hub teacher.
        teacher_prompt: As prompt, before the sentences that the teacher gets.
        teacher_prompt_name: As prompt_name, of the teacher's folder.
        split_sentences: Split each text into its sentences.
        min_words: Drop sentences with fewer words.
        max_words: Drop sentences with more words.
        on_bad_line: At a line that is not UTF-8: stop with its number, or skip and count it.
        text_column: Column that holds the text, in a csv, JSON or parquet file or a hub data set.
        encoding: Encoding of the text, such as utf-16 or cp1252. Default: UTF-8.
        batch_size: Sentences (in stage 2: triples) of an optimizer step, for each process.
        lr: Highest learning rate: a linear warm-up leads to it, a cosine from it to 0. In stage 1, default: 0.0005;
            0.001 for a student cut to one or two layers, 0.005 for one cut to none.
        logit_scale: Cosines are multiplied by it (1 / temperature). The value training starts from.
        eval_every: Steps between two development scores; 0 takes one at the end only.
        loss: What the student learns. mse, cosine: come near the teacher's row; ckd: pick it out of batch and bank;
            ckd+mse: both; kl: match the teacher's own softmax over batch and bank.
        bank_size: Earlier teacher embeddings kept as further negatives; 0 keeps none.
        bank: shared: all processes choose among the teacher rows of the whole batch and one bank. per-rank: each
            among its own, as in the published code.
        false_negative_cosine: Do not count teacher rows as negatives whose cosine to the positive is larger.
        teacher_dropout: Run the teacher in the loop with its dropout on, as in the published code.
        vocab_size: Cut the student's vocabulary to that many entries: those that the corpus uses most, and all that
            a text falls back on. Default: keep it.
        layers: Cut the student to that many layers: those whose vectors come nearest to the teacher's. 0: to a
            table of token vectors.
        space: Where the student's vectors live. own: a projection to the teacher's width is dropped after training.
            teacher: it is kept, and the vectors can be compared with the teacher's.
        epochs: Passes over the data.
        max_steps: Stop after that many optimizer steps; the schedule ends there too.
        micro_batch_tokens: Most tokens through the student at once, padding included: the same gradient in less
            memory.
        mask_same_text: Do not count other copies of a sentence's own positive as negatives.
        warmup_epochs: Length of the warm-up, in epochs.
        learn_logit_scale: Train the logit scale, too.
        max_length: Cut training sentences to that many tokens, special tokens included.
        grad_clip: Largest norm of the gradient over all that is trained.
        num_held_out: Sentences (in stage 2: triples) kept out of training to score the student on; at most a
            twentieth.
        dropout: Train with the student's own dropout.
        patience: Stop after that many epochs without a better development score.
        save_every: Steps between two checkpoints; 0 saves only when interrupted and at the end.
        tensorboard: Write TensorBoard files, too: in OUT.run, at the end in OUT.
        save_dtype: Number format of the weights on disk; checkpoints keep all digits. Computing is as with float32.
        seed: Seeds the order of the data, new weights and dropout.
        device: cpu, cuda or cuda:N. Default: a GPU if there is one.
        compute_dtype: Number format of matrix products. auto takes bfloat16 where it is faster here.
        rendezvous_timeout: Minutes to wait for the other processes of a group.
        progress: Draw bars and print log lines, on stderr or in the notebook. Default: the logger `distilcse_cli`
            gets them.

    Returns:
        The student's folder and the numbers of its training.

    Raises:
        DistilCSEError: A model, the text or a setting cannot be used, or the loss is no longer finite.
        KeyboardInterrupt: The run was interrupted, and `resume` continues it.
    """

def download(
    names: str | collections.abc.Sequence[str],
    *,
    revision: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> list[pathlib.Path]:
    """Download models and data sets into the data home. What is here already stays as it is.

    Args:
        names: A name or group of the catalogue, a hub id (`owner/name`, `datasets/owner/name`), or a list of them.
        revision: Branch, tag or commit, for hub sources.
        folder: Use `folder/NAME` instead of the data home.
        progress: Draw bars and print log lines, on stderr or in the notebook. Default: the logger `distilcse_cli`
            gets them.

    Returns:
        The path of each.

    Raises:
        UsageError: The catalogue has no such name.
        NetworkError: A download failed.
    """

def evaluate(
    model: str | os.PathLike[str] | collections.abc.Sequence[str | os.PathLike[str]],
    *,
    teacher: str | os.PathLike[str] | None = None,
    tasks: str | collections.abc.Sequence[str] = "sts",
    data: str | os.PathLike[str] | None = None,
    pooler: typing.Literal[
        "cls",
        "cls_before_pooler",
        "avg",
        "avg_top2",
        "avg_first_last",
        "avg_layer1_last",
        "weighted_mean",
        "last_token",
    ]
    | None = None,
    revision: str | None = None,
    base: str | None = None,
    tokenizer: str | None = None,
    prompt: str | None = None,
    prompt_name: str | None = None,
    teacher_pooler: typing.Literal[
        "cls",
        "cls_before_pooler",
        "avg",
        "avg_top2",
        "avg_first_last",
        "avg_layer1_last",
        "weighted_mean",
        "last_token",
    ]
    | None = None,
    teacher_revision: str | None = None,
    teacher_prompt: str | None = None,
    teacher_prompt_name: str | None = None,
    mode: typing.Literal["test", "dev", "fasttest"] = "test",
    aggregation: typing.Literal["all", "mean", "wmean"] = "all",
    stsb_text: typing.Literal["tokenized", "raw"] = "tokenized",
    normalize: bool = False,
    exact_sequential: bool = False,
    overwrite: bool = False,
    max_length: int | None = None,
    batch_tokens: int | None = None,
    device: str | None = None,
    compute_dtype: typing.Literal["auto", "float32", "bfloat16"] = "auto",
    rendezvous_timeout: float = 10.0,
    progress: bool = False,
) -> EvalReport:
    """Score models on SentEval. Results of earlier runs are used again where model, data and settings are the same.

    Transfer tasks compute in float32 unless `compute_dtype` says otherwise: their scores depend on the last digits.

    Args:
        model: Model to score, or a list of them: folder, catalogue name, hub id or file of weights.
        teacher: Model to compare with: its row, and each difference to it.
        tasks: `sts`, `transfer` or `full`, or names of tasks such as `["STS12", "MR"]`.
        data: Folder that holds `downstream/`. Default: `$DISTILCSE_DATA/senteval`, else `datasets/senteval` in the data
            home.
        pooler: How token vectors become the vector of a sentence: cls, cls_before_pooler, avg, avg_top2,
            avg_first_last, avg_layer1_last, weighted_mean, last_token. Default: what the model's folder says, else
            cls.
        revision: Branch, tag or commit of a hub model.
        base: For a file of weights (.pth): the model it was trained from. Default: read from its tensors.
        tokenizer: For a file of weights: the model whose tokenizer it has. Default: the base's, else one of that
            size.
        prompt: Text before every sentence. Default: the folder's default prompt; '' for none.
        prompt_name: A prompt of the model's folder, by its name.
        teacher_pooler: The teacher's pooling, as for pooler. Default: what its folder says, else cls.
        teacher_revision: Branch, tag or commit of a hub teacher.
        teacher_prompt: As prompt, before the sentences that the teacher gets.
        teacher_prompt_name: As prompt_name, of the teacher's folder.
        mode: test; dev: development scores, with quick classifiers; fasttest: test with quick classifiers.
        aggregation: How the subsets of STS12 to STS16 become one number.
        stsb_text: Text of STSBenchmark: tokenized as in SentEval, or raw.
        normalize: Scale embeddings to length 1 first. Cosines stay the same, transfer scores do not.
        exact_sequential: Train the classifiers of the transfer tasks one by one, as SentEval does. Slow.
        overwrite: Score again what earlier runs have scored, and replace another model's MTEB files.
        max_length: Cut sentences to that many tokens, special tokens included. Default: the model's own limit.
        batch_tokens: Most tokens in a batch, padding included. Default: 1,536 on a CPU, 65,536 on a GPU.
        device: cpu, cuda or cuda:N. Default: a GPU if there is one.
        compute_dtype: Number format of matrix products. auto takes bfloat16 where it is faster here.
        rendezvous_timeout: Minutes to wait for the other processes of a group.
        progress: Draw bars and print log lines, on stderr or in the notebook. Default: the logger `distilcse_cli`
            gets them.

    Returns:
        Scores x 100 of each model on each task, and tables of them.

    Raises:
        UsageError: There is no such task, or a setting is out of range.
        DataError: A task's files are missing or malformed.
        ModelError: A model cannot be found or loaded, or gives numbers that are not finite.
    """

def export_asymmetric(
    student: str | os.PathLike[str],
    *,
    teacher: str | os.PathLike[str],
    out: str | os.PathLike[str],
    pooler: typing.Literal[
        "cls",
        "cls_before_pooler",
        "avg",
        "avg_top2",
        "avg_first_last",
        "avg_layer1_last",
        "weighted_mean",
        "last_token",
    ]
    | None = None,
    revision: str | None = None,
    base: str | None = None,
    tokenizer: str | None = None,
    prompt: str | None = None,
    prompt_name: str | None = None,
    teacher_pooler: typing.Literal[
        "cls",
        "cls_before_pooler",
        "avg",
        "avg_top2",
        "avg_first_last",
        "avg_layer1_last",
        "weighted_mean",
        "last_token",
    ]
    | None = None,
    teacher_revision: str | None = None,
    teacher_prompt: str | None = None,
    teacher_prompt_name: str | None = None,
    progress: bool = False,
) -> dict[str, typing.Any]:
    """Write a folder for sentence-transformers: queries through the student, documents through its teacher.

    Args:
        student: Model of the queries, in the space of `teacher`.
        teacher: Model of the documents.
        out: Folder to write; must not exist or be empty.
        pooler: How token vectors become the vector of a sentence: cls, cls_before_pooler, avg, avg_top2,
            avg_first_last, avg_layer1_last, weighted_mean, last_token. Default: what the model's folder says, else
            cls.
        revision: Branch, tag or commit of a hub model.
        base: For a file of weights (.pth): the model it was trained from. Default: read from its tensors.
        tokenizer: For a file of weights: the model whose tokenizer it has. Default: the base's, else one of that
            size.
        prompt: Text before every sentence. Default: the folder's default prompt; '' for none.
        prompt_name: A prompt of the model's folder, by its name.
        teacher_pooler: The teacher's pooling, as for pooler. Default: what its folder says, else cls.
        teacher_revision: Branch, tag or commit of a hub teacher.
        teacher_prompt: As prompt, before the sentences that the teacher gets.
        teacher_prompt_name: As prompt_name, of the teacher's folder.
        progress: Draw bars and print log lines, on stderr or in the notebook. Default: the logger `distilcse_cli`
            gets them.

    Returns:
        Names, widths and sizes of both, as `--json` prints them.

    Raises:
        UsageError: The student is not in the teacher's space.
        DataError: `out` is in the way.
    """

def export_onnx(
    student: str | os.PathLike[str],
    *,
    sentences: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    pooler: typing.Literal[
        "cls",
        "cls_before_pooler",
        "avg",
        "avg_top2",
        "avg_first_last",
        "avg_layer1_last",
        "weighted_mean",
        "last_token",
    ]
    | None = None,
    revision: str | None = None,
    base: str | None = None,
    tokenizer: str | None = None,
    prompt: str | None = None,
    prompt_name: str | None = None,
    int8: bool = False,
    min_cosine: float | None = None,
    progress: bool = False,
) -> dict[str, typing.Any]:
    """Write a student as an ONNX graph into its own folder, where other programs look for it.

    Args:
        student: Folder of the student.
        sentences: File of sentences, one a line; the graph is checked on the first 64. Default: English ones of the
            package's own.
        overwrite: Replace the graphs that are there.
        pooler: How token vectors become the vector of a sentence: cls, cls_before_pooler, avg, avg_top2,
            avg_first_last, avg_layer1_last, weighted_mean, last_token. Default: what the model's folder says, else
            cls.
        revision: Branch, tag or commit of a hub model.
        base: For a file of weights (.pth): the model it was trained from. Default: read from its tensors.
        tokenizer: For a file of weights: the model whose tokenizer it has. Default: the base's, else one of that
            size.
        prompt: Text before every sentence. Default: the folder's default prompt; '' for none.
        prompt_name: A prompt of the model's folder, by its name.
        int8: Also a graph of 8-bit integers, onnx/model_quantized.onnx.
        min_cosine: For --int8: the least cosine to torch's embedding that a sentence may have. Default: 0.97.
        progress: Draw bars and print log lines, on stderr or in the notebook. Default: the logger `distilcse_cli`
            gets them.

    Returns:
        Files, bytes, and how far the graphs are from torch, as `--json` prints them.

    Raises:
        UsageError: A graph is there already, or the packages of the extra `onnx` are missing.
        ModelError: The model cannot be such a graph.
        VerdictError: A graph is too far from torch; nothing is written.
    """

def export_web(
    student: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    sentences: str | os.PathLike[str] | None = None,
    pooler: typing.Literal[
        "cls",
        "cls_before_pooler",
        "avg",
        "avg_top2",
        "avg_first_last",
        "avg_layer1_last",
        "weighted_mean",
        "last_token",
    ]
    | None = None,
    revision: str | None = None,
    base: str | None = None,
    tokenizer: str | None = None,
    prompt: str | None = None,
    prompt_name: str | None = None,
    int8: bool = False,
    min_cosine: float | None = None,
    progress: bool = False,
) -> dict[str, typing.Any]:
    """Write a page that searches sentences in the browser. npm fetches its parts.

    Args:
        student: Model of the page.
        out: Folder for the page; must not exist or be empty.
        sentences: File of sentences, one a line; the page takes the first 256. Default: English ones of the package's
            own.
        pooler: How token vectors become the vector of a sentence: cls, cls_before_pooler, avg, avg_top2,
            avg_first_last, avg_layer1_last, weighted_mean, last_token. Default: what the model's folder says, else
            cls.
        revision: Branch, tag or commit of a hub model.
        base: For a file of weights (.pth): the model it was trained from. Default: read from its tensors.
        tokenizer: For a file of weights: the model whose tokenizer it has. Default: the base's, else one of that
            size.
        prompt: Text before every sentence. Default: the folder's default prompt; '' for none.
        prompt_name: A prompt of the model's folder, by its name.
        int8: Also a graph of 8-bit integers, onnx/model_quantized.onnx.
        min_cosine: For --int8: the least cosine to torch's embedding that a sentence may have. Default: 0.97.
        progress: Draw bars and print log lines, on stderr or in the notebook. Default: the logger `distilcse_cli`
            gets them.

    Returns:
        Files and bytes, as `--json` prints them.

    Raises:
        UsageError: npm or the packages of the extra `onnx` are missing.
        DataError: `out` is in the way.
        ModelError: The model cannot be such a graph.
        NetworkError: npm fetches nothing.
        VerdictError: The graph is too far from torch; nothing is written.
    """

def extract(
    *,
    teacher: str | os.PathLike[str] | None = None,
    corpus: str | os.PathLike[str] | collections.abc.Iterable[str | os.PathLike[str]] | None = None,
    out: str | os.PathLike[str] | None = None,
    pooler: typing.Literal[
        "cls",
        "cls_before_pooler",
        "avg",
        "avg_top2",
        "avg_first_last",
        "avg_layer1_last",
        "weighted_mean",
        "last_token",
    ]
    | None = None,
    revision: str | None = None,
    base: str | None = None,
    tokenizer: str | None = None,
    prompt: str | None = None,
    prompt_name: str | None = None,
    endpoint: str | None = None,
    model: str | None = None,
    dimensions: int | None = None,
    terms: str | None = None,
    api_key_variable: str = "OPENAI_API_KEY",
    request_size: int = 32,
    concurrency: int = 4,
    encoding_format: typing.Literal["base64", "float"] = "base64",
    price_per_million: float | None = None,
    split_sentences: bool = False,
    min_words: int = 1,
    max_words: int | None = None,
    on_bad_line: typing.Literal["stop", "skip"] = "stop",
    text_column: str | None = None,
    encoding: str | None = None,
    max_length: int | None = None,
    normalize: bool | None = None,
    dtype: typing.Literal["float32", "float16"] = "float32",
    batch_tokens: int | None = None,
    device: str | None = None,
    compute_dtype: typing.Literal["auto", "float32", "bfloat16"] = "auto",
    rendezvous_timeout: float = 10.0,
    progress: bool = False,
) -> ExtractReport:
    """Run the teacher once over a corpus, and keep its embeddings. After an interruption, a new call continues.

    Args:
        teacher: The teacher: folder, catalogue name, hub id or file of weights; or name a server with `endpoint`.
        corpus: Text without labels. Default: News-5m if it is downloaded, else the sentences of news-articles.
        out: Folder for embeddings.npy, sentences.txt and manifest.json. Default: named after the teacher.
        pooler: How token vectors become the vector of a sentence: cls, cls_before_pooler, avg, avg_top2,
            avg_first_last, avg_layer1_last, weighted_mean, last_token. Default: what the model's folder says, else
            cls.
        revision: Branch, tag or commit of a hub model.
        base: For a file of weights (.pth): the model it was trained from. Default: read from its tensors.
        tokenizer: For a file of weights: the model whose tokenizer it has. Default: the base's, else one of that
            size.
        prompt: Text before every sentence. Default: the folder's default prompt; '' for none.
        prompt_name: A prompt of the model's folder, by its name.
        endpoint: Take the rows from this server's /v1/embeddings, not from a model here.
        model: The server's name of the model.
        dimensions: Ask the server for that many numbers a row. Default: its own.
        terms: Terms of use of the server's vectors, in your words. The student's model card repeats them.
        api_key_variable: Variable that holds the server's key, if it wants one.
        request_size: Sentences in a request to the server.
        concurrency: Requests to the server at a time.
        encoding_format: Form in which the server is asked for numbers.
        price_per_million: Price of a million tokens. The result then says the cost.
        split_sentences: Split each text into its sentences.
        min_words: Drop sentences with fewer words.
        max_words: Drop sentences with more words.
        on_bad_line: At a line that is not UTF-8: stop with its number, or skip and count it.
        text_column: Column that holds the text, in a csv, JSON or parquet file or a hub data set.
        encoding: Encoding of the text, such as utf-16 or cp1252. Default: UTF-8.
        max_length: Cut sentences to that many tokens, special tokens included. Default: the model's own limit.
        normalize: Scale embeddings to length 1. Default: what the model's folder says.
        dtype: Number format of the embeddings written.
        batch_tokens: Most tokens in a batch, padding included. Default: 1,536 on a CPU, 65,536 on a GPU.
        device: cpu, cuda or cuda:N. Default: a GPU if there is one.
        compute_dtype: Number format of matrix products. auto takes bfloat16 where it is faster here.
        rendezvous_timeout: Minutes to wait for the other processes of a group.
        progress: Draw bars and print log lines, on stderr or in the notebook. Default: the logger `distilcse_cli`
            gets them.

    Returns:
        The store's folder, its (N, D) `embeddings` and the numbers of the run.

    Raises:
        UsageError: A setting is out of range or does not apply.
        DataError: The corpus cannot be read, or `out` holds something else.
        ModelError: The teacher cannot be found or loaded, or gives numbers that are not finite.
        NetworkError: The server does not answer.
    """

def finetune(
    *,
    student: str | os.PathLike[str],
    triplets: str
    | os.PathLike[str]
    | collections.abc.Iterable[
        str | os.PathLike[str] | collections.abc.Sequence[str] | collections.abc.Mapping[str, str]
    ]
    | None = None,
    teacher: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    pooler: typing.Literal[
        "cls",
        "cls_before_pooler",
        "avg",
        "avg_top2",
        "avg_first_last",
        "avg_layer1_last",
        "weighted_mean",
        "last_token",
    ]
    | None = None,
    revision: str | None = None,
    base: str | None = None,
    tokenizer: str | None = None,
    prompt: str | None = None,
    prompt_name: str | None = None,
    teacher_pooler: typing.Literal[
        "cls",
        "cls_before_pooler",
        "avg",
        "avg_top2",
        "avg_first_last",
        "avg_layer1_last",
        "weighted_mean",
        "last_token",
    ]
    | None = None,
    teacher_revision: str | None = None,
    teacher_prompt: str | None = None,
    teacher_prompt_name: str | None = None,
    columns: collections.abc.Sequence[str] | None = None,
    header: bool | None = None,
    encoding: str | None = None,
    on_bad_line: typing.Literal["stop", "skip"] = "stop",
    micro_batch_tokens: int | None = 16384,
    lr: float = 5e-05,
    logit_scale: float = 20.0,
    eval_every: int = 100,
    exponential_scale: bool = False,
    keep_teacher: float = 0.0,
    epochs: int = 1,
    max_steps: int | None = None,
    batch_size: int = 128,
    mask_same_text: bool = True,
    warmup_epochs: float = 0.1,
    learn_logit_scale: bool = True,
    max_length: int = 64,
    grad_clip: float = 1.0,
    num_held_out: int = 1000,
    dropout: bool = False,
    patience: float | None = None,
    save_every: int = 500,
    tensorboard: bool = False,
    save_dtype: typing.Literal["float32", "float16", "bfloat16"] = "float32",
    seed: int = 1111,
    device: str | None = None,
    compute_dtype: typing.Literal["auto", "float32", "bfloat16"] = "auto",
    rendezvous_timeout: float = 10.0,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> FinetuneReport:
    """Stage 2: fine-tune a student on triples of sentences, and save it as a folder.

    Args:
        student: The model to fine-tune: folder, catalogue name, hub id or file of weights.
        triplets: Anchor, positive and, if there are any, hard negatives in each row. Default: the NLI triples if they
            are downloaded.
        teacher: Model that `keep_teacher` keeps the student near.
        out: Folder for the student; must not exist or be empty. Default: named after the model, in the working folder.
        resume: Continue an interrupted run; without one, start it. Of a finished run, return the report.
        overwrite: Replace the student in `out`, or start an interrupted run anew.
        pooler: How token vectors become the vector of a sentence: cls, cls_before_pooler, avg, avg_top2,
            avg_first_last, avg_layer1_last, weighted_mean, last_token. Default: what the model's folder says, else
            cls.
        revision: Branch, tag or commit of a hub model.
        base: For a file of weights (.pth): the model it was trained from. Default: read from its tensors.
        tokenizer: For a file of weights: the model whose tokenizer it has. Default: the base's, else one of that
            size.
        prompt: Text before every sentence. Default: the folder's default prompt; '' for none.
        prompt_name: A prompt of the model's folder, by its name.
        teacher_pooler: The teacher's pooling, as for pooler. Default: what its folder says, else cls.
        teacher_revision: Branch, tag or commit of a hub teacher.
        teacher_prompt: As prompt, before the sentences that the teacher gets.
        teacher_prompt_name: As prompt_name, of the teacher's folder.
        columns: Names of anchor, positive and hard negatives. Default: known names, else their order.
        header: Whether the first row of a csv or tsv file names the columns. Default: decided by the names.
        encoding: Encoding of the text, such as utf-16 or cp1252. Default: UTF-8.
        on_bad_line: At a row of another width, with a blank cell or not in UTF-8: stop with its line, or skip and
            count it.
        micro_batch_tokens: Most tokens through the student at once, padding included: the same gradient in less
            memory.
        lr: Highest learning rate: a linear warm-up leads to it, a cosine from it to 0. In stage 1, default: 0.0005;
            0.001 for a student cut to one or two layers, 0.005 for one cut to none.
        logit_scale: Cosines are multiplied by it (1 / temperature). The value training starts from.
        eval_every: Steps between two development scores; 0 takes one at the end only.
        exponential_scale: Train the scale's logarithm, as stage 1 does, not the scale itself.
        keep_teacher: Keep the student near teacher: weight of 1 - cos to it.
        epochs: Passes over the data.
        max_steps: Stop after that many optimizer steps; the schedule ends there too.
        batch_size: Sentences (in stage 2: triples) of an optimizer step, for each process.
        mask_same_text: Do not count other copies of a sentence's own positive as negatives.
        warmup_epochs: Length of the warm-up, in epochs.
        learn_logit_scale: Train the logit scale, too.
        max_length: Cut training sentences to that many tokens, special tokens included.
        grad_clip: Largest norm of the gradient over all that is trained.
        num_held_out: Sentences (in stage 2: triples) kept out of training to score the student on; at most a
            twentieth.
        dropout: Train with the student's own dropout.
        patience: Stop after that many epochs without a better development score.
        save_every: Steps between two checkpoints; 0 saves only when interrupted and at the end.
        tensorboard: Write TensorBoard files, too: in OUT.run, at the end in OUT.
        save_dtype: Number format of the weights on disk; checkpoints keep all digits. Computing is as with float32.
        seed: Seeds the order of the data, new weights and dropout.
        device: cpu, cuda or cuda:N. Default: a GPU if there is one.
        compute_dtype: Number format of matrix products. auto takes bfloat16 where it is faster here.
        rendezvous_timeout: Minutes to wait for the other processes of a group.
        progress: Draw bars and print log lines, on stderr or in the notebook. Default: the logger `distilcse_cli`
            gets them.

    Returns:
        The student's folder and the numbers of its training.

    Raises:
        DistilCSEError, KeyboardInterrupt: As from `distill`.
    """

def import_vectors(
    files: str | os.PathLike[str] | collections.abc.Sequence[str | os.PathLike[str]],
    *,
    on_bad_line: typing.Literal["stop", "skip"] = "stop",
    vector_column: str | None = None,
    name: str,
    terms: str | None = None,
    dtype: typing.Literal["float32", "float16"] = "float32",
    text_column: str | None = None,
    encoding: str | None = None,
    min_words: int = 1,
    max_words: int | None = None,
    out: str | os.PathLike[str],
    overwrite: bool = False,
    progress: bool = False,
) -> ImportReport:
    """Keep vectors of any model, such as a hosted one, as a store that a student can be distilled from.

    Args:
        files: Texts with their vectors: parquet, JSON or csv, or a hub data set id; or vectors.npy and texts.txt.
        out: Folder for the store; must not exist or be empty.
        overwrite: Replace the store in `out`.
        on_bad_line: At a line, text or vector that cannot be used: stop with its number, or skip and count it.
        vector_column: Column that holds the vectors. Default: embedding, embeddings, vector or vectors.
        name: The model that made the vectors, such as openai/text-embedding-3-small.
        terms: Terms of use of the vectors, in your words. The student's model card repeats them.
        dtype: Number format of the rows written.
        text_column: Column that holds the text, in a csv, JSON or parquet file or a hub data set.
        encoding: Encoding of the text, such as utf-16 or cp1252. Default: UTF-8.
        min_words: Drop sentences with fewer words.
        max_words: Drop sentences with more words.
        progress: Draw bars and print log lines, on stderr or in the notebook. Default: the logger `distilcse_cli`
            gets them.

    Returns:
        The store's folder, its (N, D) `embeddings`, and counts of the texts.

    Raises:
        UsageError: A setting is out of range, or a `.npy` file comes without its texts.
        DataError: An input cannot be read, or `out` is in the way.
        NetworkError: The hub does not answer.
    """

def index(
    rows: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    sentences: str | os.PathLike[str] | None = None,
    model: str | os.PathLike[str] | None = None,
    text_column: str | None = None,
    encoding: str | None = None,
    pooler: typing.Literal[
        "cls",
        "cls_before_pooler",
        "avg",
        "avg_top2",
        "avg_first_last",
        "avg_layer1_last",
        "weighted_mean",
        "last_token",
    ]
    | None = None,
    revision: str | None = None,
    base: str | None = None,
    tokenizer: str | None = None,
    prompt: str | None = None,
    prompt_name: str | None = None,
    factory: str | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    progress: bool = False,
) -> IndexReport:
    """Make a FAISS index of rows, which `search` searches. It names the model whose space the rows live in.

    Args:
        rows: An embedding store, or a .npy file of `distilcse encode`.
        out: Folder for the index.
        sentences: For a .npy file: the text that was encoded.
        model: For a .npy file: the model that encoded it.
        overwrite: Replace the index in `out`.
        text_column: Column that holds the text, in a csv, JSON or parquet file or a hub data set.
        encoding: Encoding of the text, such as utf-16 or cp1252. Default: UTF-8.
        pooler: How token vectors become the vector of a sentence: cls, cls_before_pooler, avg, avg_top2,
            avg_first_last, avg_layer1_last, weighted_mean, last_token. Default: what the model's folder says, else
            cls.
        revision: Branch, tag or commit of a hub model.
        base: For a file of weights (.pth): the model it was trained from. Default: read from its tensors.
        tokenizer: For a file of weights: the model whose tokenizer it has. Default: the base's, else one of that
            size.
        prompt: Text before every sentence. Default: the folder's default prompt; '' for none.
        prompt_name: A prompt of the model's folder, by its name.
        factory: Kind of index, in the words of FAISS' index_factory, such as HNSW32,Flat. Default: Flat up to
            100,000 rows, IVF with 8-bit codes beyond.
        device: cpu; or cuda, cuda:N with faiss-gpu.
        progress: Draw bars and print log lines, on stderr or in the notebook. Default: the logger `distilcse_cli`
            gets them.

    Returns:
        Size, kind and recall of the index.

    Raises:
        UsageError: A .npy file comes without its text and model, or a store with them.
        DataError: The rows cannot be read, or are not those of the text and model; `out` is in the way.
        DeviceError: FAISS is not installed, or cannot use the device.
    """

def load(
    model: str | os.PathLike[str],
    *,
    pooler: typing.Literal[
        "cls",
        "cls_before_pooler",
        "avg",
        "avg_top2",
        "avg_first_last",
        "avg_layer1_last",
        "weighted_mean",
        "last_token",
    ]
    | None = None,
    revision: str | None = None,
    base: str | None = None,
    tokenizer: str | None = None,
    prompt: str | None = None,
    prompt_name: str | None = None,
    max_length: int | None = None,
    normalize: bool | None = None,
    batch_tokens: int | None = None,
    device: str | None = None,
    compute_dtype: typing.Literal["auto", "float32", "bfloat16"] = "auto",
    progress: bool = False,
) -> Model:
    """Load a model that embeds sentences.

    Args:
        model: Folder, catalogue name, hub id or file of weights; or what `distill`, `finetune` or `align` returned.
        pooler: How token vectors become the vector of a sentence: cls, cls_before_pooler, avg, avg_top2,
            avg_first_last, avg_layer1_last, weighted_mean, last_token. Default: what the model's folder says, else
            cls.
        revision: Branch, tag or commit of a hub model.
        base: For a file of weights (.pth): the model it was trained from. Default: read from its tensors.
        tokenizer: For a file of weights: the model whose tokenizer it has. Default: the base's, else one of that
            size.
        prompt: Text before every sentence. Default: the folder's default prompt; '' for none.
        prompt_name: A prompt of the model's folder, by its name.
        max_length: Cut sentences to that many tokens, special tokens included. Default: the model's own limit.
        normalize: Scale embeddings to length 1. Default: what the model's folder says.
        batch_tokens: Most tokens in a batch, padding included. Default: 1,536 on a CPU, 65,536 on a GPU.
        device: cpu, cuda or cuda:N. Default: a GPU if there is one.
        compute_dtype: Number format of matrix products. auto takes bfloat16 where it is faster here.
        progress: Draw bars and print log lines, on stderr or in the notebook. Default: the logger `distilcse_cli`
            gets them.

    Raises:
        ModelError: It cannot be found or loaded.
        NetworkError: It had to be downloaded, and was not.
        DeviceError: The device does not exist.
    """

def push(
    student: str | os.PathLike[str],
    *,
    to_repo: str,
    private: bool = False,
    revision: str | None = None,
    progress: bool = False,
) -> dict[str, typing.Any]:
    """Upload a student to the Hugging Face hub: model, card and graphs, without the files of the training.

    Args:
        student: Folder of the student. It is loaded first, as a check.
        to_repo: `owner/name` of the repository; it is made if it does not exist.
        private: A new repository is private, and one that exists has to be.
        revision: Branch to commit to, made if need be. Default: the main one.
        progress: Draw bars and print log lines, on stderr or in the notebook. Default: the logger `distilcse_cli`
            gets them.

    Returns:
        Address, commit, files and bytes, as `--json` prints them.

    Raises:
        UsageError: No local folder, no token, or a name that is none.
        ModelError: The folder is no whole model, or has no card.
        NetworkError: The hub is out of reach or refuses; nothing is committed.
    """

def search(
    index: str | os.PathLike[str],
    queries: str | collections.abc.Iterable[str],
    *,
    model: str | os.PathLike[str] | None = None,
    pooler: typing.Literal[
        "cls",
        "cls_before_pooler",
        "avg",
        "avg_top2",
        "avg_first_last",
        "avg_layer1_last",
        "weighted_mean",
        "last_token",
    ]
    | None = None,
    revision: str | None = None,
    base: str | None = None,
    tokenizer: str | None = None,
    prompt: str | None = None,
    prompt_name: str | None = None,
    k: int = 10,
    nprobe: int | None = None,
    max_length: int | None = None,
    device: str | None = None,
    compute_dtype: typing.Literal["auto", "float32", "bfloat16"] = "auto",
    progress: bool = False,
) -> list[list[Hit]]:
    """Find the sentences of an index that are nearest to each query.

    Args:
        index: Folder that `index` wrote.
        queries: A text to search for, or several.
        model: Model that embeds the queries: that of the index, or a student in its space. Default: that of the index.
        pooler: How token vectors become the vector of a sentence: cls, cls_before_pooler, avg, avg_top2,
            avg_first_last, avg_layer1_last, weighted_mean, last_token. Default: what the model's folder says, else
            cls.
        revision: Branch, tag or commit of a hub model.
        base: For a file of weights (.pth): the model it was trained from. Default: read from its tensors.
        tokenizer: For a file of weights: the model whose tokenizer it has. Default: the base's, else one of that
            size.
        prompt: Text before every sentence. Default: the folder's default prompt; '' for none.
        prompt_name: A prompt of the model's folder, by its name.
        k: Results of each query.
        nprobe: Lists of the index to look into: more find more, and take longer. Default: what distilcse index
            chose.
        max_length: Cut sentences to that many tokens, special tokens included. Default: the model's own limit.
        device: cpu, cuda or cuda:N. Default: a GPU if there is one.
        compute_dtype: Number format of matrix products. auto takes bfloat16 where it is faster here.
        progress: Draw bars and print log lines, on stderr or in the notebook. Default: the logger `distilcse_cli`
            gets them.

    Returns:
        The results of each query, the nearest first.

    Raises:
        UsageError: The model is of another space, or `k` is larger than the index.
        DataError: The folder is no index, or a query is blank.
    """
