# SPDX-License-Identifier: Apache-2.0
"""SeaweedFS as the S3 server: one process with master, volume server, filer and gateway.

Its parts find each other on ports of their own, all of which are given, so that several can run
side by side. It takes three seconds to start (one part waits for the next) and seventeen to end
when asked to, which is why `stop` does not ask: what it has acknowledged is in its files then.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

from tests.services.bucket import Bucket
from tests.services.ports import LOOPBACK, answers, free_ports
from tests.services.process import Server, program

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

MIB: Final = 1 << 20
REGION: Final = "us-east-1"
PARTS: Final = ("master", "volume", "filer", "s3")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key of the service and its secret."""

    access_key: str
    secret_key: str = field(repr=False)


def backend_url(scheme: str, **parameters: str | None) -> str:
    """An ovfs backend URL, percent-encoded; what is None is left out."""
    given = {key: value for key, value in parameters.items() if value is not None}
    return f"{scheme}://?{urlencode(given, quote_via=quote, safe='/:')}"


class SeaweedFS(Server):
    """A running SeaweedFS with one bucket.

    Args:
        parent: Where its data goes; None: where temporary files go.
        bucket: The bucket that is made.
        memory: Soft bound of its heap, in bytes.

    Attributes:
        writer: Credentials that may do everything.
        reader: Credentials that may read and list alone.
    """

    def __init__(
        self,
        parent: str | os.PathLike[str] | None = None,
        *,
        bucket: str = "test-bucket",
        memory: int = 512 * MIB,
    ) -> None:
        super().__init__(parent)
        self.bucket = bucket
        self.region = REGION
        # The secrets have what a URL must encode: a slash, a plus, an equals sign.
        self.writer = Credentials("writer-key", "secret/of+the=writer-0123456789")
        self.reader = Credentials("reader-key", "secret/of+the=reader-0123456789")
        self._memory = memory
        self._ports: dict[str, int] = {}
        self._grpc: dict[str, int] = {}
        (self.scratch / "data").mkdir()

    @property
    def access_key(self) -> str:
        """The key of `writer`."""
        return self.writer.access_key

    @property
    def secret_key(self) -> str:
        """The secret of `writer`."""
        return self.writer.secret_key

    @property
    def port(self) -> int:
        """Where S3 is spoken."""
        return self._ports["s3"]

    @property
    def endpoint(self) -> str:
        """The server's address."""
        return f"http://{LOOPBACK}:{self.port}"

    def url(
        self, root: str = "/", *, credentials: Credentials | None = None, **more: str | None
    ) -> str:
        """An ovfs backend URL of the bucket.

        Args:
            root: The prefix.
            credentials: Whose; `writer` without.
            **more: Parameters added or replaced: endpoint, say, for a proxy. None leaves one out.
        """
        who = credentials or self.writer
        parameters: dict[str, str | None] = {
            "root": root,
            "bucket": self.bucket,
            "endpoint": self.endpoint,
            "region": self.region,
            "access_key_id": who.access_key,
            "secret_access_key": who.secret_key,
        }
        return backend_url("s3", **{**parameters, **more})

    def stop(self, timeout: float = 30.0) -> None:  # noqa: ARG002  (as the base class has it)
        """Ends it at once, without asking."""
        self.kill()

    def close(self) -> None:
        """Ends it for good and removes its data and the sockets that it leaves in /tmp."""
        super().close()
        leftovers = [f"{part}-grpc-{port}" for part, port in self._grpc.items()]
        leftovers += [f"{part}-{port}" for part, port in self._ports.items()]
        for name in leftovers:
            Path(f"/tmp/seaweedfs-{name}.sock").unlink(missing_ok=True)

    def _choose_ports(self) -> None:
        ports = free_ports(2 * len(PARTS))
        self._ports = dict(zip(PARTS, ports, strict=False))
        self._grpc = dict(zip(PARTS, ports[len(PARTS) :], strict=True))

    def _command(self) -> list[str]:
        identities = [
            _identity("writer", self.writer, "Admin", "Read", "Write", "List", "Tagging"),
            _identity("reader", self.reader, "Read", "List"),
        ]
        config = self.scratch / "s3.json"
        config.write_text(json.dumps({"identities": identities}))
        config.chmod(0o600)
        numbers = [f"-{part}.port={port}" for part, port in self._ports.items()]
        numbers += [f"-{part}.port.grpc={port}" for part, port in self._grpc.items()]
        return [
            *(program("weed"), "-logtostderr=true", "server", f"-dir={self.scratch}/data"),
            *(f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}", *numbers),
            *("-filer", "-s3", f"-s3.config={config}"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0"),
            *("-s3.autoCreateBucket=false", "-master.telemetry=false"),
            # The other raft waits for the rest of the cluster for 20 s when it is started again.
            *("-master.raftHashicorp", "-master.electionTimeout=1s"),
            # Small volumes, as many as fit, none of them laid out in advance.
            *("-master.volumeSizeLimitMB=512", "-volume.max=0", "-volume.minFreeSpace=64MiB"),
        ]

    def _environment(self) -> Mapping[str, str]:
        return {"GOMEMLIMIT": str(self._memory), "GOGC": "50"}

    def _ready(self) -> bool:
        # The gateway answers before there is a volume to write to, hence more than a connection.
        return answers(self.port) and Bucket(self, timeout=2.0).server_answers()


def _identity(name: str, credentials: Credentials, *actions: str) -> dict[str, object]:
    keys = {"accessKey": credentials.access_key, "secretKey": credentials.secret_key}
    return {"name": name, "credentials": [keys], "actions": actions}
