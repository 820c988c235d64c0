# SPDX-License-Identifier: Apache-2.0
"""``ovfs --list-services``: what the installed OpenDAL can reach, and what each service can do."""

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ovfs.remote.capabilities import Capabilities
from ovfs.schemes import known_schemes, parameters_of

if TYPE_CHECKING:
    from collections.abc import Mapping

# Those whose test suite runs against a real server.
TESTED = ("fs", "ftp", "memory", "s3", "webdav")

# What a service must be told beside its required parameters before OpenDAL shows what it can do. It
# connects to none of them, but the embedded databases make their files: {scratch} is for those.
_NEEDED: Mapping[str, Mapping[str, str]] = {
    "aliyun-drive": {"access_token": "x"},
    "alluxio": {"endpoint": "https://h.invalid"},
    "azblob": {"endpoint": "https://h.invalid", "account_name": "x"},
    "azdls": {"endpoint": "https://h.invalid", "account_name": "x"},
    "azfile": {"endpoint": "https://h.invalid", "account_name": "x"},
    "b2": {"application_key_id": "x", "application_key": "x"},
    "cacache": {"datadir": "{scratch}"},
    "cos": {"bucket": "x", "endpoint": "https://h.invalid", "secret_id": "x", "secret_key": "x"},
    "dropbox": {"access_token": "x"},
    "ftp": {"endpoint": "ftp://h.invalid"},
    "gdrive": {"access_token": "x"},
    "hdfs-native": {"name_node": "hdfs://h.invalid:1"},
    "hf": {"repo_type": "model", "repo_id": "x/x"},
    "http": {"endpoint": "https://h.invalid"},
    "ipfs": {"endpoint": "https://h.invalid", "root": "/ipfs/x/"},
    "koofr": {"endpoint": "https://h.invalid", "email": "x", "password": "x"},
    "memcached": {"endpoint": "tcp://h.invalid:1"},
    "mongodb": {"connection_string": "mongodb://h.invalid", "database": "x", "collection": "x"},
    "ghac": {"endpoint": "https://h.invalid", "runtime_token": "x"},
    "gridfs": {"connection_string": "mongodb://h.invalid", "database": "x", "bucket": "x"},
    "mysql": {"connection_string": "mysql://h.invalid/x", "table": "x"},
    "obs": {
        "bucket": "x",
        "endpoint": "https://h.invalid",
        "access_key_id": "x",
        "secret_access_key": "x",
    },
    "onedrive": {"access_token": "x"},
    "oss": {"endpoint": "https://h.invalid"},
    "persy": {"datafile": "{scratch}/persy", "segment": "x", "index": "x"},
    "postgresql": {"connection_string": "postgresql://h.invalid/x", "table": "x"},
    "redb": {"datadir": "{scratch}/redb", "table": "x"},
    "redis": {"endpoint": "redis://h.invalid"},
    "s3": {"region": "x"},
    "seafile": {"endpoint": "https://h.invalid", "username": "x", "password": "x"},
    "sled": {"datadir": "{scratch}/sled", "tree": "x"},
    "sqlite": {"connection_string": "sqlite://{scratch}/sqlite", "table": "x"},
    "swift": {"endpoint": "https://h.invalid", "container": "x", "token": "x"},
    "upyun": {"operator": "x", "password": "x"},
    "vercel-artifacts": {"access_token": "x"},
    "webdav": {"endpoint": "https://h.invalid"},
}

_COLUMNS = (
    ("read", "read"),
    ("write", "write"),
    ("list", "list"),
    ("rename", "rename"),
    ("copy", "copy"),
    ("metadata", "user_metadata"),
    ("conditional", "if_match"),
    ("append", "append"),
    ("multipart", "multipart"),
)
_HEAD = """\
Services of the installed OpenDAL {version}, and what it declares that each can do. What the server
at hand really does is tried out at start. conditional: yes, a write can be tied to the version that
it replaces; new, to there being none yet. tested: ovfs was run against a real server of the kind;
the others are untested.

"""


def services_table() -> str:
    """Return the table, ready to be printed."""
    import opendal  # noqa: PLC0415 (never where only fs:// is served)

    rows = [["scheme", *(title for title, _ in _COLUMNS), "tested"]]
    rows += [_row(scheme) for scheme in known_schemes()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return _HEAD.format(version=opendal.__version__) + "\n".join(lines) + "\n"


def declared(scheme: str) -> Capabilities | None:
    """Return what OpenDAL says of a service; None where it says nothing without a real one."""
    import opendal  # noqa: PLC0415

    with TemporaryDirectory(prefix="ovfs-") as scratch:
        needed = {
            name: "x" for name, parameter in parameters_of(scheme).items() if parameter.required
        }
        for name, value in _NEEDED.get(scheme, {}).items():
            needed[name] = value.replace("{scratch}", scratch)
        try:
            operator = opendal.AsyncOperator(scheme, **needed)
        except Exception:  # noqa: BLE001 (whatever a service lacks: its line shows that)
            return None
        return Capabilities.declared(operator.capability())


def _row(scheme: str) -> list[str]:
    if scheme == "fs":
        # Served by ovfs itself, which can do all that this host can; OpenDAL has no part in it.
        return [scheme, *("-" for _ in _COLUMNS), "yes, without OpenDAL"]
    can = declared(scheme)
    cells = [_cell(can, field) for _, field in _COLUMNS]
    return [scheme, *cells, "yes" if scheme in TESTED else "no"]


def _cell(can: Capabilities | None, field: str) -> str:
    if can is None:
        return "?"
    if field == "if_match" and not can.if_match and can.if_not_exists:
        return "new"
    return "yes" if getattr(can, field) else "-"
