"""Prints the oldest versions that pyproject.toml allows, as constraints for pip: `make test-lowest` installs them."""

import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = ("cpu", "onnx", "plots", "tensorboard")
"""What the package itself imports; what only tests and the site need may be new."""


def lowest() -> list[str]:
    """`name==X` for each `name>=X` of the project and these extras."""
    extras = (PROJECT["optional-dependencies"][name] for name in EXTRAS)
    return sorted({line.replace(">=", "==") for lines in (PROJECT["dependencies"], *extras) for line in lines})


if __name__ == "__main__":
    print("\n".join(lowest()))
