# SPDX-License-Identifier: Apache-2.0
"""The services that the installed OpenDAL knows, and the parameters of each.

Read from the classes that OpenDAL has for its own type checking: a ``TypedDict`` per service whose
annotations, plain text at run time, say ``Required[str]`` or ``NotRequired[bool]``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from ovfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

_SCHEME = re.compile(r"""Literal\[["'](.+?)["']\]""")

# Said to be required, and yet OpenDAL goes without: they are values with a default of their own.
_OPTIONAL = {("redis", "db"), ("aliyun-drive", "drive_type")}

# What stands first where a service's parameters are listed; the rest comes as OpenDAL has it.
_FIRST = ("root", "endpoint")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One key of a service's URL."""

    name: str
    required: bool
    kind: str  # "text", "switch" (true or false), "number"


def known_schemes() -> list[str]:
    """Return the schemes of the services in the installed OpenDAL, ``fs`` among them.

    Raises:
        UsageError: OpenDAL is not installed.
    """
    return sorted(_compiled_schemes())


@cache
def parameters_of(scheme: str) -> Mapping[str, Parameter]:
    """Return what a scheme takes: required parameters first, then where, then all others."""
    classes = _opendal().config
    for name, kind in vars(classes).items():
        if name.endswith("Config") and _scheme_of(kind) == scheme:
            return _parameters(scheme, kind)
    return {}


def _compiled_schemes() -> set[str]:
    # The type stubs name more of them than the library was built with; its own class does not.
    names = _opendal().services.Scheme
    members = [getattr(names, name) for name in dir(names) if name[0].isupper()]
    return {str(member.value) for member in members}


def _parameters(scheme: str, kind: type) -> dict[str, Parameter]:
    found = [
        Parameter(
            name, text.startswith("Required") and (scheme, name) not in _OPTIONAL, _kind(text)
        )
        for name, text in _annotations(kind).items()
        if name != "scheme"
    ]
    order = {name: number for number, name in enumerate(_FIRST)}
    found.sort(key=lambda known: (not known.required, order.get(known.name, len(order))))
    return {known.name: known for known in found}


def _annotations(kind: type) -> dict[str, str]:
    annotations = getattr(kind, "__annotations__", {})
    return {name: getattr(text, "__forward_arg__", str(text)) for name, text in annotations.items()}


def _scheme_of(kind: type) -> str | None:
    found = _SCHEME.search(_annotations(kind).get("scheme", ""))
    return found[1] if found else None


def _kind(annotation: str) -> str:
    if "[bool]" in annotation:
        return "switch"
    return "number" if "[int]" in annotation else "text"


def _opendal() -> ModuleType:
    try:
        # Not where only fs:// is served: it is 40 MB large.
        import opendal  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            f"all backends but fs:// need OpenDAL ({error}): pip install 'opendal>=0.47.9'"
        ) from None
    return opendal
