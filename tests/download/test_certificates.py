"""A file of certificates that cannot be read is named, and is no fault of the network."""

from pathlib import Path

import pytest

from distilcse_cli.catalogue.refusals import check_endpoint
from distilcse_cli.errors import NetworkError


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file or directory"), ("", "it holds no certificates"), ("hello", "it holds no certificates")],
)
def test_a_bad_file_of_certificates_is_named(
    content: str | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "company.pem"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with pytest.raises(NetworkError, match=f"SSL_CERT_FILE names {path}: {reason}"):
        check_endpoint()
