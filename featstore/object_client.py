"""The connection to S3 that each process makes for itself, and its failures in words that help."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from featstore.errors import ObjectStorageError

__all__ = [
    "ATTEMPTS",
    "PARALLEL_PARTS",
    "PARALLEL_READS",
    "ConditionFailed",
    "ConditionUnclear",
    "RangeOutside",
    "client",
    "no_bucket",
    "request_errors",
]

CONNECT_S = 5.0
READ_S = 20.0
ATTEMPTS = 5  # of every request, with growing random pauses between them: 10 s where a connection is refused
PARALLEL_PARTS = 4
PARALLEL_READS = 16

_clients: dict[tuple[tuple[str, str], ...], Any] = {}
_lock = threading.Lock()


def _forget_clients() -> None:
    global _lock
    _lock = threading.Lock()  # another thread may have held it when this process was forked off
    _clients.clear()


os.register_at_fork(after_in_child=_forget_clients)


class ConditionFailed(Exception):
    """The object is not of the version that a request demanded."""


class ConditionUnclear(Exception):
    """Another conditional request was under way: to be tried again."""


class RangeOutside(Exception):
    """The object has none of the bytes asked for."""


def client() -> Any:
    """Return the client of this process for the settings in force; made when first used, and again after a fork."""
    settings = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))
    with _lock:
        made = _clients.get(settings)
        if made is None:
            made = _clients[settings] = _new_client()
    return made


def _new_client() -> Any:
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    try:
        session = botocore.session.Session()
        attempts = session.get_config_variable("max_attempts") or ATTEMPTS
        config = Config(
            connect_timeout=CONNECT_S,
            read_timeout=READ_S,
            retries={"mode": "standard", "total_max_attempts": int(attempts)},
            max_pool_connections=PARALLEL_READS + PARALLEL_PARTS,
        )
        # requests are signed for a region: S3 answers with the right one where this is wrong, other servers take any
        region = session.get_config_variable("region") or "us-east-1"
        return session.create_client("s3", region_name=region, config=config)
    except (BotoCoreError, ValueError) as error:
        raise ObjectStorageError(
            f"the settings for S3 cannot be used: {error}", "", "Check AWS_ENDPOINT_URL, AWS_PROFILE and ~/.aws/config"
        ) from error


@contextmanager
def request_errors(bucket: str, url: str) -> Iterator[None]:
    """Turn errors of requests into ours; a missing object is a ``FileNotFoundError``."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise _explained(error, bucket, url) from error


def no_bucket(bucket: str, url: str) -> ObjectStorageError:
    """Build the error for a bucket that does not exist."""
    return ObjectStorageError(
        f"there is no bucket {bucket!r} at {client().meta.endpoint_url}",
        url,
        "Create it, or check its name and AWS_ENDPOINT_URL",
    )


_CREDENTIALS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
_KINDS: dict[tuple[str, ...], tuple[str, str]] = {
    ("AccessDenied", "AllAccessDisabled", "403"): (
        "access to bucket {bucket!r} is denied",
        f"Check {_CREDENTIALS}, and that they may list, read, write and delete objects there",
    ),
    ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "RequestTimeTooSkewed"): (
        "the credentials are not accepted ({code})",
        f"Check {_CREDENTIALS}, and the clock of this machine",
    ),
    ("PermanentRedirect", "301", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"): (
        "bucket {bucket!r} is in another region",
        "Set AWS_DEFAULT_REGION to the bucket's region",
    ),
    ("SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "500", "503"): (
        "the object store is out of service or overloaded ({code})",
        "Run again later; nothing is lost",
    ),
}
_REFUSALS = {code: sentences for codes, sentences in _KINDS.items() for code in codes}


def _explained(error: Exception, bucket: str, url: str) -> Exception:
    """Return what to raise for an error of botocore."""
    from botocore import exceptions

    code = str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, exceptions.ClientError) else ""
    if code in ("NoSuchKey", "NoSuchUpload", "404"):
        return FileNotFoundError(2, "no such object", url)
    if code in ("PreconditionFailed", "412"):
        return ConditionFailed(url)
    if code in ("ConditionalRequestConflict", "OperationAborted", "409"):
        return ConditionUnclear(url)
    if code in ("InvalidRange", "416"):
        return RangeOutside(url)
    if code == "NoSuchBucket":
        return no_bucket(bucket, url)
    if code in _REFUSALS:
        what, fix = _REFUSALS[code]
        return ObjectStorageError(what.format(bucket=bucket, code=code), url, fix)
    if isinstance(error, (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)):
        return ObjectStorageError("no credentials for S3 were found", url, f"Set {_CREDENTIALS}")
    if isinstance(error, (exceptions.ConnectionError, exceptions.HTTPClientError)):
        return ObjectStorageError(
            f"{client().meta.endpoint_url} does not answer ({type(error).__name__})",
            url,
            "Check AWS_ENDPOINT_URL and the network, then run again: what is committed stays valid",
        )
    return ObjectStorageError(f"the object store refused: {error}", url, "Check the settings for S3, then run again")
