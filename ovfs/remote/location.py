# SPDX-License-Identifier: Apache-2.0
"""Where a service's objects are, told without secrets: for logs, errors and the cache's keys."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from ovfs.config import RemoteBackend

# What names a place. All other parameters are left out, since any of them may be a secret, and
# since a new key or token must still find what the cache keeps.
_PLACE = (
    "endpoint", "cluster_endpoints", "name_node", "connection_string", "account_name",
    "account_id", "namespace_id", "team_id", "drive_type", "database", "db", "bucket",
    "bucket_id", "container", "filesystem", "share_name", "repo_type", "repo_id", "revision",
    "repo_name", "collection", "table", "key_field", "value_field", "datadir", "datafile",
    "segment", "index", "tree", "operator",
)  # fmt: skip


def identity(backend: RemoteBackend) -> str:
    """Return one text per place: the same objects, whatever the credentials."""
    parts = [
        f"{key}={_clean(backend.parameters[key])}" for key in _PLACE if key in backend.parameters
    ]
    parts.append(f"root={root(backend)}")
    return f"{backend.scheme}://?{'&'.join(parts)}"


def root(backend: RemoteBackend) -> str:
    """Return the root with one slash at each end, as OpenDAL makes it."""
    trimmed = "/".join(part for part in backend.parameters.get("root", "").split("/") if part)
    return f"/{trimmed}/" if trimmed else "/"


def place(backend: RemoteBackend) -> str:
    """Return the server and container in a few words, for an error's text."""
    endpoint = backend.parameters.get("endpoint")
    return f"{backend.scheme}:// at {_clean(endpoint)}" if endpoint else f"{backend.scheme}://"


def _clean(value: str) -> str:
    """Take user, password, query and fragment out of an address."""
    if "://" not in value:
        return value.rpartition("@")[2]
    try:
        parts = urlsplit(value)
    except ValueError:
        return "..."
    host = parts.netloc.rpartition("@")[2].lower()
    return urlunsplit((parts.scheme.lower(), host, parts.path.rstrip("/"), "", ""))
