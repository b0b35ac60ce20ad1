"""Fixtures that several rooms need; and what happens where torch is not installed.

Without torch, a test that imports it, or calls what does, is skipped for just that reason: so the rooms that do without
can be tried with interpreters and libraries that torch does not support yet.
"""

import importlib.util
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from featstore.testing.s3_server import S3Server, s3_server

collect_ignore = ["typing"]  # a program of a user, for mypy: it is never run


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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In processes side by side, files with slow tests come first: none is left to run alone at the end."""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


if importlib.util.find_spec("torch") is None:

    def _lacks_torch(error: BaseException | None) -> bool:
        while error is not None:
            if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "torch":
                return True
            error = error.__cause__ or error.__context__
        return False

    def pytest_configure(config: pytest.Config) -> None:
        config.option.doctest_ignore_import_errors = True

    class _TorchlessModule(pytest.Module):
        def _getobj(self) -> Any:
            try:
                return super()._getobj()
            except self.CollectError as error:
                if _lacks_torch(error):
                    pytest.skip("imports torch, which is not installed", allow_module_level=True)
                raise

    def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
        module: pytest.Module = _TorchlessModule.from_parent(parent, path=module_path)
        return module

    def _skip_without_torch() -> Generator[None, Any, Any]:
        try:
            return (yield)
        except BaseException as error:
            if _lacks_torch(error):
                pytest.skip("needs torch, which is not installed")
            raise

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call() -> Generator[None, Any, Any]:
        return (yield from _skip_without_torch())

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup() -> Generator[None, Any, Any]:
        return (yield from _skip_without_torch())
