# SPDX-License-Identifier: Apache-2.0
"""Shows ovfs at work on S3: the steps of demo.py on a bucket, looked at by another S3 client.

SeaweedFS is the server, started on loopback for the demonstration.
"""

import stat
import sys
from pathlib import Path

from demo import main
from demo_share import Share

from tests.guest import Daemon
from tests.services.bucket import Bucket
from tests.services.daemon import ServiceDaemon
from tests.services.seaweed import SeaweedFS

PREFIX = "demo/"


class BucketShare(Share):
    """A prefix of a bucket.

    Args:
        service: Whose bucket.
        scratch: A directory for the daemon.
    """

    side = "an S3 client"
    place = "the bucket"

    def __init__(self, service: SeaweedFS, scratch: Path) -> None:
        self._service = service
        self._scratch = scratch
        self._bucket = Bucket(service, PREFIX)

    def daemon(self) -> Daemon:
        """The daemon that serves it, not yet started."""
        return ServiceDaemon(self._service.url(f"/{PREFIX}"), self._scratch)

    def put(self, name: str, data: bytes) -> None:
        """Stores an object."""
        self._bucket.put(name, data)

    def make_directory(self, name: str) -> None:
        """Stores a marker object."""
        self._bucket.put(f"{name}/", b"", content_type="application/x-directory")

    def make_link(self, name: str, target: str) -> None:
        """Stores a link as s3fs and rclone do."""
        self._bucket.put(name, target.encode(), {"mode": str(stat.S_IFLNK | 0o777)})

    def names(self) -> set[str]:
        """The first parts of all keys."""
        return {listed.key.partition("/")[0] for listed in self._bucket.objects()}

    def get(self, name: str) -> bytes:
        """The content of an object."""
        return self._bucket.get(name)

    def copy_out(self, name: str, target: Path) -> Path:
        """Fetches all objects below a name."""
        for key in self._bucket.keys(f"{name}/"):
            path = target / key.removeprefix(f"{name}/")
            if key.endswith("/"):
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self._bucket.get(key))
        return target


if __name__ == "__main__":
    with SeaweedFS() as seaweed:
        sys.exit(main(lambda scratch: BucketShare(seaweed, scratch)))
