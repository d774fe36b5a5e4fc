"""A hub data set as a source of texts, streamed through `datasets`."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from distilcse_cli.catalogue import refusals
from distilcse_cli.catalogue.hub import HubFiles
from distilcse_cli.catalogue.offline import is_offline
from distilcse_cli.config import CorpusSettings
from distilcse_cli.data.lines import BadLines, is_unicode
from distilcse_cli.data.tables import choose_column
from distilcse_cli.errors import DataError, NetworkError

SPLIT = "train"
_BATCH_ROWS = 1024
_TALKERS = ("huggingface_hub", "datasets")
"""Loggers that show whole addresses, with the password in them."""


@dataclass(frozen=True)
class HubSource:
    """The train split of a hub data set."""

    name: str
    builder: Any

    def identity(self) -> str:
        """Id, configuration and revision."""
        return f"hub {self.name} {self.builder.config_id} {self.builder.hash}"

    def texts(self, settings: CorpusSettings, bad: BadLines) -> Iterator[list[str]]:
        """Yield the texts in order, in batches; a null gives an empty one."""
        with _hub_errors(self.name):
            rows = self.builder.as_streaming_dataset(split=SPLIT)
            column, num_rows = None, 0
            for batch in rows.iter(batch_size=_BATCH_ROWS):
                column = column or choose_column(list(batch), settings.text_column, self.name)
                texts = []
                for number, text in enumerate(batch[column], num_rows + 1):
                    if text is None or (isinstance(text, str) and is_unicode(text)):
                        texts.append(text or "")
                    else:
                        bad.meet(f"{self.name}, row {number}: {column!r} holds no valid text")
                num_rows += len(batch[column])
                yield texts


def find_hub_source(name: str) -> HubSource:
    """Look up the data set `name` on the hub, or in the hub's local cache where the network is forbidden.

    Raises:
        NetworkError: the hub cannot be reached, or refuses.
        DataError: it has no such data set, or one that `datasets` cannot read without further choice.
    """
    import datasets

    if not is_offline():
        # `datasets` takes a minute to find out that there is no network, and says so with passwords
        refusals.check_endpoint()
        try:
            HubFiles(repo=name, repo_type="dataset").listing()
        except NetworkError as error:
            raise NetworkError(f"there is no file {name}, and {error.message}", hint=error.hint) from error
    with _hub_errors(name):
        return HubSource(name, datasets.load_dataset_builder(name))


@contextmanager
def _hub_errors(name: str) -> Iterator[None]:
    """Turn what `datasets` and the hub client raise into one line, and keep them from saying anything themselves."""
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HTTPError

    levels = {talker: logging.getLogger(talker).level for talker in _TALKERS}
    for talker in levels:
        logging.getLogger(talker).setLevel(logging.CRITICAL)
    try:
        yield
    except HTTPError as error:
        failure: Any = refusals.from_hub(refusals.Target(repo=name, repo_type="dataset"), error)
        raise NetworkError(failure.message, hint=failure.hint) from error
    except (ConnectionError, TimeoutError) as error:
        if is_offline():
            raise NetworkError(
                f"no file {name}, and --offline or HF_HUB_OFFLINE forbids to ask the hub for it",
                hint="once without, or name a file",
            ) from error
        raise NetworkError(
            f"no file {name}, and the hub does not answer for it: {refusals.public_text(str(error))}",
            hint="check the network, HF_ENDPOINT and proxy settings",
        ) from error
    except (DatasetsError, OSError, ValueError) as error:
        raise DataError(
            f"cannot read the hub data set {name}: {refusals.public_text(str(error))[:300]}",
            hint=f"distilcse download datasets/{name}, then name its file",
        ) from error
    finally:
        for talker, level in levels.items():
            logging.getLogger(talker).setLevel(level)
