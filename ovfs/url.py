# SPDX-License-Identifier: Apache-2.0
"""The grammar of a backend URL, one for all schemes.

::

    scheme://?key=value&key=value        keys and values percent-encoded, UTF-8

Nothing stands between ``://`` and ``?``, and a ``+`` is a plus. What keys there are is for each
backend to say (``ovfs/config.py``). A URL may hold secrets in any place, mistyped ones included (a
``&`` that was not encoded splits a secret in two), so an error quotes nothing but what the grammar
has already told apart from a value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote_to_bytes

from ovfs.errors import UsageError

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,31}\Z")
_KEY = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class BackendUrl:
    """A URL taken apart; ``repr`` shows no value, since any of them may be a secret."""

    scheme: str
    parameters: dict[str, str] = field(repr=False)


def parse_url(text: str) -> BackendUrl:
    """Return the scheme and the decoded parameters of a backend URL.

    Raises:
        UsageError: the text is not of this grammar.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        if text.startswith(("/", ".")) and "?" not in text:
            raise UsageError(f"{text} is a path, not a backend URL: write fs://?root={quote(text)}")
        raise UsageError("the backend URL has no ://, as in fs://?root=/srv/share")
    if not _SCHEME.match(scheme):
        raise UsageError(
            "the backend URL does not start with a scheme, as in fs://?root=/srv/share"
        )
    location, separator, query = rest.partition("?")
    if location:
        raise UsageError(
            f"nothing may stand between :// and ? in a backend URL: "
            f"what to serve goes into the query, as in {scheme}://?root=/srv/share"
        )
    return BackendUrl(scheme, _parse_query(query if separator else ""))


def _parse_query(query: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for number, item in enumerate(query.split("&") if query else (), 1):
        raw_key, separator, raw_value = item.partition("=")
        key = _decode(raw_key, number)
        if not separator or not _KEY.match(key):
            raise UsageError(
                f"item {number} of the backend URL's query is no key=value "
                f"(a & within a value is written %26)"
            )
        if key in parameters:
            # The key itself might be a piece of a secret, but then it stands there twice.
            raise UsageError(f"item {number} of the backend URL's query repeats an earlier key")
        parameters[key] = _decode(raw_value, number)
    return parameters


def _decode(raw: str, number: int) -> str:
    if _BAD_ESCAPE.search(raw):
        raise UsageError(
            f"item {number} of the backend URL's query has a % without two hexadecimal digits "
            f"(a % itself is written %25)"
        )
    # The command line is bytes: what is no UTF-8 came as surrogates and is handed on as it came,
    # since a directory's name need not be UTF-8 either.
    decoded = unquote_to_bytes(raw.encode("utf-8", "surrogateescape"))
    if b"\0" in decoded:
        raise UsageError(f"item {number} of the backend URL's query holds a NUL byte")
    return decoded.decode("utf-8", "surrogateescape")
