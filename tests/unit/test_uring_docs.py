# SPDX-License-Identifier: Apache-2.0
"""The examples of docs/uring.md run, in order, as one program."""

import re
from pathlib import Path

import pytest

import ovfs.uring

DOCUMENT = Path(__file__).parents[2] / "docs" / "uring.md"


def test_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = list(re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    assert len(blocks) == 5
    for block in blocks:
        line = text.count("\n", 0, block.start(1))
        exec(compile("\n" * line + block[1], str(DOCUMENT), "exec"), names)  # noqa: S102
    assert sorted(capsys.readouterr().out.splitlines()) == ["0 4", "4 4", "8 4"]


def test_every_operation_is_documented() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    calls = ovfs.uring.Ring.__mro__[2]
    names = {name for name, value in vars(calls).items() if callable(value) and name[0] != "_"}
    assert {"read", "link_timeout"} < names
    assert [name for name in sorted(names) if f"`{name}`" not in text] == ["supports"]
