"""Each benchmark's command line can be read."""

from importlib import import_module

import pytest

MEASURING = ("encode", "distill", "finetune", "sts", "transfer", "extract", "startup", "scaling", "peak")


@pytest.mark.parametrize("name", MEASURING)
def test_help_tells_of_the_rounds(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        import_module(f"benchmarks.{name}").main()
    assert ended.value.code == 0
    assert "--rounds" in capsys.readouterr().out
