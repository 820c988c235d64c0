# SPDX-License-Identifier: Apache-2.0
"""The file of ``--backend-file``: what a backend URL says, out of the command line's sight.

::

    # the URL, encoded as on the command line; left out where the command line has it
    s3://?bucket=NAME&root=/vm1
    # and parameters that are added to it: everything after the = is the value, nothing is encoded
    access_key_id=AKIA...
    secret_access_key=wJalr/XUtn+FEMI

Blank lines, lines that start with ``#`` and blanks at the ends of a line do not count. Nobody but
its owner may be able to read or write it, and its owner is who runs ovfs, or root.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field

from ovfs.errors import UsageError

_MAX_SIZE = 64 * 1024
_KEY = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")


@dataclass(frozen=True, slots=True)
class BackendFile:
    """What the file says; ``repr`` shows no value, since any of them may be a secret."""

    url: str | None = field(default=None, repr=False)
    parameters: dict[str, str] = field(default_factory=dict, repr=False)
    lines: dict[str, int] = field(default_factory=dict)  # where each parameter stands


def read_backend_file(path: str) -> BackendFile:
    """Return what a backend file says.

    Raises:
        UsageError: it cannot be read, others can read it, or it is no such file. No text quotes
            anything from within it.
    """
    try:
        data = _read_private(path)
    except OSError as error:
        raise UsageError(f"--backend-file {path}: {error.strerror}") from None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise UsageError(f"--backend-file {path} is not UTF-8") from None
    return parse_backend_file(text, path)


def parse_backend_file(text: str, path: str) -> BackendFile:
    """Return what the text of a backend file says; ``path`` is for the errors."""
    url: str | None = None
    parameters: dict[str, str] = {}
    lines: dict[str, int] = {}
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        key, separator, value = (part.strip() for part in line.partition("="))
        if separator and _KEY.match(key):
            if key in parameters:
                raise UsageError(f"line {number} of {path} repeats the key of line {lines[key]}")
            if not value or "\0" in value:
                raise UsageError(f"line {number} of {path} has no value, or a NUL byte in it")
            parameters[key], lines[key] = value, number
        elif "://" in line and url is None and not parameters:
            url = line
        else:
            raise UsageError(
                f"line {number} of {path} is no key=value, and no backend URL at the file's start"
            )
    return BackendFile(url, parameters, lines)


def _read_private(path: str) -> bytes:
    # Not to be held up by a FIFO; what is read is what was looked at.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(fd, "rb") as file:  # noqa: PTH123 (a descriptor, not a path)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"--backend-file {path} is not a file")
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise UsageError(f"--backend-file {path} is open to others: chmod 600 it")
        if status.st_uid not in {0, os.geteuid()}:
            raise UsageError(f"--backend-file {path} belongs to somebody else")
        data = file.read(_MAX_SIZE + 1)
    if len(data) > _MAX_SIZE:
        raise UsageError(f"--backend-file {path} is larger than {_MAX_SIZE} bytes")
    return data
