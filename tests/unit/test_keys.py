# SPDX-License-Identifier: Apache-2.0
"""Which keys OpenDAL leaves as they are: what is let through comes back under the same name."""

from __future__ import annotations

import asyncio
import contextlib
import errno

import opendal
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovfs.remote.errors import FsError
from ovfs.remote.keys import check_key, is_reachable


@pytest.mark.parametrize(
    "key",
    [
        "",
        "a",
        "a/",
        "a/b",
        "a b",
        "a /b",
        "a/ b",
        "ä/ö",
        ".a",
        "a..b",
        "...",
        "a/..b/",
        "%41",
        "a\\b",
    ],
)
def test_reachable(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize(
    "key",
    [
        *(" a", "a ", "a\n", "\ta", "a\xa0", "\u3000a", "\x85a", "a\u2028"),
        *("a//b", "/a", "a//", "/", "//", ".", "..", "a/.", "a/../b", "./a", "../"),
    ],
)
def test_not_reachable(key: str) -> None:
    with pytest.raises(FsError) as caught:
        check_key(key)
    assert caught.value.errno == errno.EINVAL


def test_what_is_not_utf_8() -> None:
    with pytest.raises(FsError) as caught:
        check_key("a/\udcff")
    assert caught.value.errno == errno.EILSEQ


@given(
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0")
        | st.sampled_from("/ ./\t\n\x1c\x1f\x85\xa0"),
        min_size=1,
        max_size=8,
    )
)
def test_opendal_keeps_every_reachable_key(key: str) -> None:
    """And only those, but for what the memory service does not mind: dots."""
    file = key.rstrip("/")
    if not file:
        return

    async def stored() -> list[str]:
        operator = opendal.AsyncOperator("memory")
        with contextlib.suppress(opendal.exceptions.IsADirectory):  # nothing is left of it
            await operator.write(file, b"x")
        listing = await operator.list("", recursive=True)
        return [entry.path async for entry in listing if not entry.metadata.is_dir]

    dots = {".", ".."} & set(file.split("/"))
    assert is_reachable(file) == (asyncio.run(stored()) == [file] and not dots)
