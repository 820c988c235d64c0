# SPDX-License-Identifier: Apache-2.0
"""Real programs work in a bucket: a guest on SeaweedFS, judged by exit codes and by the objects.

Programs that are no part of the guest's image (rsync, Python) come from the host's own root, which
a second, read-only daemon serves; the bucket is bound into it and the program runs in a chroot.
"""

from __future__ import annotations

import ensurepip
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.guest import Guest, has_uml
from tests.guest.daemon import Daemon
from tests.guest.qemu import QemuGuest
from tests.guest.uml import UmlGuest
from tests.services.daemon import ServiceDaemon

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.services.bucket import Bucket
    from tests.services.seaweed import SeaweedFS

ONLY_WITH_UML = pytest.mark.skipif(not has_uml(), reason="User-mode Linux exists for x86-64 alone")
MODES = ("durable", "background")
WHEELS = Path(ensurepip.__file__).parent / "_bundled"


@contextmanager
def guests_on(
    url: str, scratch: Path, count: int = 1, options: Sequence[str] = ()
) -> Iterator[list[Guest]]:
    """Guests, each with a daemon and a cache of its own, with the bucket at /mnt."""
    with ExitStack() as stack:
        guests: list[Guest] = []
        for number in range(count):
            place = scratch / str(number)
            (place / "host").mkdir(parents=True)
            daemon = ServiceDaemon(url, place, [*options, "--tag", "share"])
            host = Daemon(Path("/"), place / "host", ["--readonly", "--tag", "host"])
            stack.enter_context(daemon)
            stack.enter_context(host)
            guest = UmlGuest(daemon.socket, place, more=[host.socket])
            stack.enter_context(guest)
            guest.check(
                "mkdir /host && mount -t virtiofs host /host && mount --bind /mnt /host/mnt"
            )
            guest.check("mount -t proc proc /host/proc && mount -t tmpfs tmpfs /host/tmp")
            guests.append(guest)
        yield guests


@pytest.fixture(params=MODES)
def guest(
    request: pytest.FixtureRequest, seaweed: SeaweedFS, bucket_root: str, tmp_path: Path
) -> Iterator[Guest]:
    """A User-mode Linux guest on an empty prefix."""
    options = ["--upload", request.param]
    with guests_on(seaweed.url(bucket_root), tmp_path, options=options) as guests:
        yield guests[0]


@ONLY_WITH_UML
def test_git(guest: Guest) -> None:
    guest.check(
        "cd /mnt && git init -q repository && cd repository &&"
        " for n in $(seq 300); do echo $n >file-$n; done && git add . && git commit -q -m first &&"
        " git fsck --full && git clone -q /mnt/repository /mnt/clone &&"
        " diff -r --exclude=.git /mnt/repository /mnt/clone && git -C /mnt/clone fsck --full",
        timeout=300,
    )
    assert guest.check("git -C /mnt/clone ls-files | wc -l").strip() == "300"


@ONLY_WITH_UML
@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_sqlite(guest: Guest, journal: str) -> None:
    for _ in range(2):  # the second time in a file that was closed
        guest.check(
            f"cd /mnt && {{ echo 'pragma journal_mode={journal};';"
            " echo 'create table if not exists t(n, text);'; for n in $(seq 60); do"
            " echo 'insert into t values(abs(random()) % 1000, hex(randomblob(500)));'; done; } |"
            " sqlite3 base.db",
            timeout=200,
        )
    guest.check("echo 3 >/proc/sys/vm/drop_caches")
    checked = guest.check('sqlite3 /mnt/base.db "pragma integrity_check; select count(*) from t"')
    assert checked.split() == ["ok", "120"]


@ONLY_WITH_UML
def test_tar_and_diff(guest: Guest) -> None:
    guest.check(
        "mkdir /tmp/tree /mnt/tree && cd /host/usr/share && tar -cf /tmp/tree.tar bash-completion"
        " -C doc git && tar -C /tmp/tree -xf /tmp/tree.tar && tar -C /mnt/tree -xf /tmp/tree.tar",
        timeout=300,
    )
    assert int(guest.check("find /mnt/tree -type f | wc -l")) > 50
    guest.check("echo 3 >/proc/sys/vm/drop_caches")
    guest.check("diff -r --no-dereference /tmp/tree /mnt/tree", timeout=300)
    kinds = "find bash-completion git -printf '%P %y %m %U %G %l %Ts\\n' | sort"
    assert guest.check(f"cd /tmp/tree && {kinds}") == guest.check(f"cd /mnt/tree && {kinds}")


