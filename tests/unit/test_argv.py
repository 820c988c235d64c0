# SPDX-License-Identifier: Apache-2.0
"""The process title shows no secret, from the first instant that Python code can see to it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ovfs.argv import redact

SHOW = (
    "import sys; from ovfs.argv import hide_secrets; hide_secrets(); "
    "sys.stdout.buffer.write(open('/proc/self/cmdline', 'rb').read())"
)


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        (b"/run/vm.sock", b"/run/vm.sock"),
        (b"fs://?root=/srv&x", b"fs://?root=/srv&x"),
        (b"s3://?secret_access_key=hush", b"s3://..."),
        (b"s3:?secret_access_key=hush", b"s3:?..."),
        (b"bucket=b&secret_access_key=hush", b"bucket=b&..."),
        (b"xfs://?root=/", b"xfs://..."),
    ],
)
def test_redacted_argument(argument: bytes, shown: bytes) -> None:
    assert redact(argument) == shown


def run(*arguments: str) -> list[bytes]:
    command = [sys.executable, "-c", SHOW, *arguments]
    shown = subprocess.run(command, capture_output=True, check=True).stdout
    return shown.rstrip(b"\0").split(b"\0")[3:]


def test_secrets_vanish_from_the_process_title() -> None:
    shown = run("/run/s", "s3://?bucket=b&secret_access_key=hush", "--readonly")
    assert shown == [b"/run/s", b"s3://...", b"--readonly"]


def test_title_without_secrets_stays_as_it_is() -> None:
    assert run("/run/s", "fs://?root=/srv", "") == [b"/run/s", b"fs://?root=/srv"]


def test_command_hides_them_before_it_parses_anything(tmp_path: Path) -> None:
    """At the moment that the command line is looked at, /proc has no secret any more."""
    spy = (
        "import sys, ovfs.cli\n"
        "def parse(arguments):\n"
        "    print(open('/proc/self/cmdline').read(), arguments[1])\n"
        "    raise SystemExit(0)\n"
        "ovfs.cli.parse = parse\n"
        "from ovfs.__main__ import main\n"
        "main()\n"
    )
    script = tmp_path / "spy.py"
    script.write_text(spy)
    url = "s3://?bucket=b&secret_access_key=hush"
    output = subprocess.run(
        [sys.executable, script, "/run/s", url],
        capture_output=True,
        check=True,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    ).stdout
    title, _, rest = output.partition("s3://...")
    assert "hush" not in title
    assert rest.count("hush") == 1, "Python's own copy is whole"
