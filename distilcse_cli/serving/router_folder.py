"""An asymmetric folder for sentence-transformers: queries through the student, documents through the teacher.

modules.json config_sentence_transformers.json    a Router, and the prompts of queries and documents
router_config.json                                the modules of both routes, in their order
query_0_Transformer/ query_1_Pooling/ …           the student
document_0_Transformer/ document_1_Pooling/ …     the teacher
README.md distilcse.json                          the model card; what the folder was made from
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from distilcse_cli import __version__
from distilcse_cli.files import RECORD, atomic_folder, write_json
from distilcse_cli.models import snippets
from distilcse_cli.models.card import Card, card_with, origin
from distilcse_cli.models.encoder import SentenceEncoder
from distilcse_cli.models.folder import save_student, versions_for_others
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.teacher.space import own_space, require_space

_QUERY, _DOCUMENT = "query", "document"
_ROUTER = "sentence_transformers.models.Router"
_OF_THE_ROOT = ("modules.json", "config_sentence_transformers.json", "README.md", RECORD)


def export_router(student: ModelRef, teacher: ModelRef, out: Path) -> dict[str, Any]:
    """Write the asymmetric folder of a student and the teacher in whose space it lives.

    `encode_query` then gives the student's embeddings, `encode_document` and `encode` the teacher's.

    Args:
        student: embeds queries.
        teacher: embeds documents.
        out: must not exist, or be empty.

    Returns:
        The names, widths and sizes of both, for `--json`.

    Raises:
        UsageError: the student is not in the teacher's space.
        DataError: `out` has something in it, or cannot be written.
    """
    documents = teacher.load()
    queries = student.load()
    space = own_space(documents)
    require_space(student, queries, space, prompt=documents.prompts.used, what="documents get vectors of")
    report = {
        "out": str(out),
        "space": space.as_dict(),
        "width": documents.embedding_dim,
        "query": {"reference": student.ref, "num_parameters": queries.num_parameters},
        "document": {"reference": teacher.ref, "num_parameters": documents.num_parameters},
    }
    with atomic_folder(out) as target:
        types: dict[str, str] = {}
        structure = {
            route: _save_route(route, encoder, target, types)
            for route, encoder in ((_QUERY, queries), (_DOCUMENT, documents))
        }
        # the keys and their order are those of sentence-transformers' own file
        parameters = {"default_route": _DOCUMENT, "allow_empty_key": True, "route_mappings": {}}
        write_json(target / "router_config.json", {"types": types, "structure": structure, "parameters": parameters})
        module = {"idx": 0, "name": "0", "path": "", "type": _ROUTER}
        (target / "modules.json").write_text(json.dumps([module], indent=2) + "\n", encoding="utf-8")
        write_json(target / "config_sentence_transformers.json", _root_config(queries, documents))
        card = _card(student, teacher, documents.embedding_dim, out)
        (target / "README.md").write_text(card, encoding="utf-8", errors="backslashreplace")
        write_json(target / RECORD, {"stage": "export", "versions": {"distilcse": __version__}, "result": report})
    return report


def _save_route(route: str, encoder: SentenceEncoder, target: Path, types: dict[str, str]) -> list[str]:
    """Write the modules of one route as folders of `target`, and their classes into `types`; return their names."""
    whole = target / f".{route}"
    save_student(encoder, whole, card="", settings={})
    modules = json.loads((whole / "modules.json").read_text(encoding="utf-8"))
    names = [f"{route}_{number}_{module['type'].rpartition('.')[2]}" for number, module in enumerate(modules)]
    for name, module in list(zip(names, modules, strict=True))[1:]:
        (whole / module["path"]).rename(target / name)
    for file in _OF_THE_ROOT:
        (whole / file).unlink()
    whole.rename(target / names[0])  # only the files of the Transformer are left in it
    types.update({name: module["type"] for name, module in zip(names, modules, strict=True)})
    return names


def _root_config(queries: SentenceEncoder, documents: SentenceEncoder) -> dict[str, Any]:
    return {
        "__version__": versions_for_others(),
        "prompts": {_QUERY: queries.prompts.used, _DOCUMENT: documents.prompts.used},
        # for `encode`, which takes the route of the documents
        "default_prompt_name": _DOCUMENT if documents.prompts.used else None,
        "similarity_fn_name": documents.prompts.similarity,
    }


def _card(student: ModelRef, teacher: ModelRef, width: int, out: Path) -> str:
    queries, documents = Path(student.ref).name, Path(teacher.ref).name
    learner, taught = origin(student), origin(teacher)
    card = Card(
        title=f"{queries} for queries, {documents} for documents",
        made="by `distilcse export --asymmetric`: queries go through a small student,\ndocuments through its teacher."
        f" Both give {width} numbers in one space. Only\nsentence-transformers loads the folder; to serve queries"
        " alone, serve the student's own folder.",
        base=replace(learner, hub_ids=list(dict.fromkeys([*learner.hub_ids, *taught.hub_ids]))),
        teacher=taught,
        is_distilled=True,
    )
    return card_with(card, out, snippets.asymmetric())
