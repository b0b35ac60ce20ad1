"""Stores on disk and in a bucket behind one interface, so that tests can look at their files and damage them."""

from dataclasses import dataclass
from pathlib import Path

from featstore.testing.s3_server import S3Server


@dataclass
class Place:
    """Where a test puts its store."""

    url: str
    server: S3Server | None = None

    @property
    def remote(self) -> bool:
        return self.server is not None

    def files(self) -> dict[str, bytes]:
        """Content of every file by name."""
        if self.server is not None:
            return self.server.objects(self.url)
        root = Path(self.url)
        return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}

    def replace(self, name: str, content: bytes | None) -> None:
        """Put other bytes in a file's place behind the library's back, or delete it."""
        if self.server is not None:
            self.server.replace(self.url, name, content)
            return
        path = Path(self.url) / name
        if content is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
