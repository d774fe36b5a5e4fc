"""The texts of a hub data set, streamed through `datasets`."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distilcse_cli.catalogue import refusals
from distilcse_cli.catalogue.hub import HubFiles
from distilcse_cli.catalogue.offline import is_offline
from distilcse_cli.config import CorpusSettings
from distilcse_cli.data.lines import BadLines
from distilcse_cli.data.texts import choose_column, text_in
from distilcse_cli.errors import DataError, NetworkError

if TYPE_CHECKING:
    import pyarrow as pa

SPLIT = "train"
_BATCH_ROWS = 1024
_LOGGERS = ("huggingface_hub", "datasets")
"""Loggers that print whole addresses, passwords included."""


@dataclass(frozen=True)
class HubSource:
    """The train split of a hub data set."""

    name: str
    builder: Any
    options = frozenset({"text_column"})

    def identity(self) -> str:
        """Return id, configuration and revision."""
        return f"hub {self.name} {self.builder.config_id} {self.builder.hash}"

    def texts(self, settings: CorpusSettings, bad: BadLines) -> Iterator[list[str]]:
        """Yield the texts in order, in batches; a null gives an empty text."""
        with _hub_errors(self.name):
            rows = self.builder.as_streaming_dataset(split=SPLIT)
            column, num_rows = None, 0
            for batch in rows.iter(batch_size=_BATCH_ROWS):
                column = column or choose_column(list(batch), settings.text_column, self.name)
                cells = enumerate(batch[column], num_rows + 1)
                texts = [text_in(cell, f"{self.name}, row {number}", bad) for number, cell in cells]
                num_rows += len(texts)
                yield [text for text in texts if text is not None]

    def tables(self, num_rows: int) -> "Iterator[pa.Table]":
        """Yield the rows in order, in tables of `num_rows`, with all columns."""
        with _hub_errors(self.name):
            rows = self.builder.as_streaming_dataset(split=SPLIT).with_format("arrow")
            yield from rows.iter(batch_size=num_rows)


def find_hub_source(name: str) -> HubSource:
    """Look up the data set `name` on the hub, or in the local cache of `datasets` if the network is switched off.

    Raises:
        NetworkError: the hub cannot be reached, or refuses.
        DataError: `datasets` cannot read it, or needs to know which of its configurations to read.
    """
    import datasets

    if not is_offline():
        # without a network, `datasets` fails only after a minute and prints passwords
        refusals.check_endpoint()
        try:
            HubFiles(repo=name, repo_type="dataset").listing()
        except NetworkError as error:
            raise NetworkError(f"there is no file {name}, and {error.message}", hint=error.hint) from error
    with _hub_errors(name):
        return HubSource(name, datasets.load_dataset_builder(name))


@contextmanager
def _hub_errors(name: str) -> Iterator[None]:
    """Turn errors of `datasets` and the hub client into one line, and silence their loggers."""
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HTTPError

    levels = {logger: logging.getLogger(logger).level for logger in _LOGGERS}
    for logger in levels:
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    try:
        yield
    except HTTPError as error:
        failure: Any = refusals.from_hub(refusals.Target(repo=name, repo_type="dataset"), error)
        raise NetworkError(failure.message, hint=failure.hint) from error
    except (ConnectionError, TimeoutError) as error:
        if is_offline():
            raise NetworkError(
                f"no file {name}, and --offline or HF_HUB_OFFLINE keeps us from looking on the hub",
                hint=f"without it, run distilcse download datasets/{name}; then name its file",
            ) from error
        raise NetworkError(
            f"no file {name}, and the hub does not answer: {refusals.public_text(str(error))}",
            hint="check the network, HF_ENDPOINT and proxy settings",
        ) from error
    except (DatasetsError, OSError, ValueError) as error:
        raise DataError(
            f"cannot read the hub data set {name}: {refusals.public_text(str(error))[:300]}",
            hint=f"distilcse download datasets/{name}, then name its file",
        ) from error
    finally:
        for logger, level in levels.items():
            logging.getLogger(logger).setLevel(level)
