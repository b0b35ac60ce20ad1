"""A real S3 server in a process of its own, on loopback: what object storage is tested against."""

from __future__ import annotations

import contextlib
import itertools
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["S3Server", "s3_server"]


@dataclass
class S3Server:
    """A running server; ``environment`` is what programs need to talk to it."""

    endpoint: str
    environment: dict[str, str]
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    _client: Any = None

    def client(self) -> Any:
        """Return a plain botocore client, to look at and damage objects behind the library's back."""
        import botocore.session

        if self._client is None:
            self._client = botocore.session.Session().create_client(
                "s3",
                endpoint_url=self.endpoint,
                region_name="us-east-1",
                aws_access_key_id="testing",
                aws_secret_access_key="testing",
            )
        return self._client

    def new_bucket(self) -> str:
        """Name of a new, empty bucket."""
        name = f"bucket-{next(self._numbers)}"
        self.client().create_bucket(Bucket=name)
        return name

    def objects(self, url: str) -> dict[str, bytes]:
        """Content of every object below a URL, by its key below it."""
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        found, plain = {}, self.client()
        for page in plain.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", ()):
                body = plain.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
                found[item["Key"][len(prefix) :].lstrip("/")] = body
        return found

    def replace(self, url: str, name: str, content: bytes | None) -> None:
        """Put other bytes in the place of an object, or delete it."""
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        if content is None:
            self.client().delete_object(Bucket=bucket, Key=f"{prefix}/{name}")
        else:
            self.client().put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=content)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def s3_server() -> Iterator[S3Server]:
    """Start moto's server, and end it with the block."""
    port = _free_port()
    endpoint = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=5).close()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("moto's server does not start") from None
                time.sleep(0.1)
        environment = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        yield S3Server(endpoint, environment)
    finally:
        server.terminate()
        server.wait(timeout=30)
