"""Numbers out of range and options that contradict each other: exit code 2, before anything is read."""

from collections.abc import Callable

import pytest

from tests.hostile.case import Case, ids
from tests.hostile.conftest import Ended

DISTILL = "distill --teacher {model} --student {other} --corpus {text} --out student"
FINETUNE = "finetune --student {other} --triplets {triples} --out student"
ENCODE = "encode {text} --model {model} --out rows.npy"
EXTRACT = "extract --teacher {model} --corpus {text} --out rows"
EVAL = "eval --model {model} --tasks STS16 --data {data}"


def bad(line: str, *options: str, code: int = 2) -> list[Case]:
    """Each of `--name value` is refused by its name."""
    command = line.partition(" ")[0]
    return [Case(f"{command} {one}", f"{line} {one}", code, one.split()[0].partition("=")[0]) for one in options]


CASES = [
    *bad(DISTILL, "--batch-size 0", "--batch-size -5", "--batch-size 1.5", "--batch-size many", "--bank-size -1"),
    *bad(DISTILL, "--lr nan", "--lr inf", "--lr 0", "--lr -1", "--lr 1e999", "--logit-scale 0", "--logit-scale nan"),
    *bad(DISTILL, "--epochs 0", "--max-steps 0", "--grad-clip inf", "--grad-clip 0", "--held-out -1", "--patience 0"),
    *bad(DISTILL, "--seed -1", f"--seed {2**32}", f"--seed {2**70}", "--warmup-epochs -1", "--warmup-epochs nan"),
    *bad(DISTILL, "--max-length 0", "--max-length 2", "--eval-every -1", "--save-every -1", "--micro-batch-tokens 0"),
    *bad(DISTILL, "--false-negative-cosine 2", "--false-negative-cosine nan", "--loss hinge", "--bank mine"),
    *bad(DISTILL, "--min-words 0", "--max-words 0", "--on-bad-line cry", "--preset mine", "--nproc 0", "--nproc -2"),
    *bad(DISTILL, "--compute-dtype float16", "--pooler nonesuch", "--teacher-pooler nonesuch"),
    *bad(FINETUNE, "--batch-size 0", "--lr nan", "--logit-scale -1", "--keep-teacher -1", "--keep-teacher nan"),
    *bad(FINETUNE, "--epochs 0", "--grad-clip nan", "--held-out -1", f"--seed {2**32}", "--patience inf"),
    *bad(FINETUNE, "--max-length 2", "--micro-batch-tokens -1", "--warmup-epochs inf", "--on-bad-line cry"),
    *bad(ENCODE, "--batch-tokens 0", "--batch-tokens -1", "--max-length 0", "--max-length 1", "--dtype int8"),
    *bad(ENCODE, "--compute-dtype fp8", "--nproc 0", "--nproc two"),
    *bad(EXTRACT, "--batch-tokens 0", "--max-length -3", "--min-words 0", "--dtype float64", "--nproc 0"),
    *bad(EVAL, "--mode quick", "--aggregation median", "--stsb-text old", "--batch-tokens 0", "--max-length 2"),
    *bad(EVAL, "--format xml", "--task-set all", "--nproc 0", "--compute-dtype fp8", "--teacher-pooler nonesuch"),
    Case("distill: an unknown device", f"{DISTILL} --device tpu", 2, "unknown device 'tpu'"),
    Case("encode: a device without a number", f"{ENCODE} --device cuda:x", 2, "unknown device 'cuda:x'"),
    Case("extract: a GPU nobody has", f"{EXTRACT} --device cuda:99", 5, "no device cuda:99"),
    *(
        Case(
            f"distill: no negatives for {loss}",
            f"{DISTILL} --loss {loss} --batch-size 1 --bank-size 0",
            2,
            f"--bank-size 0 leaves {loss} no",
        )
        for loss in ("ckd", "kl", "ckd+mse")
    ),
    Case("distill: words upside down", f"{DISTILL} --min-words 5 --max-words 4", 2, "--max-words is 4"),
    Case("finetune: a weight without a teacher", f"{FINETUNE} --keep-teacher 0.5", 2, "go together"),
    Case("finetune: a teacher without a weight", f"{FINETUNE} --teacher {{model}}", 2, "go together"),
    Case("finetune: columns and no header", f"{FINETUNE} --columns a,b --no-header", 2, "--no-header denies"),
    Case("encode: no out for stdin", "encode --model {model}", 2, "name it: --out FILE.npy"),
    Case("encode: an unknown suffix", "encode {text} --model {model} --out rows.txt", 2, "cannot tell the format"),
    Case("encode: a second file that is missing", f"{ENCODE} more.txt", 3, "more.txt does not exist"),
    Case("extract: no corpus", "extract --teacher {model} --out rows", 2, "no --corpus is given"),
    Case("eval: no such task", "eval --model {model} --tasks STS17 --data {data}", 2, "there is no task 'STS17'"),
    Case("eval: no tasks", "eval --model {model} --task-set na --data {data}", 2, "--task-set na names no tasks"),
    Case("eval: an extra word", "eval --model {model} --data {data} nonsense", 2, "unexpected extra argument"),
    Case("eval: raw texts of no use", f"{EVAL} --stsb-text raw", 2, "--stsb-text raw is of no use"),
    Case(
        "eval: one revision for two", f"{EVAL} --model {{other}} --revision main", 2, "--revision goes with one model"
    ),
    Case("download: nothing to remove", "download --remove", 2, "nothing was named"),
    Case("download: no such thing", "download nonsense", 2, "nonsense"),
    Case("download: list and remove", "download --list --remove nli", 2, "exclude each other"),
    Case("download: a revision of a wheel", "download all-minilm-l6 --revision main", 2, "--revision main does not go"),
    Case("download: a revision out of the folder", "download a/b --revision ../../x", 2, "is no branch, tag or commit"),
    Case("download: an id out of the folder", "download ../../x", 2, "../../x"),
    Case("download: offline", "download nli --offline", 6, "forbids to download it"),
    Case("demo: no sentences", "demo --sentences 0", 2, "--sentences"),
    Case("no such command", "distil", 2, "No such command 'distil'"),
    Case("no such option", "env --nonsense", 2, "No such option: --nonsense"),
]


@pytest.mark.parametrize("hostile", CASES, ids=ids(CASES))
def test_a_number_out_of_range_is_refused_in_one_line(refuse: Callable[[Case], Ended], hostile: Case) -> None:
    refuse(hostile)


HUGE = [
    Case("distill: a bank larger than the corpus", f"{DISTILL} --bank-size {10**12} --max-steps 1", 0, "12 sentences"),
    Case("distill: a batch larger than the corpus", f"{DISTILL} --batch-size {10**12}", 0, "1 steps"),
    Case("encode: batches of any size", f"{ENCODE} --batch-tokens {10**18}", 0, "12 rows"),
    Case("distill: the largest seed", f"{DISTILL} --seed {2**32 - 1}", 0, "1 steps"),
    Case("distill: steps without end", f"{DISTILL} --max-steps {10**18}", 0, "1 steps"),
    Case("finetune: a batch larger than the table", f"{FINETUNE} --batch-size {10**12}", 0, "1 steps"),
]


@pytest.mark.parametrize("harmless", HUGE, ids=ids(HUGE))
def test_numbers_larger_than_anything_there_are_no_trouble(survive: Callable[[Case], Ended], harmless: Case) -> None:
    survive(harmless)
