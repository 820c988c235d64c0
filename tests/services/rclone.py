# SPDX-License-Identifier: Apache-2.0
"""`rclone serve`: a directory of this host as a WebDAV, FTP or S3 server.

What the server holds are plain files below `directory`, so a test looks and changes there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from tests.services.ports import LOOPBACK, answers, free_ports
from tests.services.process import Server, program
from tests.services.seaweed import REGION, backend_url

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Protocol = Literal["webdav", "ftp", "s3"]

USER: Final = "somebody"
PASSWORD: Final = "secret/of+somebody=0123456789"  # noqa: S105  (of a server that the test starts)
PASSIVE_PORTS: Final = 32


class RcloneServe(Server):
    """A running `rclone serve`.

    Args:
        protocol: What it speaks.
        parent: Where its scratch directory goes; None: where temporary files go.
        directory: What it serves; None: a directory in the scratch directory.
        options: More of its options, `--read-only` say.

    Attributes:
        directory: What it serves; for S3 every directory in it is a bucket.
        bucket: The bucket that is made where S3 is spoken.
    """

    def __init__(
        self,
        protocol: Protocol,
        parent: str | os.PathLike[str] | None = None,
        *,
        directory: Path | None = None,
        options: Sequence[str] = (),
    ) -> None:
        super().__init__(parent)
        self.protocol: Protocol = protocol
        self.directory = directory or self.scratch / "data"
        self.directory.mkdir(exist_ok=True)
        self.bucket = "test-bucket"
        self.region = REGION
        self.access_key = USER
        self.secret_key = PASSWORD
        self.port = 0
        self._passive = 0
        self._options = list(options)
        if protocol == "s3":
            (self.directory / self.bucket).mkdir(exist_ok=True)

    @property
    def endpoint(self) -> str:
        """The server's address."""
        return f"{'ftp' if self.protocol == 'ftp' else 'http'}://{LOOPBACK}:{self.port}"

    @property
    def files(self) -> Path:
        """The directory that has the objects' files."""
        return self.directory / self.bucket if self.protocol == "s3" else self.directory

    def url(self, root: str = "/", **more: str | None) -> str:
        """An ovfs backend URL.

        Args:
            root: The prefix.
            **more: Parameters added or replaced; None leaves one out.
        """
        parameters: dict[str, str | None] = {"root": root, "endpoint": self.endpoint}
        match self.protocol:
            case "s3":
                parameters |= {"bucket": self.bucket, "region": self.region}
                parameters |= {"access_key_id": USER, "secret_access_key": PASSWORD}
            case "webdav":
                parameters |= {"username": USER, "password": PASSWORD}
            case "ftp":
                parameters |= {"user": USER, "password": PASSWORD}
        return backend_url(self.protocol, **{**parameters, **more})

    def _choose_ports(self) -> None:
        self.port, self._passive = free_ports(2)
        self._passive = min(self._passive, 65535 - PASSIVE_PORTS)

    def _command(self) -> list[str]:
        command = [
            *(program("rclone"), "serve", self.protocol, str(self.directory)),
            *("--config", "", "--addr", f"{LOOPBACK}:{self.port}"),
            # What a test changes in the directory is there for the next request.
            *("--dir-cache-time", "0s", "--poll-interval", "0"),
        ]
        match self.protocol:
            case "s3":
                command += ["--auth-key", f"{USER},{PASSWORD}"]
            case "webdav":
                command += ["--user", USER, "--pass", PASSWORD, "--etag-hash", "auto"]
            case "ftp":
                passive = f"{self._passive}-{self._passive + PASSIVE_PORTS}"
                command += ["--user", USER, "--pass", PASSWORD, "--passive-port", passive]
        return command + self._options

    def _environment(self) -> Mapping[str, str]:
        return {"GOMEMLIMIT": str(256 << 20), "XDG_CACHE_HOME": str(self.scratch / "cache")}

    def _ready(self) -> bool:
        return answers(self.port)
