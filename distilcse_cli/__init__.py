"""DistilCSE: make a small, fast student of a large sentence-embedding model, and prove what it kept.

The functions are those of the commands. Nothing is imported before one is used.
"""

from importlib import import_module

__version__ = "0.1.0"

_FROM = {
    "distilcse_cli.api": (
        *("align", "compare", "convert", "distill", "download", "evaluate", "export_asymmetric", "export_onnx"),
        *("export_web", "extract", "finetune", "import_vectors", "index", "load", "push", "search"),
    ),
    "distilcse_cli.errors": (
        *("DataError", "DeviceError", "DistilCSEError", "ModelError", "NetworkError", "UsageError", "VerdictError"),
    ),
    "distilcse_cli.jobs.model": ("Model",),
}
_MODULE_OF = {name: module for module, names in _FROM.items() for name in names}

__all__ = ["__version__", *_MODULE_OF]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_MODULE_OF]
