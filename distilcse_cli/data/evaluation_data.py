"""Where SentEval's data is, for whoever scores with it: `eval`, and training for its development scores."""

import os
from pathlib import Path

from distilcse_cli.config import data_home


def senteval_folder() -> Path:
    """The folder that holds `downstream/`: `$DISTILCSE_DATA/senteval`, else in the data home.

    The first of the two that is there, and the first one if none is.
    """
    places = [data_home() / "datasets" / "senteval"]
    if variable := os.environ.get("DISTILCSE_DATA"):
        places.insert(0, Path(variable).expanduser() / "senteval")
    return next((place for place in places if (place / "downstream").is_dir()), places[0])
