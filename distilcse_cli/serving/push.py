"""A student's folder to the Hugging Face hub: one commit with all of its files, or none.

The files of the training (`metrics.jsonl`, curves, event files) stay here. The hub client brings the token, from
`HF_TOKEN` or from `hf auth login`, and obeys `HF_ENDPOINT` and proxies. Its own messages are never shown: they may
hold addresses with signatures.
"""

import warnings
from pathlib import Path
from typing import Any

from distilcse_cli import __version__, console
from distilcse_cli.catalogue import refusals
from distilcse_cli.catalogue.offline import is_offline
from distilcse_cli.errors import ModelError, NetworkError, UsageError
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.models.snippets import FOLDER
from distilcse_cli.paths import expanded, real

CARD = "README.md"
_OF_THE_RUN = ("metrics.jsonl", "speed.jsonl", "curves.png", "tensorboard")
_SAID = {
    401: ("the hub does not accept the token", "set HF_TOKEN to one that is valid, or run hf auth login"),
    403: ("the token may not write to {repo}", "take one with write permission, and a name that is yours"),
    404: ("the hub has no {repo}, or hides it from this token", "check the name, and that the token may write"),
    413: ("a file is too large for the hub", "the limits are on its page about storage"),
}


def files_of(folder: Path) -> dict[str, Path]:
    """The files of a student to upload, by their path in the repository: no hidden ones, none of the training.

    Raises:
        UsageError: one is a link to a file elsewhere, which may be anything.
    """
    found = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    files = {
        inside.as_posix(): path
        for inside, path in found.items()
        if inside.parts[0] not in _OF_THE_RUN and not any(part.startswith(".") for part in inside.parts)
    }
    for path in files.values():
        if real(folder) not in real(path).parents:
            raise UsageError(f"{path} is a link out of the folder", hint="put a copy of the file there, or remove it")
    return files


def push(student: str, repo: str, *, private: bool = False, revision: str | None = None) -> dict[str, Any]:
    """Upload a student's folder.

    Args:
        student: a local folder, from which the student is loaded first, as a check.
        repo: `owner/name`; it is made if it does not exist.
        private: a new repository is private, and one that exists has to be.
        revision: branch to commit to, made if need be; None takes the main one.

    Returns:
        Address, commit, files and bytes, for `--json`.

    Raises:
        UsageError: no local folder, a link out of it, or there is no token.
        ModelError: the folder is no whole model, or has no card.
        NetworkError: the hub is out of reach or refuses; nothing is committed.
    """
    folder = expanded(student)
    if not folder.is_dir():
        raise UsageError(f"{student} is no folder here", hint="name the folder of the student")
    ModelRef(ref=student).load(light=True)
    if not (folder / CARD).is_file():
        raise ModelError(f"{student} has no {CARD}, the model card", hint="write one: it says what the model is for")
    if is_offline():
        raise NetworkError(
            "an upload needs the network, which --offline or HF_HUB_OFFLINE forbids", hint="leave it out"
        )
    files: dict[str, Path | bytes] = {**files_of(folder)}
    refusals.check_endpoint()

    from huggingface_hub import get_token

    token = get_token()
    if token is None:
        raise UsageError("there is no token of the hub", hint="run hf auth login, or set HF_TOKEN")
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise UsageError("the token of the hub has characters that no token has", hint="copy it again into HF_TOKEN")
    card = (folder / CARD).read_bytes().replace(FOLDER.encode(), repo.encode())  # its code names the folder
    files[CARD] = card
    num_bytes = sum(len(file) if isinstance(file, bytes) else file.stat().st_size for file in files.values())
    console.log(f"uploading {len(files)} files, {num_bytes / 1e6:,.1f} MB, to {repo}: {', '.join(files)}")
    commit = _commit(repo, files, private=private, revision=revision)
    return {
        "repo": repo,
        "url": f"{refusals.endpoint()}/{repo}",
        "revision": revision or "main",
        "commit": commit,
        "private": private,
        "files": list(files),
        "num_bytes": num_bytes,
    }


def _commit(repo: str, files: dict[str, Path | bytes], *, private: bool, revision: str | None) -> str:
    """Make the repository and branch if need be, and commit the files; return the commit's hash."""
    import huggingface_hub
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    api, verbosity, had_bars = HfApi(), huggingface_hub.logging.get_verbosity(), not are_progress_bars_disabled()
    disable_progress_bars()
    huggingface_hub.logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            api.create_repo(repo, private=True if private else None, exist_ok=True)
            if private and not api.model_info(repo).private:
                raise UsageError(
                    f"{repo} exists and is public", hint="make it private on its page, or leave --private out"
                )
            if revision is not None:
                api.create_branch(repo, branch=revision, exist_ok=True)
            operations = [CommitOperationAdd(name, file) for name, file in files.items()]
            message = f"Upload by distilcse {__version__}"
            return str(api.create_commit(repo, operations, commit_message=message, revision=revision).oid)
    except UsageError:
        raise
    except Exception as error:  # of the hub client, its HTTP client and its threads; what it says may hold a secret
        raise _refused(repo, error) from error
    finally:
        huggingface_hub.logging.set_verbosity(verbosity)
        if had_bars:
            enable_progress_bars()


def _refused(repo: str, error: Exception) -> Exception:
    from huggingface_hub.errors import HFValidationError

    if isinstance(error, HFValidationError):
        return UsageError(f"{repo!r} is no name of a repository", hint="such as your-name/student")
    causes = [error, error.__cause__, error.__context__]
    response = next((found for one in causes if (found := getattr(one, "response", None)) is not None), None)
    if response is None:
        if isinstance(error, ValueError):  # what the hub says of the card's front matter
            said = refusals.public_text(str(error))
            return ModelError(f"the hub refuses the card: {said}", hint="mend README.md")
        return NetworkError(
            f"cannot upload to {refusals.endpoint()}: {refusals.reason(error)}; nothing is committed",
            hint="check the connection and run the same command again",
        )
    said, hint = _SAID.get(response.status_code, ("the hub refuses", "try again later"))
    return NetworkError(f"{said.format(repo=repo)} ({response.status_code}); nothing is committed", hint=hint)
