"""Uploads an exported folder to the Hub. The only part of export that uses the network, and only when asked."""

from __future__ import annotations

from pathlib import Path

from instil.errors import ExportError


def push(folder: Path, repository: str, *, private: bool = True, endpoint: str | None = None) -> str:
    """Upload a folder to a model repository, which is made where it is missing.

    Args:
        folder: What to upload.
        repository: ``owner/name``.
        private: Whether a new repository is private.
        endpoint: Another Hub's address; the public one unless given.

    Returns:
        The commit's address.

    Raises:
        ExportError: If the Hub refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint)
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(folder_path=str(folder), repo_id=repository, commit_message="Upload from instil")
    except Exception as error:  # the Hub client raises many kinds; each means that nothing was uploaded
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ExportError(
            f"{repository}: the Hub did not take the upload ({reason}); log in with `hf auth login` and check the name; "
            f"the export itself is in {folder}"
        ) from None
    return str(commit.commit_url)
