# SPDX-License-Identifier: Apache-2.0
"""The URL grammar and the backends' parameters; whatever is wrong, no secret is told."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovfs.config import Config, FsBackend, RemoteBackend, parse_backend
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
        ("s3://?bucket=b&scheme=s3", "s3:// knows no key of item 2"),
        ("s3://?bucket=b&root=%ff", "root in the s3:// URL is not UTF-8"),
        ("s3://?bucket=b&skip_signature=yes", "skip_signature .* is neither true nor false"),
        ("s3://?bucket=b&assume_role_duration_seconds=1h", "assume_role_.* is no number"),
        ("webdav://?endpoint=", "endpoint is empty"),
        ("webdav://?bucket=b", "webdav:// knows no key of item 1; it knows root, endpoint,"),
        ("azblob://?root=/", "azblob:// needs container: write azblob://.container=NAME"),
        ("memory://?root=/&size=1", "memory:// knows no key of item 2; it knows root$"),
        ("s3://?bucket=b&access_key_id=x", "together, or neither"),
        ("s3://?bucket=b&secret_access_key=x", "together, or neither"),
        ("s3://?bucket=b&endpoint=example.org", "no http"),
        ("s3://?bucket=b&endpoint=ftp://h", "no http"),
        ("s3://?bucket=b&endpoint=http://", "no http"),
        ("s3://?bucket=b&endpoint=http://h:99999", "no http"),
        ("s3://?bucket=b&endpoint=http://u:p@h", "no http"),
        ("s3://?bucket=b&endpoint=http://[::1", "no http"),
        ("sftp2://?root=/", "there is no backend sftp2: .* --list-services"),
    ],
)
def test_wrong_url_says_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        parse_backend(text)
    assert "\n" not in str(caught.value)


def test_s3_is_parsed_whole() -> None:
    assert parse_backend(f"{S3}&secret_access_key={SECRET}%2F%26") == RemoteBackend(
        "s3",
        {
            "bucket": "b",
            "root": "/p",
            "endpoint": "http://h:9000",
            "region": "r",
            "access_key_id": "KEYID",
            "secret_access_key": f"{SECRET}/&",
        },
    )
    assert parse_backend("s3://?bucket=b") == RemoteBackend("s3", {"bucket": "b"})


@pytest.mark.parametrize(
    "text",
    [
        "memory://",
        "memory://?root=/a",
        "gcs://?bucket=b&credential=e30=&disable_vm_metadata=true",
        "azblob://?container=c&endpoint=https://h",
        "webdav://?endpoint=http://h&username=u&password=p",
        "ftp://?endpoint=ftp://h:21",
        "redis://?endpoint=redis://h",
        "redis://?endpoint=redis://h&db=3",
        "http://?endpoint=http://h",
        "hdfs-native://?name_node=hdfs://h:9000",
    ],
)
def test_services_take_opendal_s_own_parameters(text: str) -> None:
    backend = parse_backend(text)
    assert isinstance(backend, RemoteBackend)
    assert text.startswith(f"{backend.scheme}://")
    assert set(backend.parameters) == {
        item.partition("=")[0] for item in text.partition("?")[2].split("&") if item
    }


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
        f"gcs://?bucket=b&credental={SECRET}",
        f"gcs://?bucket=b&disable_vm_metadata={SECRET}",
        f"redis://?endpoint=redis://h&db={SECRET}",
        f"no-such-service://?password={SECRET}",
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
