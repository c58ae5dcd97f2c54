"""Uploads exported folders to the Hub. The only part of export that uses the network, and only when asked.

Why: names of tags are checked, and compared with those of the repository, before the first file is uploaded. An upload
that fails midway says what is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from instil.errors import ExportError, first_line_of

_OWNER_AND_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_REVISION = re.compile(r"[A-Za-z0-9][\w.+-]*")


def check_push(repository: str | None, tags: Sequence[str]) -> None:
    """Check the names of a repository and of tags, before anything is exported.

    Raises:
        ExportError: If one of them can be none, a tag is named twice, or tags are named without a repository.
    """
    if repository is None:
        if tags:
            raise ExportError(
                f"--tag: found {tags[0]!r:.40} without --push. A tag marks what is uploaded. Add --push owner/name."
            )
        return
    if not isinstance(repository, str) or not _OWNER_AND_NAME.fullmatch(repository) or len(repository) > 96:
        raise ExportError(f"--push: found {repository!r:.100}. Expected owner/name, as in the Hub's address. Fix it.")
    for tag in tags:
        if not isinstance(tag, str) or not _REVISION.fullmatch(tag) or ".." in tag or tag.endswith((".", ".lock")):
            raise ExportError(
                f"--tag: found {tag!r:.60}. Expected a name such as v1.0: letters, digits, . - _ +. Choose another."
            )
    twice = next((tag for tag in tags if list(tags).count(tag) > 1), None)
    if twice:
        raise ExportError(f"--tag: {twice} is named twice. Expected each once. Remove one.")


@dataclass(slots=True)
class Upload:
    """Uploads to one repository, which is created if it is missing.

    Attributes:
        repository: ``owner/name``.
        private: Whether a new repository is private.
        endpoint: Address of another Hub; by default the public one.
        done: What is on the Hub, one line each.
    """

    repository: str
    private: bool = True
    endpoint: str | None = None
    done: list[str] = field(default_factory=list)

    def start(self, tags: Sequence[str] = ()) -> None:
        """Create the repository if it is missing, and check that it has none of the tags.

        Raises:
            ExportError: If the Hub refuses, or a tag is there already.
        """
        with self._reported("nothing was uploaded"):
            self._api.create_repo(self.repository, private=self.private, exist_ok=True)
            known = {ref.name for ref in self._api.list_repo_refs(self.repository).tags} if tags else set()
        both = next((tag for tag in tags if tag in known), None)
        if both is not None:
            raise ExportError(
                f"{self.repository}: has the tag {both} already. Expected a new one: a tag is never moved. "
                "Choose another; nothing was uploaded."
            )

    def send(self, folder: Path, *, branch: str | None = None, tags: Sequence[str] = ()) -> str:
        """Upload a folder as one commit.

        Args:
            folder: The folder.
            branch: Branch to upload to, created if it is missing; by default the main one.
            tags: Tags for the commit.

        Returns:
            The address of the commit.

        Raises:
            ExportError: If the Hub refuses.
        """
        with self._reported(f"the export itself is in {folder}"):
            if branch is not None:
                self._api.create_branch(self.repository, branch=branch, exist_ok=True)
            commit = self._api.upload_folder(
                folder_path=str(folder), repo_id=self.repository, revision=branch, commit_message="Upload from instil"
            )
            address = str(commit.commit_url)
            self.done.append(f"{branch or 'main'}: {address}")
            for tag in tags:
                self._api.create_tag(self.repository, tag=tag, revision=str(commit.oid))
                self.done.append(f"tag {tag}")
        return address

    @property
    def _api(self) -> Any:
        from huggingface_hub import HfApi

        return HfApi(endpoint=self.endpoint)

    @contextmanager
    def _reported(self, rest: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the Hub client raises many kinds of errors
            there = f"On the Hub are: {'; '.join(self.done)}. " if self.done else ""
            raise ExportError(
                f"{self.repository}: the Hub did not accept the upload ({_without_token(first_line_of(error))}). "
                f"{there}Log in with `hf auth login` and check the name; {rest}."
            ) from None


def _without_token(text: str) -> str:
    """Return a text without the token: a client's error shows the header that it could not send."""
    from huggingface_hub import get_token

    token = get_token()
    for secret in {token, (token or "").strip()} - {None, ""}:
        text = text.replace(str(secret), "…")
    return re.sub(r"hf_\w{6,}|(?<=Bearer )[^\s'\"]+", "…", text)


def push(folder: Path, repository: str, *, private: bool = True, endpoint: str | None = None) -> str:
    """Upload a folder to a model repository, and return the address of the commit. See `Upload`."""
    upload = Upload(repository, private, endpoint)
    upload.start()
    return upload.send(folder)
