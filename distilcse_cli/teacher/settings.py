"""Settings of teachers that are only vectors: what `import` reads, and what `extract --endpoint` asks for."""

import ipaddress
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from distilcse_cli.config import ON_BAD_LINE, STORE_DTYPES, CorpusSettings
from distilcse_cli.errors import UsageError
from distilcse_cli.setting import DATA, MACHINE, MODELS, OUTPUT, Setting, check

ENCODING_FORMATS = ("base64", "float")


@dataclass(frozen=True, kw_only=True)
class ImportSettings(CorpusSettings):
    """How the rows of a table become the sentences and rows of a store."""

    vector_column: Annotated[
        str | None, Setting("Column that holds the vectors. Default: embedding, embeddings, vector or vectors.", DATA)
    ] = None
    name: Annotated[
        str, Setting("The model that made the vectors, such as openai/text-embedding-3-small.", MODELS, metavar="NAME")
    ]
    terms: Annotated[
        str | None,
        Setting("Terms of use of the vectors, in your words. The student's model card repeats them.", MODELS),
    ] = None
    dtype: Annotated[str, Setting("Number format of the rows written.", OUTPUT, choices=STORE_DTYPES)] = "float32"
    on_bad_line: Annotated[
        str,
        Setting(
            "At a line, text or vector that cannot be used: stop with its number, or skip and count it.",
            DATA,
            choices=ON_BAD_LINE,
        ),
    ] = "stop"
    split_sentences: Annotated[bool, Setting("A vector belongs to a whole text.", DATA, internal=True)] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.name.strip() or not self.name.isprintable():
            raise UsageError(f"--name is {self.name!r}, but must name the model that made the vectors")


@dataclass(frozen=True, kw_only=True)
class EndpointSettings:
    """A server with the /v1/embeddings interface, and how it is asked."""

    endpoint: Annotated[
        str | None,
        Setting("Take the rows from this server's /v1/embeddings, not from a model here.", MODELS, metavar="URL"),
    ] = None
    model: Annotated[str | None, Setting("The server's name of the model.", MODELS, metavar="NAME")] = None
    dimensions: Annotated[
        int | None, Setting("Ask the server for that many numbers a row. Default: its own.", OUTPUT, at_least=1)
    ] = None
    terms: Annotated[
        str | None,
        Setting("Terms of use of the server's vectors, in your words. The student's model card repeats them.", MODELS),
    ] = None
    api_key_variable: Annotated[
        str, Setting("Variable that holds the server's key, if it wants one.", MODELS, metavar="NAME")
    ] = "OPENAI_API_KEY"
    request_size: Annotated[int, Setting("Sentences in a request to the server.", MACHINE, at_least=1)] = 32
    concurrency: Annotated[int, Setting("Requests to the server at a time.", MACHINE, at_least=1)] = 4
    encoding_format: Annotated[
        str, Setting("Form in which the server is asked for numbers.", MACHINE, choices=ENCODING_FORMATS)
    ] = "base64"
    price_per_million: Annotated[
        float | None, Setting("Price of a million tokens. The result then says the cost.", MACHINE, at_least=0.0)
    ] = None

    def __post_init__(self) -> None:
        check(self)
        if self.endpoint is None:
            return
        if not self.model:
            raise UsageError("--endpoint needs the name that the server has for the model", hint="add --model NAME")
        try:
            parts = urlsplit(self.endpoint)
            is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:  # the port is no number
            is_address = False
        if not is_address or not self.endpoint.isprintable() or " " in self.endpoint:
            raise UsageError("--endpoint is no address of a web server", hint="such as http://localhost:8080/v1")
        if parts.username is not None or parts.query or parts.fragment:
            hint = f"leave it out, and put a key into the variable {self.api_key_variable}"
            raise UsageError("--endpoint holds a user, a password, a ? or a #", hint=hint)

    @property
    def url(self) -> str:
        """The address that requests go to."""
        address = (self.endpoint or "").rstrip("/")
        if address.endswith("/embeddings"):
            return address
        return address + ("/embeddings" if urlsplit(address).path else "/v1/embeddings")

    @property
    def is_local(self) -> bool:
        """Whether the server runs on this machine."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")

    def cost(self, num_tokens: int | None) -> float | None:
        """The price of that many tokens; None if it is not known."""
        if num_tokens is None or self.price_per_million is None:
            return None
        return num_tokens * self.price_per_million / 1e6
