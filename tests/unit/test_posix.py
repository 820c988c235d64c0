# SPDX-License-Identifier: Apache-2.0
"""POSIX attributes as metadata: both ways, by others, and what cannot be read."""

from __future__ import annotations

import json
import stat
from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st

from ovfs.remote.posix import NS, Defaults, Posix, from_meta, to_meta

DEFAULTS = Defaults(uid=7, gid=8, file_mode=0o640, dir_mode=0o750)
SECOND = 1_700_000_000


def read(meta: dict[str, str], *, is_dir: bool = False, changed_ns: int = SECOND * NS) -> Posix:
    return from_meta(meta, is_dir=is_dir, changed_ns=changed_ns, defaults=DEFAULTS)


times = st.integers(-(10**11) * NS, 10**11 * NS)


@given(
    kind=st.sampled_from([stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK]),
    mode=st.integers(0, 0o7777),
    owner=st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    at=st.tuples(times, times, times),
    xattrs=st.dictionaries(st.text(min_size=1), st.binary(), max_size=4),
)
def test_what_is_stored_is_read_back(
    kind: int,
    mode: int,
    owner: tuple[int, int],
    at: tuple[int, int, int],
    xattrs: dict[str, bytes],
) -> None:
    posix = Posix(kind | mode, *owner, *at, xattrs)
    assert read(to_meta(posix)) == posix


def test_the_keys_are_those_of_s3fs() -> None:
    meta = to_meta(Posix(0o100644, 1000, 100, 1, SECOND * NS + 5, 3, {"user.a": b"b"}))
    assert meta["mode"] == "33188"
    assert (meta["uid"], meta["gid"]) == ("1000", "100")
    assert meta["mtime"] == f"{SECOND}.000000005"
    assert json.loads(unquote(meta["xattr"])) == {"user.a": "Yg=="}


def test_an_object_of_others_gets_the_defaults() -> None:
    posix = read({})
    assert posix.mode == stat.S_IFREG | 0o640
    assert (posix.uid, posix.gid) == (7, 8)
    assert posix.mtime_ns == posix.atime_ns == posix.ctime_ns == SECOND * NS
    assert read({}, is_dir=True).mode == stat.S_IFDIR | 0o750


def test_times_as_rclone_and_old_s3fs_write_them() -> None:
    assert read({"mtime": "1611865200.123456789"}).mtime_ns == 1611865200123456789
    assert read({"mtime": "1611865200"}).mtime_ns == 1611865200 * NS
    assert read({"mtime": "1611865200.5"}).mtime_ns == 1611865200 * NS + NS // 2


def test_what_cannot_be_read_is_ignored() -> None:
    meta = {"mode": "rw-r--r--", "uid": "-5", "gid": "99999999999", "mtime": "soon", "xattr": "%7B"}
    assert read(meta) == read({})
    assert read({"xattr": "[1]"}).xattrs == {}


def test_a_key_without_a_slash_is_no_directory_and_one_with_it_is() -> None:
    assert read({"mode": str(0o040755)}).mode == stat.S_IFREG | 0o755
    assert read({"mode": str(0o100600)}, is_dir=True).mode == stat.S_IFDIR | 0o600


def test_devices_of_others_are_shown_as_files() -> None:
    assert stat.S_ISREG(read({"mode": str(stat.S_IFBLK | 0o600)}).mode)
