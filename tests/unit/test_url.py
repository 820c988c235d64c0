# SPDX-License-Identifier: Apache-2.0
"""The URL grammar and the backends' parameters; whatever is wrong, no secret is told."""

from __future__ import annotations

import dataclasses
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovfs.config import Config, FsBackend, S3Backend, parse_backend
from ovfs.errors import UsageError
from ovfs.url import parse_url

S3 = "s3://?bucket=b&root=/p&endpoint=http://h:9000&region=r&access_key_id=KEYID"
SECRET = "wJalrXUtnFEMI"  # noqa: S105 (what must not be seen)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True),
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
        max_size=5,
    )
)
def test_quoted_parameters_come_back(parameters: dict[str, str]) -> None:
    query = "&".join(f"{key}={quote(value)}" for key, value in parameters.items())
    url = parse_url(f"x-1://?{query}")
    assert (url.scheme, url.parameters) == ("x-1", parameters)


@given(st.text(max_size=60))
def test_any_text_is_a_url_or_one_line_of_error(text: str) -> None:
    try:
        url = parse_url(text)
    except UsageError:
        return
    assert text.startswith(f"{url.scheme}://")


@pytest.mark.parametrize(
    ("value", "decoded"),
    [
        ("/a%20b", "/a b"),
        ("/a+b", "/a+b"),
        ("/a=b", "/a=b"),
        ("/a%26b%25", "/a&b%"),
        ("/%C3%A4", "/ä"),
        ("/ä", "/ä"),
        ("/%ff", "/\udcff"),
        ("/a?b#c", "/a?b#c"),
    ],
)
def test_value_is_decoded(value: str, decoded: str) -> None:
    assert parse_backend(f"fs://?root={value}") == FsBackend(decoded)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no ://"),
        ("fs:/?root=/", "has no ://"),
        ("/srv/a b", "is a path, not a backend URL: write fs://\\?root=/srv/a%20b$"),
        ("FS://?root=/", "does not start with a scheme"),
        ("://?root=/", "does not start with a scheme"),
        ("fs:///srv", "nothing may stand between"),
        ("fs://srv?root=/", "nothing may stand between"),
        ("fs://", "fs:// needs root"),
        ("fs://?", "fs:// needs root"),
        ("fs://?root=", "root is empty"),
        ("fs://?root", "item 1 .* is no key=value"),
        ("fs://?root=/&", "item 2 .* is no key=value"),
        ("fs://?=x", "item 1 .* is no key=value"),
        ("fs://?root=/&root=/", "item 2 .* repeats an earlier key"),
        ("fs://?root=/%2", "item 1 .* a % without"),
        ("fs://?root=/%zz", "item 1 .* a % without"),
        ("fs://?root=/%00", "item 1 .* NUL"),
        ("fs://?root=/&size=1", "fs:// knows no key 'size'; it knows root"),
        ("s3://?root=/", "s3:// needs bucket"),
        ("s3://?bucket=b&colour=red", "s3:// knows no key of item 2; it knows bucket, root,"),
        ("s3://?bucket=b&access_key_id=x", "together, or neither"),
        ("s3://?bucket=b&secret_access_key=x", "together, or neither"),
        ("s3://?bucket=b&endpoint=example.org", "no http"),
        ("s3://?bucket=b&endpoint=ftp://h", "no http"),
        ("s3://?bucket=b&endpoint=http://", "no http"),
        ("s3://?bucket=b&endpoint=http://h:99999", "no http"),
        ("s3://?bucket=b&endpoint=http://u:p@h", "no http"),
        ("s3://?bucket=b&endpoint=http://[::1", "no http"),
        ("gcs://?bucket=b", "backend gcs is not built yet"),
    ],
)
def test_wrong_url_says_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        parse_backend(text)
    assert "\n" not in str(caught.value)


def test_s3_is_parsed_whole() -> None:
    backend = parse_backend(f"{S3}&secret_access_key={SECRET}%2F%26")
    assert backend == S3Backend("b", "/p", "http://h:9000", "r", "KEYID", f"{SECRET}/&")
    assert parse_backend("s3://?bucket=b") == S3Backend("b")


@pytest.mark.parametrize(
    "text",
    [
        f"s3://?bucket=b&bucket={SECRET}",
        f"s3://?bucket=b&secret_access_key={SECRET}",
        f"s3://?bucket=b&access_key_id=a&secret_access_key=x&{SECRET}",
        f"s3://?bucket=b&access_key_id=a&secret_access_key=x&{SECRET.lower()}=z",
        f"s3://?bucket=b&access_key_id=a&secret_access_key={SECRET}%zz",
        f"s3://?bucket=b&secret_acess_key={SECRET}",
        f"s3://{SECRET}:{SECRET}@host?bucket=b",
        f"s3:/?bucket=b&secret_access_key={SECRET}",
        f"s3://?bucket=b&endpoint=http://u:{SECRET}@h",
        f"gcs://?credential={SECRET}",
        f"S3://?secret_access_key={SECRET}",
    ],
)
def test_no_error_tells_a_secret(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_backend(text)
    assert SECRET.lower() not in str(caught.value).lower()


def test_no_repr_tells_a_secret() -> None:
    text = f"{S3}&secret_access_key={SECRET}"
    backend = parse_backend(text)
    config = Config(backend=backend, socket_path="/s")
    for shown in (repr(backend), repr(config), repr(parse_url(text)), f"{backend}"):
        assert SECRET not in shown
        assert "KEYID" not in shown
    assert {entry.name for entry in dataclasses.fields(S3Backend) if not entry.repr} == {
        "access_key_id",
        "secret_access_key",
    }
