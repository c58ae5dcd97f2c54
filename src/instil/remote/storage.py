"""The edge to fsspec: list, read, write and remove remote files, and say why one of them failed.

fsspec's file systems differ in their errors and in what they call the version of a file. Both are one thing here. A
request that failed for a passing reason (a server's error, a lost connection) is tried again, with growing pauses.

Why: credentials are never read here. Each library finds them where it always does, in its environment variables and
files, so a recipe has no place for them.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from instil.errors import MissingPackageError, first_line_of
from instil.remote.urls import clean_url, full_url, scheme_of, without_secrets

_PACKAGES = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gcs"), "az": ("adlfs", "azure")}
_VERSIONS = (
    "ETag", "etag", "blob_id", "generation", "md5Hash", "Content-MD5", "Digest", "LastModified", "last_modified",
    "Last-Modified",
)  # fmt: skip
"""What the file systems call the version of a file, the surest first."""
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile in ~/.aws, or FSSPEC_S3_ANON=true for a public bucket",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or gcloud auth application-default login",
    "az": "AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    "hf": "HF_TOKEN, or hf auth login",
    "https": "a user in the address, or a signed address",
}
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError", "ProfileNotFound")
_PASSING = (408, 425, 429)
_TRIES, _FIRST_PAUSE = 5, 0.2

_Value = TypeVar("_Value")


class StorageError(Exception):
    """A request that failed. Callers word it as an error of their own, with the place.

    Attributes:
        reason: What was found, without secrets.
        remedy: What to do, as a sentence.
        lasts: Whether trying again is of no use.
        is_missing: Whether there is no such file, folder or bucket.
    """

    def __init__(self, reason: str, remedy: str, *, lasts: bool, is_missing: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.remedy, self.lasts, self.is_missing = reason, remedy, lasts, is_missing


@dataclass(frozen=True, slots=True)
class Stored:
    """A remote file as the server describes it.

    Attributes:
        url: Its address, without secrets.
        size: Its bytes.
        version: What changes when its content does: an etag, a checksum, or the time of its last change. Empty if the
            server names none.
    """

    url: str
    size: int
    version: str

    def __str__(self) -> str:
        return f"{self.size:,} bytes, version {self.version or 'not named'}"


class Storage:
    """A file system of fsspec. Get it from `storage_of`; every method takes URLs without secrets.

    All methods raise `StorageError` when the request fails for good.
    """

    def __init__(self, system: Any, scheme: str) -> None:
        self._system = system
        self._scheme = scheme

    def state(self, url: str) -> Stored | None:
        """Return what the server says about a file now; None if there is none, or it is a folder."""
        try:
            info = self._ask(url, lambda: self._fresh().info(self._path(url)))
        except StorageError as error:
            if error.is_missing:
                return None
            raise
        return None if info.get("type") == "directory" else self._stored(url, info)

    def below(self, url: str) -> list[Stored]:
        """Return every file below a folder, sorted by address; none if there is no such folder."""
        return self._listed(url, lambda: self._fresh().find(self._path(url).rstrip("/") + "/", detail=True))

    def matching(self, pattern: str) -> list[Stored]:
        """Return every file that matches a pattern with ``*``, sorted by address."""
        return self._listed(pattern, lambda: self._fresh().glob(self._path(pattern), detail=True))

    def _listed(self, url: str, request: Callable[[], Mapping[str, Any]]) -> list[Stored]:
        try:
            found = self._ask(url, request)
        except StorageError as error:
            if error.is_missing:
                return []
            raise
        files = [info for info in found.values() if info.get("type") != "directory"]
        return sorted(
            (self._stored(f"{self._scheme}://{info['name']}", info) for info in files), key=lambda file: file.url
        )

    def read_part(self, url: str, start: int, end: int) -> bytes:
        """Return the bytes of a file from `start` up to `end`, in one request."""

        def request() -> bytes:
            # Web servers that ignore the range send the whole file. fsspec's file detects that, `cat_file` does not.
            with self._system.open(self._path(url), "rb", cache_type="none") as file:
                file.seek(start)
                data: bytes = file.read(end - start)
            if len(data) != end - start:
                raise OSError(f"{len(data)} bytes came instead of {end - start}")
            return data

        return self._ask(url, request)

    def read(self, url: str) -> bytes:
        """Return all bytes of a small file."""
        data: bytes = self._ask(url, lambda: self._fresh().cat_file(self._path(url)))
        return data

    def write(self, url: str, data: bytes) -> None:
        """Put bytes in place of a file, whole or not at all."""
        self._ask(url, lambda: self._system.pipe_file(self._path(url), data))

    def upload(self, path: Path, url: str) -> None:
        """Copy a file of this machine in place of a remote one, whole or not at all."""
        self._ask(url, lambda: self._system.put_file(str(path), self._path(url)))

    def download(self, url: str, path: Path) -> None:
        """Copy a remote file into a file of this machine."""
        self._ask(url, lambda: self._fresh().get_file(self._path(url), str(path)))

    def remove(self, urls: Iterable[str]) -> None:
        """Remove files, in their order. One that is gone already is no error."""
        for url in urls:
            try:
                self._ask(url, functools.partial(self._system.rm_file, self._path(url)))
            except StorageError as error:
                if not error.is_missing:
                    raise

    def _fresh(self) -> Any:
        """Return the file system without anything that it remembers of earlier listings."""
        self._system.invalidate_cache()
        return self._system

    def _path(self, url: str) -> str:
        # Keys in the address of a bucket are cut away for good: the library's own environment has them.
        return full_url(url) if self._scheme.startswith("http") else url.partition("://")[2]

    def _stored(self, url: str, info: Mapping[str, Any]) -> Stored:
        if info.get("size") is None:
            raise StorageError(
                "the server does not say how large it is", "Download the file and name it there.", lasts=True
            )
        found = next((info[name] for name in _VERSIONS if info.get(name)), "")
        return Stored(clean_url(url), int(info["size"]), str(found).strip('"'))

    def _ask(self, url: str, request: Callable[[], _Value]) -> _Value:
        """Make a request, and make it again after failures that may pass."""
        pause = _FIRST_PAUSE
        for number in range(1, _TRIES + 1):
            try:
                return request()
            except StorageError:
                raise
            except Exception as error:  # every library behind fsspec raises classes of its own
                failure = _failure(error, url)
                if failure.lasts or number == _TRIES:
                    raise failure from error
            time.sleep(pause)
            pause *= 2
        raise AssertionError("the last try returns or raises")


def _failure(error: Exception, url: str) -> StorageError:
    """Return what an error of fsspec or a library behind it means."""
    # For web servers, fsspec calls everything a missing file: a lost connection and a refusal too.
    cause = error.__cause__ if isinstance(error, FileNotFoundError) and scheme_of(url).startswith("http") else None
    status = getattr(error, "status", None) or getattr(cause, "status", None)
    reason = without_secrets(first_line_of(cause or error), url)
    scheme = "https" if scheme_of(url) == "http" else scheme_of(url)
    if type(error).__name__ in _NO_CREDENTIALS or isinstance(error, PermissionError) or status in (401, 403):
        words = "found no credentials" if type(error).__name__ in _NO_CREDENTIALS else "access is refused"
        return StorageError(words, f"Check the address and the credentials: {_CREDENTIALS[scheme]}.", lasts=True)
    if isinstance(error, FileNotFoundError) and (cause is None or status == 404):
        return StorageError("there is no such file", "Check the address.", lasts=True, is_missing=True)
    if isinstance(error, ValueError) and "range" in reason:
        return StorageError(
            "the server sends whole files only, no parts of them", "Download the file and name it there.", lasts=True
        )
    lasts = isinstance(status, int) and 400 <= status < 500 and status not in _PASSING
    lasts = lasts or isinstance(error, (TypeError, ValueError))
    return StorageError(reason, "Check the address, the connection and the server.", lasts=lasts)


def storage_of(url: str) -> Storage:
    """Return the storage that a URL is in.

    Raises:
        MissingPackageError: If the package for it is not installed.
    """
    return _storage(scheme_of(url), url)


def _storage(scheme: str, url: str) -> Storage:
    import fsspec  # Why: needed for remote files only

    try:
        system = fsspec.filesystem(scheme, use_listings_cache=False)
    except ImportError:
        package, extra = _PACKAGES.get(scheme, ("aiohttp", "s3"))
        raise MissingPackageError(package, needed_for=clean_url(url), extra=extra) from None
    return Storage(system, scheme)
