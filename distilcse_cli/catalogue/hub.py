"""Repositories of the Hugging Face hub as a source of files.

The hub client fetches the list of files, with sizes and hashes; it obeys `HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN`,
proxies and `HF_HUB_OFFLINE`. The files themselves come through `transfer`.
"""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from distilcse_cli import console
from distilcse_cli.catalogue import archives, refusals, transfer
from distilcse_cli.catalogue.install import Folders, Provenance, check_room
from distilcse_cli.catalogue.licenses import card_statement
from distilcse_cli.catalogue.refusals import Target, persist
from distilcse_cli.catalogue.transfer import RemoteFile
from distilcse_cli.errors import NetworkError

CARD = ("README*", "LICENSE*")
"""Files that state the license. A repository may lack them."""
_PICKLES = "pytorch_model*.bin"
MODEL_FILES = ("*.json", "*.txt", "*.model", "model*.safetensors", _PICKLES, *CARD)
"""Files that a model is loaded from, in the repository's top folder and in those of its modules."""
_OTHER_FORMATS = ("onnx", "openvino", "coreml")


@dataclass(frozen=True, kw_only=True)
class HubFiles:
    """Some files of one repository."""

    repo: str
    """`owner/name`."""
    repo_type: str = "model"
    """`model` or `dataset`."""
    revision: str | None = None
    """Branch, tag or commit; None takes the main branch of the day."""
    files: tuple[str, ...] = ()
    """Names of the files, patterns allowed. A name without a pattern must exist. Empty takes the files that a model is
    loaded from, or all of a data set."""
    archive: str | None = None
    """A tar file among them, which is unpacked and deleted."""
    unpack_into: str = ""
    """Folder for the archive's members."""
    max_unpacked_bytes: int | None = None
    """Most bytes that the archive may unpack to."""

    num_download_bytes: int | None = None
    num_unpacked_bytes: int | None = None
    sha256: str | None = None
    """These three are unknown until the hub is asked."""

    @property
    def label(self) -> str:
        """Kind, id and revision."""
        return f"hub {self._target().label}{f'@{self.revision}' if self.revision else ''}"

    def _target(self, file: str | None = None) -> Target:
        return Target(repo=self.repo, repo_type=self.repo_type, revision=self.revision, file=file)

    def retrieve(self, folders: Folders, *, quiet: bool) -> Provenance:
        """Download the files, resuming what an interrupted run has kept.

        Raises:
            NetworkError: the hub is out of reach, refuses, or sends something other than it announced.
            DataError: no room.
        """
        refusals.check_endpoint()
        commit, listed = self.listing()
        remotes = self._choose(commit, listed)
        arrived = sum(transfer.kept_bytes(remote, folders.kept) for remote in remotes)
        total = sum(remote.num_bytes or 0 for remote in remotes)
        # an archive and its members are on the disk at the same time
        unpacked = sum(remote.num_bytes or 0 for remote in remotes if remote.target.file == self.archive)
        check_room(folders.files.parent, self.label, total - arrived + unpacked)
        is_known = all(remote.num_bytes is not None for remote in remotes)
        for remote, path in self._move(remotes, folders, arrived, total if is_known else None, quiet=quiet):
            self._put(str(remote.target.file), path, folders)
        card = card_statement(folders.files / "README.md", "README.md")
        hashes = [r.sha256 for r in remotes if not any(fnmatchcase(str(r.target.file), pattern) for pattern in CARD)]
        return Provenance(
            url=f"https://huggingface.co/{'datasets/' if self.repo_type == 'dataset' else ''}{self.repo}",
            sha256=hashes[0] if len(hashes) == 1 else None,
            licenses=(card,) if card else (),
            revision=commit,
        )

    def _move(
        self, remotes: list[RemoteFile], folders: Folders, arrived: int, total: int | None, *, quiet: bool
    ) -> list[tuple[RemoteFile, Path]]:
        """Download all files into the folder of parts. None leaves it before all have arrived."""
        if quiet:
            return [(remote, transfer.move(remote, folders.kept, lambda _: None)) for remote in remotes]
        with console.Progress(self.repo, total, "bytes", initial=arrived) as progress:
            return [(remote, transfer.move(remote, folders.kept, progress.update)) for remote in remotes]

    def _put(self, name: str, path: Path, folders: Folders) -> None:
        """Unpack an archive; move any other file to its place."""
        if name != self.archive:
            target = folders.files / name
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
            return
        into = folders.files / self.unpack_into
        try:
            left_out = archives.unpack_tar(path, into, folders.scratch, name=name, num_bytes=self.max_unpacked_bytes)
        except NetworkError:
            path.unlink()  # a bad archive goes; after other failures, such as a full disk, it stays for the next run
            raise
        path.unlink()
        if left_out:
            console.warn(f"{name}: left out {len(left_out)} pickled files, such as {left_out[0]}")

    def listing(self) -> tuple[str, list[Any]]:
        """Return the revision's commit, and its files with size and hash.

        Raises:
            NetworkError: the hub is out of reach, or has no such repository for us.
        """
        from huggingface_hub import HfApi, constants

        def ask() -> tuple[str, list[Any]]:
            api = HfApi(library_name="distilcse")
            info = api.dataset_info if self.repo_type == "dataset" else api.model_info
            timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
            try:
                found = info(self.repo, revision=self.revision, files_metadata=True, timeout=timeout)
                commit, files = found.sha, list(found.siblings or [])
            except Exception as error:  # for an odd answer, the exception differs from version to version
                raise refusals.from_hub(self._target(), error) from error
            if not isinstance(commit, str) or not re.fullmatch(r"[0-9a-f]{7,64}", commit):
                raise refusals.not_the_hub(self._target())
            return commit, files

        return persist(ask)

    def _choose(self, commit: str, listed: list[Any]) -> list[RemoteFile]:
        """Pick the files wanted, and check that each name stays inside its folder."""
        from huggingface_hub import hf_hub_url

        label = self._target().label
        by_name = {str(file.rfilename): file for file in listed}
        wanted = choose_files(list(by_name), self.files, self.repo_type)
        missing = [name for name in self.files if "*" not in name and name not in by_name]
        if missing or not wanted:
            what = f"no file {missing[0]}" if missing else "none of the files wanted"
            raise NetworkError(f"the hub's {label} has {what}", hint="check the name, or the revision")
        remotes = []
        for name in wanted:
            if archives.points_outside(name):
                raise NetworkError(f"the hub's {label} holds {name!r}, which points outside of it: refused")
            file = by_name[name]
            size = file.lfs.size if file.lfs else file.size
            remotes.append(
                RemoteFile(
                    target=self._target(name),
                    # of the commit, not the branch, so that all files are of one version
                    url=hf_hub_url(self.repo, name, repo_type=self.repo_type, revision=commit),
                    num_bytes=size if isinstance(size, int) and size >= 0 else None,
                    sha256=_hash(file.lfs.sha256, 64) if file.lfs else None,
                    git_sha1=None if file.lfs else _hash(file.blob_id, 40),
                )
            )
        return remotes


def choose_files(names: list[str], patterns: tuple[str, ...], repo_type: str) -> list[str]:
    """Choose the files of a repository to download.

    Args:
        names: all its files.
        patterns: the files wanted; empty takes the files that a model is loaded from, or all of a data set.
        repo_type: `model` or `dataset`.

    Returns:
        Names in the repository's order. Of a model never code, and pickled weights only in a folder without
        safetensors.
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
    """Whether a folder with a configuration is part of the model, not of another format or a checkpoint."""
    return "/" not in folder and folder not in _OTHER_FORMATS and not folder.startswith("checkpoint")


def _hash(value: Any, num_digits: int) -> str | None:
    """A hash that the hub has announced; None if it is malformed."""
    return value if isinstance(value, str) and re.fullmatch(rf"[0-9a-f]{{{num_digits}}}", value) else None
