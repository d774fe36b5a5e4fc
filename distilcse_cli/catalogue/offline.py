"""The promise of `--offline` and `HF_HUB_OFFLINE=1`: nothing is asked of any network.

Hub client, transformers and datasets keep that promise for themselves once the variables are
set; whatever downloads here asks `is_offline` first.
"""

import os
import sys

from distilcse_cli.errors import NetworkError

VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
# what the hub client takes for yes
_YES = {"1", "ON", "YES", "TRUE"}


def is_offline() -> bool:
    """Whether the user has forbidden the network, by variable or option."""
    return any(os.environ.get(name, "").upper() in _YES for name in VARIABLES)


def go_offline() -> None:
    """Forbid the network to this process and those that it starts."""
    os.environ.update(dict.fromkeys(VARIABLES, "1"))
    if "huggingface_hub" in sys.modules:  # it reads the variables when it is imported
        from huggingface_hub import constants

        constants.HF_HUB_OFFLINE = True


def require_network(label: str) -> None:
    """Check that the network may be asked for `label`.

    Raises:
        NetworkError: the user has forbidden it.
    """
    if is_offline():
        raise NetworkError(
            f"{label} is not here, and --offline or {VARIABLES[0]} forbids to download it",
            hint="download it once without, or name what is here: distilcse download --list",
        )
