"""Uploads an exported folder to the Hub. The only part of export that uses the network, and only when asked."""

from __future__ import annotations

from pathlib import Path

from instil.errors import ExportError, first_line_of


def push(folder: Path, repository: str, *, private: bool = True, endpoint: str | None = None) -> str:
    """Upload a folder to a model repository, which is created if it is missing.

    Args:
        folder: The folder.
        repository: ``owner/name``.
        private: Whether a new repository is private.
        endpoint: Address of another Hub; by default the public one.

    Returns:
        The URL of the commit.

    Raises:
        ExportError: If the Hub refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint)
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(folder_path=str(folder), repo_id=repository, commit_message="Upload from instil")
    except Exception as error:  # the Hub client raises many kinds of errors; each means that nothing was uploaded
        reason = first_line_of(error)
        raise ExportError(
            f"{repository}: the Hub did not accept the upload ({reason}). Log in with `hf auth login` and check the "
            f"name. The export itself is in {folder}."
        ) from None
    return str(commit.commit_url)
