"""Our TOML is read back as it was by Python's own parser."""

import tomllib
from pathlib import Path

from distilcse_cli.files import write_toml


def test_every_kind_of_value_comes_back(tmp_path: Path) -> None:
    values = {
        "text": 'a "quoted" \\ back\nslash\t\x7f\x01 é 中 😀',
        "empty": "",
        "path": Path("/tmp/with space"),
        "count": -3,
        "small": 5e-05,
        "large": 1e22,
        "whole": 2.0,
        "yes": True,
        "no": False,
        "names": ("a", "b,c"),
        "layers": [0, 3, 5],
        "nothing": [],
        "unset": None,
    }
    write_toml(tmp_path / "file.toml", values)
    read = tomllib.loads((tmp_path / "file.toml").read_text(encoding="utf-8"))
    del values["unset"]
    assert read == values | {"path": "/tmp/with space", "names": ["a", "b,c"]}
    assert [type(value) for value in (read["count"], read["whole"], read["yes"])] == [int, float, bool]


def test_a_name_that_is_not_utf8_leaves_a_file_that_can_be_read(tmp_path: Path) -> None:
    write_toml(tmp_path / "file.toml", {"teacher": "caf\udce9"})
    assert tomllib.loads((tmp_path / "file.toml").read_text(encoding="utf-8")) == {"teacher": "caf\\udce9"}