@ONLY_WITH_UML
def test_a_second_rsync_transfers_nothing(guest: Guest) -> None:
    source = "/usr/share/bash-completion"
    rsync = f"chroot /host rsync -a --stats {source} /mnt/"
    first = guest.check(rsync, timeout=400)
    sent = next(line for line in first.splitlines() if "regular files transferred" in line)
    assert int(sent.rpartition(":")[2].replace(",", "")) > 5
    guest.check("sleep 3; echo 3 >/proc/sys/vm/drop_caches")
    second = guest.check(rsync, timeout=400)
    assert "Number of regular files transferred: 0" in second, second
    assert "Number of created files: 0" in second, second
    listed = guest.check(f"chroot /host rsync -ain {source} /mnt/", timeout=200)
    assert not listed.strip(), f"rsync would change: {listed}"


@ONLY_WITH_UML
@pytest.mark.parametrize("pattern", ["randwrite", "write", "randrw"])
def test_fio_finds_what_it_wrote(guest: Guest, pattern: str) -> None:
    guest.check(
        f"cd /mnt && fio --name=job --filename=data --size=24M --rw={pattern} --bs=4k"
        " --verify=sha256 --ioengine=psync --end_fsync=1 --do_verify=1 --verify_fatal=1"
        " --randrepeat=1 --verify_state_save=0",
        timeout=400,
    )
    guest.check("echo 3 >/proc/sys/vm/drop_caches")
    if pattern != "randrw":
        guest.check(
            f"cd /mnt && fio --name=job --filename=data --size=24M --rw={pattern} --bs=4k"
            " --verify=sha256 --ioengine=psync --verify_only=1 --verify_fatal=1 --randrepeat=1"
            " --verify_state_save=0",
            timeout=400,
        )


@ONLY_WITH_UML
def test_pip_installs_into_the_share(guest: Guest) -> None:
    wheel = next(WHEELS.glob("pip-*.whl"))
    python = Path(sys.executable).resolve()
    guest.check(
        f"chroot /host env PYTHONDONTWRITEBYTECODE=1 HOME=/tmp {python} -m pip install -q"
        f" --no-index --no-cache-dir --disable-pip-version-check --root-user-action=ignore"
        f" --target /mnt/site {wheel}",
        timeout=500,
    )
    guest.check("echo 3 >/proc/sys/vm/drop_caches")
    said = guest.check(
        f"chroot /host env PYTHONPATH=/mnt/site {python} -m pip --version", timeout=200
    )
    assert "/mnt/site/pip" in said


@ONLY_WITH_UML
def test_two_guests_on_one_bucket(
    seaweed: SeaweedFS, bucket: Bucket, bucket_root: str, tmp_path: Path
) -> None:
    with guests_on(seaweed.url(bucket_root), tmp_path, count=2) as (one, other):
        one.check("mkdir /mnt/d && echo first >/mnt/d/file && ln -s file /mnt/d/link")
        assert other.check("sleep 1.2; cat /mnt/d/link") == "first\n"
        other.check("echo second >>/mnt/d/file && chmod 600 /mnt/d/file")
        assert (
            one.check("sleep 3.5; cat /mnt/d/file; stat -c %a /mnt/d/file")
            == "first\nsecond\n600\n"
        )
        other.check("rm /mnt/d/link && mv /mnt/d /mnt/e")
        assert one.check("sleep 2.2; ls /mnt /mnt/e") == "/mnt:\ne\n\n/mnt/e:\nfile\n"
    assert bucket.get("e/file") == b"first\nsecond\n"


def test_in_qemu_the_objects_are_what_the_guest_wrote(
    seaweed: SeaweedFS, bucket: Bucket, bucket_root: str, tmp_path: Path
) -> None:
    with (
        ServiceDaemon(seaweed.url(bucket_root), tmp_path) as daemon,
        QemuGuest(daemon.socket, tmp_path) as guest,
    ):
        guest.check(
            "cd /mnt && mkdir d && echo hello >d/a && dd if=/dev/zero of=d/big bs=1M count=20"
        )
        guest.check("cd /mnt && printf x | dd of=d/big bs=1 seek=7000000 conv=notrunc && mv d e")
        guest.check("rm /mnt/e/a && umount /mnt")
    big = bucket.get("e/big")
    assert len(big) == 20 << 20
    assert big[7000000:7000001] == b"x"
    assert set(big) == {0, ord("x")}
    assert {listed.key for listed in bucket.objects()} == {"e/", "e/big"}
