"""`--offline` and `HF_HUB_OFFLINE=1`: no network is used.

The hub client, transformers and datasets obey these variables themselves. Our own downloads check `is_offline` first.
"""

import os
import sys

from distilcse_cli.errors import NetworkError

VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
# the values that the hub client reads as yes
_YES = {"1", "ON", "YES", "TRUE"}


def is_offline() -> bool:
    """Whether the user has forbidden the network, by variable or option."""
    return any(os.environ.get(name, "").upper() in _YES for name in VARIABLES)


def go_offline() -> None:
    """Forbid the network for this process and those that it starts."""
    os.environ.update(dict.fromkeys(VARIABLES, "1"))
    if "huggingface_hub" in sys.modules:  # it reads the variables once, at import
        from huggingface_hub import constants

        constants.HF_HUB_OFFLINE = True


def require_network(label: str, command: str) -> None:
    """Check that `label` may be downloaded; `command` is what downloads it.

    Raises:
        NetworkError: the user has forbidden the network.
    """
    if is_offline():
        raise NetworkError(
            f"{label} is not here, and --offline or {VARIABLES[0]} forbids to download it",
            hint=f"with the network allowed: {command}",
        )
