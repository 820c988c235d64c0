# SPDX-License-Identifier: Apache-2.0
"""Each promise of SEMANTICS.md has a test that names it, and each name is one of a promise."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
NAME = r"`\[((?:r-)?[a-z]+-\d+)\]`"
PROMISE = re.compile(rf"^- {NAME} ", re.MULTILINE)


def promises() -> list[str]:
    """The names of all promises, as they come."""
    return PROMISE.findall((TESTS.parent / "SEMANTICS.md").read_text(encoding="utf-8"))


def named_by(decorator: ast.expr) -> str | None:
    """The promise in `@pytest.mark.promise("...")`."""
    if not isinstance(decorator, ast.Call) or not isinstance(decorator.func, ast.Attribute):
        return None
    if decorator.func.attr != "promise" or not isinstance(decorator.args[0], ast.Constant):
        return None
    return str(decorator.args[0].value)


def kept() -> Counter[str]:
    """How many tests name each promise; skipped ones do not count."""
    found: Counter[str] = Counter()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                marks = [ast.unparse(decorator) for decorator in node.decorator_list]
                if any(".skip" in mark or ".xfail" in mark for mark in marks):
                    continue
                found.update(filter(None, map(named_by, node.decorator_list)))
    return found


def test_no_promise_is_made_twice() -> None:
    assert [name for name, times in Counter(promises()).items() if times > 1] == []


def test_every_promise_has_a_test() -> None:
    assert sorted(set(promises()) - set(kept())) == []


def test_every_named_promise_is_made() -> None:
    assert sorted(set(kept()) - set(promises())) == []


def test_there_are_promises() -> None:
    """The pattern still fits the document."""
    text = (TESTS.parent / "SEMANTICS.md").read_text(encoding="utf-8")
    assert {*promises()} == {*re.findall(NAME, text)}
    assert len(promises()) > 160
