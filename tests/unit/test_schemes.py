# SPDX-License-Identifier: Apache-2.0
"""What is read off the installed OpenDAL fits what it does."""

from __future__ import annotations

import pytest

from ovfs.config import RemoteBackend, parse_backend
from ovfs.remote.catalogue import TESTED, declared
from ovfs.schemes import known_schemes, parameters_of


def test_the_usual_services_are_there() -> None:
    assert {"s3", "gcs", "azblob", "webdav", "ftp", "memory", "redis", "http"} <= set(
        known_schemes()
    )
    assert set(TESTED) <= set(known_schemes())


@pytest.mark.parametrize("scheme", known_schemes())
def test_each_has_parameters_of_its_own(scheme: str) -> None:
    found = parameters_of(scheme)
    assert found
    assert "scheme" not in found
    required = [parameter.required for parameter in found.values()]
    assert required == sorted(required, reverse=True)


@pytest.mark.parametrize("scheme", sorted({*known_schemes()} - {"fs", "koofr"}))
def test_each_tells_what_it_can_do(scheme: str) -> None:
    """Koofr cannot be set up with parameters in this OpenDAL: it wants its account in a URI."""
    can = declared(scheme)
    assert can is not None
    assert can.read or can.write


def test_kinds_of_values() -> None:
    s3 = parameters_of("s3")
    assert s3["bucket"].required
    assert s3["bucket"].kind == "text"
    assert s3["skip_signature"].kind == "switch"
    assert s3["assume_role_duration_seconds"].kind == "number"
    assert not parameters_of("no-such-service")


def test_a_switch_is_taken_by_opendal_as_it_is_written() -> None:
    from ovfs.remote.operators import build  # noqa: PLC0415

    backend = parse_backend("s3://?bucket=b&skip_signature=true&assume_role_duration_seconds=900")
    assert isinstance(backend, RemoteBackend)
    assert build(backend).control
