"""Whose space rows live in: only vectors of one space can be compared with each other.

The rows of a store live in the space of its teacher. A model's vectors live in its own space, and those of a
student that was trained or aligned to its teacher's rows in its teacher's, too; the report in its folder says so:
`distilcse.json` has `"result": {"space": {"name": …, "fingerprint": …}}`.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distilcse_cli.errors import UsageError
from distilcse_cli.files import RECORD, read_json, require_fields

if TYPE_CHECKING:
    from distilcse_cli.models.encoder import SentenceEncoder
    from distilcse_cli.models.reference import ModelRef


@dataclass(frozen=True)
class Space:
    """The space of one model's vectors."""

    name: str
    """The model as it was named, for messages and as a first guess where to find it."""
    fingerprint: str
    """`SentenceEncoder.fingerprint` of the model."""

    def as_dict(self) -> dict[str, str]:
        """Field names and values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.name} ({self.fingerprint[:12]}…)"


def space_of_store(manifest: dict[str, Any]) -> Space:
    """The space of the rows of a store: its teacher's. The manifest is one that `store.read_manifest` has read."""
    return Space(str(manifest.get("teacher") or "an unnamed model"), str(manifest.get("teacher_fingerprint")))


def own_space(encoder: "SentenceEncoder") -> Space:
    """The space that a model has for itself."""
    return Space(encoder.source, encoder.fingerprint)


def declared_space(folder: Path) -> Space | None:
    """The teacher's space that a student's folder declares; None for any other model.

    Raises:
        DataError: the record in the folder is damaged.
    """
    record = folder / RECORD
    if not record.is_file():
        return None
    result = read_json(record).get("result")
    space = result.get("space") if isinstance(result, dict) else None
    if space is None:
        return None
    require_fields(record, space, {"name": str, "fingerprint": str})
    return Space(space["name"], space["fingerprint"])


def space_of_model(reference: "ModelRef", encoder: "SentenceEncoder") -> Space:
    """The space of a model's vectors: its teacher's if its folder declares that, else its own.

    Another pooling, other layers or another prompt than the folder's make other vectors, in a space of their own.

    Args:
        reference: the model as named.
        encoder: what `reference.load` gave.
    """
    is_as_saved = reference.keep_layers is reference.prompt is reference.prompt_name is None and _own_pooling(reference)
    declared = declared_space(reference.locate()) if is_as_saved else None
    return declared or own_space(encoder)


def _own_pooling(reference: "ModelRef") -> bool:
    """Whether a model is pooled as its folder says."""
    from distilcse_cli.models.layout import read_layout

    if reference.pooler is None:
        return True
    folder = reference.locate()
    return folder.is_dir() and read_layout(folder).pooling == reference.pooler


def require_space(reference: "ModelRef", encoder: "SentenceEncoder", space: Space, *, prompt: str, what: str) -> None:
    """Check that a model's vectors can be compared with rows of `space`.

    They can if the space is the model's own, whatever prompt it puts before a query, or the one it declares.

    Args:
        reference, encoder: as for `space_of_model`.
        space: where the rows live.
        prompt: the text that stood before each sentence of the rows; the fingerprint of `space` is of both.
        what: the beginning of the message, such as `index holds rows of`.

    Raises:
        UsageError: they cannot; both spaces are named.
    """
    mine = space_of_model(reference, encoder)
    if space.fingerprint in (mine.fingerprint, _fingerprint_with(encoder, prompt)):
        return
    raise UsageError(
        f"{what} {space}, but {reference.ref} makes vectors of {mine}",
        hint=f"name that model, or a student in its space: distilcse align {reference.ref} --to STORE makes one",
    )


def _fingerprint_with(encoder: "SentenceEncoder", prompt: str) -> str:
    used = encoder.prompts
    encoder.prompts = replace(used, used=prompt)
    try:
        return encoder.fingerprint
    finally:
        encoder.prompts = used
