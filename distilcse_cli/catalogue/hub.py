"""Repositories of the Hugging Face hub as a source of files.

Names, sizes and hashes come from the hub's own list, which the hub client fetches; it honors
`HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN`, proxies and `HF_HUB_OFFLINE`. The bytes are moved by us.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from distilcse_cli import console
from distilcse_cli.catalogue import archives, refusals, transfer
from distilcse_cli.catalogue.install import Place, Provenance, check_room, check_sha256
from distilcse_cli.catalogue.licenses import card_statement
from distilcse_cli.catalogue.refusals import Asked
from distilcse_cli.catalogue.retries import persist
from distilcse_cli.catalogue.transfer import RemoteFile
from distilcse_cli.errors import NetworkError

CARD = ("README*", "LICENSE*")
"""What says whose the files are; a repository may do without."""
_PICKLES = "pytorch_model*.bin"
MODEL_FILES = ("*.json", "*.txt", "*.model", "model*.safetensors", _PICKLES, *CARD)
"""What a model is read from, in the repository's top folder and in those of its modules."""
_OTHER_FORMATS = ("onnx", "openvino", "coreml")


@dataclass(frozen=True, kw_only=True)
class HubFiles:
    """Some files of one repository."""

    repo: str
    """`owner/name`."""
    repo_type: str = "model"
    """`model` or `dataset`."""
    revision: str | None = None
    """Branch, tag or commit; None takes the main branch as it is on the day."""
    files: tuple[str, ...] = ()
    """Names of the files wanted, patterns allowed; a name without a pattern must be there. None
    named: for a model what it is read from, for a data set everything."""
    archive: str | None = None
    """A tar file among them that is unpacked and not kept."""
    unpack_into: str = ""
    """Folder for what the archive holds."""
    max_unpacked_bytes: int | None = None
    """Most bytes that the archive may unpack to."""
    checks: tuple[tuple[str, str], ...] = ()
    """(name, sha256) of files that are known from elsewhere as well."""

    num_download_bytes: int | None = None
    """Size of the transfer; None until the hub is asked."""
    num_unpacked_bytes: int | None = None
    """Size of the files; None until the hub is asked."""

    @property
    def label(self) -> str:
        """Kind and id, and the revision where one was chosen."""
        kind = "data set" if self.repo_type == "dataset" else "model"
        return f"hub {kind} {self.repo}{f'@{self.revision}' if self.revision else ''}"

    @property
    def sha256(self) -> str | None:
        """Known before the transfer only for files with a check of their own."""
        return self.checks[0][1] if len(self.checks) == 1 else None

    def retrieve(self, place: Place, *, quiet: bool) -> Provenance:
        """Move the wanted files, going on from what an interrupted run has kept.

        Raises:
            NetworkError: the hub cannot be reached, refuses, or sends something else than it announced.
            DataError: no room.
        """
        refusals.check_endpoint()
        commit, listed = self.listing()
        remotes = self._choose(commit, listed)
        arrived = sum(transfer.kept_bytes(remote, place.kept) for remote in remotes)
        total = None if any(remote.num_bytes is None for remote in remotes) else sum(r.num_bytes or 0 for r in remotes)
        # an archive and what is in it are there at the same time
        unpacked = sum(r.num_bytes or 0 for r in remotes if r.asked.file == self.archive)
        check_room(place.files.parent, self.label, (total or 0) - arrived + unpacked)
        for remote, path in self._move(remotes, place, arrived, total, quiet=quiet):
            self._put(remote, path, place)
        for name, sha256 in self.checks:
            check_sha256(place.files / name, sha256)
        card = card_statement(place.files / "README.md", "README.md")
        hashes = [r.sha256 for r in remotes if not any(fnmatchcase(str(r.asked.file), pattern) for pattern in CARD)]
        return Provenance(
            url=f"https://huggingface.co/{'datasets/' if self.repo_type == 'dataset' else ''}{self.repo}",
            sha256=hashes[0] if len(hashes) == 1 else None,
            licenses=(card,) if card else (),
            revision=commit,
        )

    def _move(
        self, remotes: list[RemoteFile], place: Place, arrived: int, total: int | None, *, quiet: bool
    ) -> Iterator[tuple[RemoteFile, Path]]:
        """Yield each file when all are here, so that none leaves the folder of parts before."""
        if quiet:
            yield from [(remote, transfer.move(remote, place.kept, lambda _: None)) for remote in remotes]
            return
        with console.Progress(self.repo, total, "bytes", initial=arrived) as progress:
            moved = [(remote, transfer.move(remote, place.kept, progress.update)) for remote in remotes]
        yield from moved

    def _put(self, remote: RemoteFile, path: Path, place: Place) -> None:
        name = str(remote.asked.file)
        if name == self.archive:
            into = place.files / self.unpack_into
            try:
                left_out = archives.unpack_tar(path, into, place.scratch, name=name, num_bytes=self.max_unpacked_bytes)
            except NetworkError:
                path.unlink()  # it is not wanted; a disk that is full is no fault of its
                raise
            path.unlink()
            if left_out:
                console.warn(f"{name}: left out {len(left_out)} pickled files, such as {left_out[0]}")
            return
        target = place.files / name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)

    def _asked(self, file: str | None = None) -> Asked:
        return Asked(repo=self.repo, repo_type=self.repo_type, revision=self.revision, file=file)

    def listing(self) -> tuple[str, list[Any]]:
        """The commit that the revision stands for, and its files with size and hash.

        Raises:
            NetworkError: the hub cannot be reached, or has no such repository for us.
        """
        from huggingface_hub import HfApi, constants

        def ask() -> tuple[str, list[Any]]:
            api = HfApi(library_name="distilcse")
            info = api.dataset_info if self.repo_type == "dataset" else api.model_info
            try:
                found = info(
                    self.repo,
                    revision=self.revision,
                    files_metadata=True,
                    timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
                )
                commit, files = found.sha, list(found.siblings or [])
                if not isinstance(commit, str) or not re.fullmatch(r"[0-9a-f]{7,64}", commit):
                    raise refusals.not_the_hub(self._asked())
            except NetworkError:
                raise
            except Exception as error:  # what an odd answer makes the client raise differs from version to version
                raise refusals.from_hub(self._asked(), error) from error
            return commit, files

        return persist(ask)

    def _choose(self, commit: str, listed: list[Any]) -> list[RemoteFile]:
        """The files wanted out of those listed, each checked to stay inside of its folder."""
        from huggingface_hub import hf_hub_url

        by_name = {str(file.rfilename): file for file in listed}
        wanted = choose_files(list(by_name), self.files, self.repo_type)
        missing = [name for name in self.files if "*" not in name and name not in by_name]
        if missing or not wanted:
            what = f"no file {missing[0]}" if missing else "none of the files wanted"
            raise NetworkError(f"the hub's {self._asked().label} has {what}", hint="check the name, or the revision")
        remotes = []
        for name in wanted:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name or not name.isprintable():
                raise NetworkError(
                    f"the hub's {self._asked().label} holds {name!r}, which points outside of it: refused"
                )
            file = by_name[name]
            size = file.lfs.size if file.lfs else file.size
            remotes.append(
                RemoteFile(
                    asked=self._asked(name),
                    # the commit and not the branch, so that all files are of one version
                    url=hf_hub_url(self.repo, name, repo_type=self.repo_type, revision=commit),
                    num_bytes=size if isinstance(size, int) and size >= 0 else None,
                    sha256=_hash(file.lfs.sha256, 64) if file.lfs else None,
                    git_sha1=None if file.lfs else _hash(file.blob_id, 40),
                )
            )
        return remotes


