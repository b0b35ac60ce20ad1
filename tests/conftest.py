"""Fixtures that several rooms need."""

from collections.abc import Iterator

import pytest

from featstore.testing.s3_server import S3Server, s3_server


@pytest.fixture(scope="session")
def running_s3() -> Iterator[S3Server]:
    """One S3 server for all tests of a session, started when the first one asks."""
    with s3_server() as server:
        yield server


@pytest.fixture
def s3(running_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, with the environment set for it as a user would."""
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    for name, value in running_s3.environment.items():
        monkeypatch.setenv(name, value)
    return running_s3
