"""A comparison as one page of HTML: the verdict, pictures in SVG, the table, the sentences that differ most.

The page loads nothing from elsewhere and runs no script. All text is escaped.
"""

from html import escape
from pathlib import Path

from distilcse_cli import __version__
from distilcse_cli.evaluation import pictures
from distilcse_cli.evaluation.compared import LABELS, CompareResult, Disagreement, StudentResult
from distilcse_cli.files import atomic_path

_STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1c2024; --soft: #60646c; --line: #d9dde3; --card:
  #f6f7f9; --good: #18794e; --bad: #c62a2f; --c0: #60646c; --c1: #0b68cb; --c2: #c4510c; --c3: #7d4bc4; --c4:
  #0a7d6c; --c5: #b1246a; }
@media (prefers-color-scheme: dark) { :root { --paper: #14161a; --ink: #e8eaed; --soft: #a3a9b3; --line: #343941;
  --card: #1d2025; --good: #55c98f; --bad: #ff8589; --c0: #a3a9b3; --c1: #6cb2ff; --c2: #ff9d5c; --c3: #c09bff;
  --c4: #4fd1bd; --c5: #ff86bd; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.2rem 1rem 3rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .4rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1rem 0 .4rem; }
p { margin: .4rem 0; }
.soft, figcaption, footer { color: var(--soft); font-size: .875rem; }
ul.verdicts { list-style: none; margin: .8rem 0; padding: 0; display: grid; gap: .5rem; }
ul.verdicts li { background: var(--card); border-left: 4px solid var(--good); border-radius: 4px; padding: .5rem
  .8rem; }
ul.verdicts li.bad { border-color: var(--bad); }
.mark { font-weight: 600; color: var(--good); }
.bad .mark { color: var(--bad); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
table.figures { min-width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .6rem; text-align: right; overflow-wrap: normal;
  vertical-align: top; }
thead th { min-width: 8rem; max-width: 14rem; overflow-wrap: anywhere; }
thead th:first-child { min-width: 0; }
th:first-child { text-align: left; font-weight: 400; position: sticky; left: 0; background: var(--paper); max-width:
  42vw; }
.pictures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); }
figcaption { margin-top: .4rem; }
figure { margin: 0; background: var(--card); border-radius: 6px; padding: .6rem .7rem .7rem; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .same { stroke: var(--soft); stroke-dasharray: 4 4; }
.key { display: flex; flex-wrap: wrap; gap: .1rem 1rem; margin: .3rem 0; font-size: .875rem; }
.key span::before { content: ""; display: inline-block; width: .7em; height: .7em; border-radius: 2px; margin-right:
  .4em; background: var(--of); }
ol.worst { margin: 0; padding: 0; list-style: none; counter-reset: n; display: grid; gap: .6rem; }
ol.worst li { background: var(--card); border-radius: 6px; padding: .5rem .8rem; }
ol.worst dl { margin: .3rem 0 0; display: grid; grid-template-columns: auto 1fr; gap: .15rem .7rem;
  font-size: .875rem; }
dl.meanings { margin: .3rem 0 0; font-size: .875rem; }
dt { color: var(--soft); }
dd { margin: 0; }
.meanings dd { margin-bottom: .4rem; }
summary { cursor: pointer; padding: .3rem 0; }
"""
_SHARE = "share, 0 to 1, of the teacher's {} that the student names, too, searching its own vectors"
_ASYMMETRIC = "the same, but the student's query searches the teacher's vectors, as with an index that you keep"
_RECALL = "share, 0 to 1, of a query's right documents that are among the first {}, mean over your queries"
MEANINGS = {
    "num_layers": "transformer layers",
    "num_parameters": "weights, in millions",
    "embedding_dim": "numbers in a vector",
    "bytes_on_disk": "size of the model's folder",
    "peak_memory_bytes": "most memory of a whole process, with Python and torch, that embeds the timed sentences",
    "sentences_per_second": "speed, tokenization included: the median of rounds in which the models take turns",
    "seconds_per_million": "time for a million sentences at that speed",
    "cost_per_million": "what they cost at the price per hour that you named",
    "spearman": "rank correlation, up to 1, of the cosines by teacher and student, of random and near pairs together",
    "spearman_random": "the same of random pairs: are topics told apart as the teacher does?",
    "spearman_near": "the same of near pairs: are close sentences ranked as the teacher does?",
    "shared1": _SHARE.format("nearest sentences"),
    "shared10": _SHARE.format("ten nearest"),
    "shared100": _SHARE.format("hundred nearest"),
    "asymmetric1": _ASYMMETRIC,
    "asymmetric10": _ASYMMETRIC,
    "asymmetric100": _ASYMMETRIC,
    "cosine": "mean cosine of a sentence's two vectors, up to 1",
    "spread": "near 1 all sentences lie close together, and the vectors are of little use",
    "uniformity": "how evenly the vectors cover the sphere: the lower, the more evenly; near 0 they have collapsed",
    "effective_rank": "how many directions the vectors use",
    "rank_ratio": "that by the teacher's, or by the student's width if this is less; near 0 they have collapsed",
    "labels_spearman": "rank correlation, up to 1, of cosines and the scores in your table",
    "ndcg10": "how high your right documents stand among the first ten, 0 to 1",
    "recall1": _RECALL.format("1"),
    "recall10": _RECALL.format("10"),
    "recall100": _RECALL.format("100"),
}


def write_report(result: CompareResult, path: Path) -> None:
    """Write the page, whole or not at all.

    Raises:
        DataError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        # the name of a file need not be UTF-8
        temporary.write_text(page(result), encoding="utf-8", errors="backslashreplace")


def page(result: CompareResult) -> str:
    """The page as text."""
    names = ", ".join(one.name for one in result.students)
    title = f"{names} beside {result.teacher.name}"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p class="soft">{len(result.students)} student{"s" * (len(result.students) != 1)} and their teacher on
{result.num_sentences:,} sentences of {escape(result.corpus)}, without labels.</p>
{_verdicts(result)}
<h2>Pictures</h2>
<div class="pictures">
{
        _figure(
            pictures.quality_and_speed(result),
            "Quality against speed: the share of the ten nearest neighbours that a"
            " student has in common with its teacher, and the sentences it embeds in a second. Up and right is better."
            " Each name has the colour of its point.",
        )
    }
{"".join(_student_pictures(one, number) for number, one in enumerate(result.students, start=1))}
{
        _figure(
            pictures.histogram(result),
            "Cosines of random pairs of sentences. A hill far to the right is a model that"
            " puts all sentences close together.",
            pictures.key(result),
        )
    }
</div>
<h2>Figures</h2>
{_table(result)}
<p class="soft">{escape(result.how())} Speed: {escape(result.machine)}.</p>
{_meanings(result)}
<h2>Where they differ most</h2>
<p class="soft">The sentences with the fewest of their ten nearest neighbours in common; of equal ones those whose
cosines with the teacher's neighbours fall most. Cosines are given as teacher / student.</p>
{"".join(_worst(one, is_open=len(result.students) == 1) for one in result.students)}
<footer><p>distilcse {escape(__version__)}</p></footer>
</body>
</html>
"""


def _verdicts(result: CompareResult) -> str:
    lines = []
    for name, some in result.faults().items():
        what = f"not good enough</span>: {escape(', '.join(map(str, some)))}" if some else "good enough</span>"
        lines.append(f'<li{" class=bad" * bool(some)}><strong>{escape(name)}</strong> <span class="mark">{what}</li>')
    asked = ", ".join(f"{name} at least {value:g}" for name, value in result.least.items())
    return f'<ul class="verdicts">{"".join(lines)}</ul><p class="soft">Asked for: {escape(asked)}.</p>'


def _student_pictures(student: StudentResult, number: int) -> str:
    caption = f"{student.name}: cosines of the same pairs by teacher and student. On the dashed line they agree."
    return _figure(pictures.scatter(student, number), caption)


def _figure(svg: str, caption: str, key: str = "") -> str:
    return f"<figure>{svg}{key}<figcaption>{escape(caption)}</figcaption></figure>"


def _table(result: CompareResult) -> str:
    names = (f"{result.teacher.name} (teacher)", *(one.name for one in result.students))
    head = "".join(f"<th scope=col>{escape(name)}</th>" for name in names)
    rows = "".join(
        f"<tr><th scope=row>{escape(label)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        for label, cells in result.rows()
    )
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="Figures"><table class="figures">'
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _meanings(result: CompareResult) -> str:
    """What the lines of the table mean, with the names that `--json` and `--fail-under` have for them."""
    shown = {label for label, _ in result.rows()}
    items = "".join(
        f"<dt>{escape(label)} <code>{name}</code></dt><dd>{escape(MEANINGS[name])}</dd>"
        for name, label in LABELS.items()
        if label in shown
    )
    return f'<details><summary>What the figures mean</summary><dl class="meanings">{items}</dl></details>'


def _worst(student: StudentResult, *, is_open: bool) -> str:
    items = "".join(map(_one, student.worst))
    return (
        f"<details{' open' * is_open}><summary>{escape(student.name)}: {len(student.worst)} sentences</summary>"
        f'<ol class="worst">{items}</ol></details>'
    )


def _one(one: Disagreement) -> str:
    def pair(cosines: tuple[float, float]) -> str:
        return f'<span class="soft">({cosines[0]:.2f} / {cosines[1]:.2f})</span>'

    return (
        f"<li><strong>{escape(one.sentence)}</strong><dl>"
        f"<dt>teacher</dt><dd>{escape(one.teacher_nearest)} {pair(one.teacher_nearest_cosines)}</dd>"
        f"<dt>student</dt><dd>{escape(one.student_nearest)} {pair(one.student_nearest_cosines)}</dd>"
        f"<dt>shared</dt><dd>{one.shared10} of ten</dd></dl></li>"
    )
