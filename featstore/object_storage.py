"""Objects on S3 and servers that speak its protocol: requests, retries, and what to say when they fail.

Settings are those of the ecosystem, read by botocore: ``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``,
``AWS_SECRET_ACCESS_KEY``, ``AWS_PROFILE``, ``AWS_DEFAULT_REGION``, ``AWS_MAX_ATTEMPTS`` and the files in ``~/.aws``.
Stores, audio files and track tables with ``s3://`` URLs all come through here.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from featstore.errors import MissingDependency, ObjectStorageError
from featstore.object_client import (
    ATTEMPTS,
    PARALLEL_PARTS,
    PARALLEL_READS,
    ConditionFailed,
    ConditionUnclear,
    RangeOutside,
    client,
    no_bucket,
    request_errors,
)

__all__ = ["Fetched", "ObjectPlace", "is_object_url", "object_size", "parse_object_url", "read_object"]

SCHEME = "s3://"
PART_BYTES = 16 << 20
MULTIPART_BYTES = 32 << 20  # files from this size on go up in parts
_MOST_PARTS = 10_000
_BLOCK = 1 << 20

_T = TypeVar("_T")


def is_object_url(path: str | os.PathLike[str]) -> bool:
    """Whether a path is the URL of an object.

    Examples
    --------
    >>> is_object_url("s3://bucket/a.wav"), is_object_url("/music/a.wav")
    (True, False)
    """
    return isinstance(path, str) and path.startswith(SCHEME)


def parse_object_url(url: str) -> tuple[str, str]:
    """Bucket and key of a URL.

    Raises
    ------
    ObjectStorageError
        When there is no bucket in it.

    Examples
    --------
    >>> parse_object_url("s3://bucket/music/a.wav")
    ('bucket', 'music/a.wav')
    """
    bucket, _, key = url.removeprefix(SCHEME).partition("/")
    if not url.startswith(SCHEME) or not bucket or any(c.isspace() or c in "\\?#" for c in bucket):
        raise ObjectStorageError("this is no URL of an object", url, "Write s3://BUCKET/PATH")
    return bucket, key


@dataclass(frozen=True, slots=True)
class Fetched:
    """An object, or a stretch of it.

    Attributes
    ----------
    data : bytes
    size : int
        Bytes of the whole object.
    version : str
        Its entity tag: changes with the content.
    age_s : float
        Seconds since it was written, both times by the server's own clock.
    """

    data: bytes
    size: int
    version: str
    age_s: float


def read_object(url: str) -> bytes:
    """Content of the object at a URL; ``FileNotFoundError`` when there is none."""
    folder, _, name = url.rpartition("/")
    return ObjectPlace(folder).get(name).data


def object_size(url: str) -> int | None:
    """Bytes of the object at a URL, None when there is none."""
    folder, _, name = url.rpartition("/")
    found = ObjectPlace(folder).head(name)
    return None if found is None else found[0]


class ObjectPlace:
    """Objects of one bucket under one prefix, by relative name. Picklable; each process has its own connection.

    Parameters
    ----------
    url : str
        ``s3://bucket/prefix``.

    Raises
    ------
    MissingDependency
        When the ``s3`` extra is not installed.
    """

    def __init__(self, url: str) -> None:
        if importlib.util.find_spec("botocore") is None:
            raise MissingDependency.of("botocore", "s3", f"{url}: an s3:// URL")
        self.bucket, key = parse_object_url(url)
        self.prefix = key.strip("/") + "/" if key.strip("/") else ""
        self._bucket_seen = False

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.prefix}".rstrip("/")

    def url(self, name: str) -> str:
        """Full URL of an object."""
        return f"{SCHEME}{self.bucket}/{self.prefix}{name}"

    # -- reading ----------------------------------------------------------------------------------------------------

    def get(self, name: str, *, start: int | None = None, stop: int | None = None, version: str = "") -> Fetched:
        """Content of an object, or its bytes from ``start`` to ``stop``; a negative ``start`` counts from the end.

        Raises
        ------
        FileNotFoundError
            When there is no such object.
        ObjectStorageError
            When the server refuses or does not answer, or the object is not of that ``version`` any more.
        """
        asked: dict[str, Any] = {"IfMatch": version} if version else {}
        if start is not None:
            asked["Range"] = f"bytes={start}" if start < 0 else f"bytes={start}-{'' if stop is None else stop - 1}"

        def fetch() -> Fetched:
            try:
                answer = self._call("get_object", name, **asked)
            except ConditionFailed:
                raise ObjectStorageError(
                    "the object was replaced while it was read", self.url(name), "Open the store again"
                ) from None
            except RangeOutside:  # an empty object has no last bytes
                size, tag = self.head(name) or (0, "")
                return Fetched(b"", size, tag, 0.0)
            data = answer["Body"].read()
            extent = answer.get("ContentRange", "")
            size = int(extent.rpartition("/")[2]) if extent else len(data)
            return Fetched(data, size, answer["ETag"], _age_s(answer))

        return self._with_body(fetch, name)

    def download(self, name: str, file: BinaryIO) -> int:
        """Write an object into an open file, block by block; its bytes."""

        def fetch() -> int:
            file.seek(0)
            file.truncate()
            answer = self._call("get_object", name)
            for block in answer["Body"].iter_chunks(_BLOCK):
                file.write(block)
            file.flush()
            return file.tell()

        return self._with_body(fetch, name)

    def head(self, name: str) -> tuple[int, str] | None:
        """Bytes and version of an object, None when there is none."""
        try:
            answer = self._call("head_object", name)
        except FileNotFoundError:
            self._demand_bucket()
            return None
        return int(answer["ContentLength"]), str(answer["ETag"])

    def _demand_bucket(self) -> None:
        """Tell a missing bucket from a missing object: a request for a header alone gives no reason."""
        if self._bucket_seen:
            return
        try:
            with request_errors(self.bucket, str(self)):
                client().head_bucket(Bucket=self.bucket)
        except FileNotFoundError:
            raise no_bucket(self.bucket, str(self)) from None
        except ObjectStorageError as error:
            if "denied" not in error.what:  # objects may be readable where the bucket is not
                raise
        self._bucket_seen = True

    def names_in(self, name: str) -> list[str]:
        """Names directly below a prefix, sorted: objects and what looks like folders."""
        prefix = self._folder(name)
        found: set[str] = set()
        for page in self._pages("list_objects_v2", Prefix=prefix, Delimiter="/"):
            found |= {item["Key"][len(prefix) :] for item in page.get("Contents", ())}
            found |= {item["Prefix"][len(prefix) :].rstrip("/") for item in page.get("CommonPrefixes", ())}
        return sorted(found - {""})

    def walk(self, name: str) -> Iterator[tuple[str, int]]:
        """Every object below a prefix with its bytes, in order of its key, a thousand a request."""
        for page in self._pages("list_objects_v2", Prefix=self._folder(name)):
            for item in page.get("Contents", ()):
                if not item["Key"].endswith("/"):
                    yield item["Key"][len(self.prefix) :], int(item["Size"])

    def get_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """Contents of many small objects, several at a time; those that are not there are left out."""
        wanted = list(dict.fromkeys(names))

        def one(name: str) -> bytes | None:
            try:
                return self.get(name).data
            except FileNotFoundError:
                return None

        with ThreadPoolExecutor(PARALLEL_READS) as pool:
            contents = list(pool.map(one, wanted))
        return {name: data for name, data in zip(wanted, contents, strict=True) if data is not None}

    # -- writing ----------------------------------------------------------------------------------------------------

    def put(self, name: str, data: bytes) -> None:
        """Write an object in one atomic step."""
        self._call("put_object", name, Body=data)

    def put_if(self, name: str, data: bytes, *, version: str | None) -> str | None:
        """Write an object if it has this version (None: if there is none); its new version, None when it has not.

        Of any number of writers who try at once, one succeeds.
        """
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        for attempt in range(ATTEMPTS):
            try:
                return str(self._call("put_object", name, Body=data, **condition)["ETag"])
            except FileNotFoundError:  # replaced what is gone
                return None
            except ConditionFailed:
                break
            except ConditionUnclear:  # two requests met: the server asks for another try
                time.sleep(0.1 * 2**attempt)
        # a retried request may find what its first try wrote
        try:
            there = self.get(name)
        except FileNotFoundError:
            return None
        return there.version if there.data == data else None

    def delete(self, name: str, *, version: str = "") -> None:
        """Delete an object if it is there, and still of that version."""
        with contextlib.suppress(FileNotFoundError, ConditionFailed):
            self._call("delete_object", name, **({"IfMatch": version} if version else {}))

    def delete_many(self, names: Iterable[str]) -> None:
        """Delete many objects, several at a time."""
        with ThreadPoolExecutor(PARALLEL_READS) as pool:
            for _ in pool.map(self.delete, names):
                pass

    def upload(self, path: Path, name: str) -> None:
        """Put a local file in place: large ones in parts, which show up as one object when all have arrived."""
        size = path.stat().st_size
        if size < MULTIPART_BYTES:
            self._call("put_object", name, Body=path.read_bytes())
            return
        upload = self._call("create_multipart_upload", name)["UploadId"]
        step = max(PART_BYTES, -(-size // _MOST_PARTS))

        def part(number: int) -> dict[str, Any]:
            with path.open("rb") as file:
                file.seek((number - 1) * step)
                content = file.read(step)
            answer = self._call("upload_part", name, UploadId=upload, PartNumber=number, Body=content)
            return {"PartNumber": number, "ETag": answer["ETag"]}

        try:
            with ThreadPoolExecutor(PARALLEL_PARTS) as pool:
                parts = list(pool.map(part, range(1, -(-size // step) + 1)))
            self._call("complete_multipart_upload", name, UploadId=upload, MultipartUpload={"Parts": parts})
        except BaseException:
            self.abort_upload(name, upload)
            raise

    def open_uploads(self, name: str) -> list[tuple[str, str]]:
        """(name, upload id) of every upload in parts below a prefix that was neither finished nor given up."""
        found = []
        for page in self._pages("list_multipart_uploads", Prefix=self._folder(name)):
            found += [(item["Key"][len(self.prefix) :], item["UploadId"]) for item in page.get("Uploads", ())]
        return found

    def abort_upload(self, name: str, upload: str) -> None:
        """Give an upload in parts up, which frees its parts."""
        # it may be finished meanwhile; what cannot be given up now is collected by the next run
        with contextlib.suppress(FileNotFoundError, ObjectStorageError):
            self._call("abort_multipart_upload", name, UploadId=upload)

    # -- requests ---------------------------------------------------------------------------------------------------

    def _folder(self, name: str) -> str:
        return f"{self.prefix}{name.rstrip('/')}/" if name else self.prefix

    def _call(self, operation: str, name: str, **parameters: Any) -> Any:
        with request_errors(self.bucket, self.url(name)):
            return getattr(client(), operation)(Bucket=self.bucket, Key=f"{self.prefix}{name}", **parameters)

    def _pages(self, operation: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        with request_errors(self.bucket, str(self)):
            yield from client().get_paginator(operation).paginate(Bucket=self.bucket, **parameters)

    def _with_body(self, fetch: Callable[[], _T], name: str) -> _T:
        """Call again when the connection breaks in the middle of an answer: botocore retries up to its first byte."""
        from botocore.exceptions import HTTPClientError, IncompleteReadError, ResponseStreamingError
        from urllib3.exceptions import HTTPError

        broken = (HTTPClientError, IncompleteReadError, ResponseStreamingError, HTTPError, ConnectionError)
        for attempt in range(ATTEMPTS):
            try:
                return fetch()
            except broken as error:
                if attempt == ATTEMPTS - 1:
                    raise ObjectStorageError(
                        f"the connection broke {ATTEMPTS} times while an object was read ({error})",
                        self.url(name),
                        "Run again; what is committed stays valid",
                    ) from error
                time.sleep(0.2 * 2**attempt)
        raise AssertionError


def _age_s(answer: dict[str, Any]) -> float:
    """Seconds since an object was written."""
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    now = parsedate_to_datetime(date).timestamp() if date else time.time()
    return max(0.0, now - float(answer["LastModified"].timestamp()))
