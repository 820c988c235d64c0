# SPDX-License-Identifier: Apache-2.0
"""Notes of uploads under way: whose maker lives is nobody else's, whose is gone is anybody's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ovfs.remote.upload_log import UploadLog

ROOT = Path(__file__).resolve().parents[2]
KILLED = (
    "import os, sys, pathlib; from ovfs.remote.upload_log import UploadLog; "
    "UploadLog(pathlib.Path(sys.argv[1]), sys.argv[2]).note(sys.argv[3]); os._exit(9)"
)


def leave_one(directory: Path, identity: str, key: str) -> None:
    command = [sys.executable, "-c", KILLED, str(directory), identity, key]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 9


def test_a_note_lasts_as_long_as_its_upload(run_dir: Path) -> None:
    notes = UploadLog(run_dir / "uploads", "here")
    noted = notes.note("a/b")
    assert noted is not None
    assert len(os.listdir(run_dir / "uploads")) == 1
    assert list(notes.orphans()) == []  # it is ours, and we live
    noted.forget()
    noted.forget()
    assert os.listdir(run_dir / "uploads") == []


def test_what_a_dead_daemon_noted_is_found_once(run_dir: Path) -> None:
    leave_one(run_dir, "here", "ä\n/b")
    leave_one(run_dir, "elsewhere", "c")
    notes = UploadLog(run_dir, "here")
    (found,) = notes.orphans()
    assert found.key == "ä\n/b"
    assert time.time() - 60 < found.since <= found.until <= time.time()
    assert list(notes.orphans()) == []  # whoever found it holds it
    found.leave()
    (again,) = notes.orphans()
    again.forget()
    assert list(notes.orphans()) == []
    assert len(os.listdir(run_dir)) == 1  # the other place's


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"identity": "here"}', b"\xff" * 20_000])
def test_what_is_no_note_is_left_alone(run_dir: Path, text: bytes) -> None:
    (run_dir / "x").write_bytes(text)
    (run_dir / "directory").mkdir()
    assert list(UploadLog(run_dir, "here").orphans()) == []
    assert sorted(os.listdir(run_dir)) == ["directory", "x"]


def test_a_directory_that_cannot_be_used_keeps_no_notes(run_dir: Path) -> None:
    (run_dir / "file").touch()
    notes = UploadLog(run_dir / "file", "here")
    assert notes.note("a") is None
    assert list(notes.orphans()) == []
