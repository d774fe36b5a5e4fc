"""A hub data set as a source of texts, streamed through `datasets`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from distilcse_cli.config import CorpusSettings
from distilcse_cli.data.lines import BadLines, is_unicode
from distilcse_cli.data.tables import choose_column
from distilcse_cli.errors import DataError, NetworkError

SPLIT = "train"
_BATCH_ROWS = 1024


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
    """Look up the data set `name` on the hub, or in the hub's local cache with `HF_HUB_OFFLINE=1`.

    Raises:
        NetworkError: the hub cannot be reached, or refuses.
        DataError: it has no such data set, or one that `datasets` cannot read without further choice.
    """
    import datasets

    with _hub_errors(name):
        return HubSource(name, datasets.load_dataset_builder(name))


@contextmanager
def _hub_errors(name: str) -> Iterator[None]:
    """Turn what `datasets` and the hub client raise into one line."""
    from datasets.exceptions import DatasetNotFoundError, DatasetsError
    from huggingface_hub import constants
    from huggingface_hub.errors import HTTPError

    try:
        yield
    except DatasetNotFoundError as error:
        raise DataError(
            f"no file {name}, and no such data set on the hub: {_line(error)}", hint="check the name"
        ) from error
    except (ConnectionError, TimeoutError, HTTPError) as error:
        is_offline = constants.HF_HUB_OFFLINE
        hint = "HF_HUB_OFFLINE is set" if is_offline else "check the network, HF_ENDPOINT and proxy settings"
        raise NetworkError(f"no file {name}, and the hub does not answer for it: {_line(error)}", hint=hint) from error
    except (DatasetsError, OSError, ValueError) as error:
        raise DataError(
            f"cannot read the hub data set {name}: {_line(error)}", hint="download it, and name its file"
        ) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