def choose_files(names: list[str], patterns: tuple[str, ...], repo_type: str) -> list[str]:
    """The files to download out of a repository's.

    Args:
        names: all files of the repository.
        patterns: what is wanted; empty for what a model is read from, or all of a data set.
        repo_type: `model` or `dataset`.

    Returns:
        Names in the repository's order. Of a model pickled weights are taken only in a folder
        without safetensors, and never code.
    """
    if patterns:
        return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
    if repo_type == "dataset":
        return [name for name in names if not PurePosixPath(name).name.startswith(".git")]
    parts = [(name, *name.rpartition("/")[::2]) for name in names]
    folders = {folder for _, folder, file in parts if file == "config.json" and _holds_a_module(folder)} | {""}
    safe = {folder for _, folder, file in parts if fnmatchcase(file, "model*.safetensors")}
    return [
        name
        for name, folder, file in parts
        if folder in folders
        and any(fnmatchcase(file, pattern) for pattern in MODEL_FILES)
        and not (folder in safe and fnmatchcase(file, _PICKLES))
    ]


def _holds_a_module(folder: str) -> bool:
    """Whether a folder with a configuration belongs to the model, rather than to a format or a checkpoint."""
    return "/" not in folder and folder not in _OTHER_FORMATS and not folder.startswith("checkpoint")


def _hash(value: Any, num_digits: int) -> str | None:
    """A hash as the hub has announced it; None if that is none."""
    return value if isinstance(value, str) and re.fullmatch(rf"[0-9a-f]{{{num_digits}}}", value) else None
