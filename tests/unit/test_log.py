# SPDX-License-Identifier: Apache-2.0
"""The log: one line an event, whatever it holds, and a pipe that never blocks its writer."""

from __future__ import annotations

import logging
import os
import re
from typing import TYPE_CHECKING

import pytest

from ovfs import log
from ovfs.native import Event, EventKind

if TYPE_CHECKING:
    from collections.abc import Iterator


def decode(packet: bytes) -> Event:
    return Event(EventKind(packet[0]), packet[1:].decode())


@pytest.fixture
def pipe() -> Iterator[log.EventPipe]:
    pipe = log.EventPipe(decode, 256)
    yield pipe
    pipe.close()


def test_events_become_records(pipe: log.EventPipe, caplog: pytest.LogCaptureFixture) -> None:
    for kind in (1, 2, 3, 4):
        os.write(pipe.write_fd, bytes([kind]) + b"text %d")
    with caplog.at_level(logging.DEBUG):
        assert not pipe.drain()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", "text %d"),
        ("WARNING", "text %d"),
        ("INFO", "text %d"),
        ("DEBUG", "text %d"),
    ]


def test_failed_device_is_reported(pipe: log.EventPipe, caplog: pytest.LogCaptureFixture) -> None:
    os.write(pipe.write_fd, b"\x05memory is gone")
    os.write(pipe.write_fd, b"\x03and on")
    assert pipe.drain()
    assert caplog.records[0].levelname == "ERROR"
    assert not pipe.drain()


def test_batches_are_bounded(pipe: log.EventPipe, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(100):
        os.write(pipe.write_fd, b"\x01x")
    pipe.drain()
    assert len(caplog.records) == 64
    pipe.drain()
    assert len(caplog.records) == 100


def test_full_pipe_drops_and_does_not_block(pipe: log.EventPipe) -> None:
    def flood() -> None:
        for _ in range(1 << 20):
            os.write(pipe.write_fd, b"\x01" * 256)

    with pytest.raises(BlockingIOError):
        flood()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain ä", "plain ä"),
        ("two\nlines", "two\\nlines"),
        ("\x1b[31mred\r\0", "\\x1b[31mred\\r\\x00"),
        ("\udcff", "\\udcff"),
    ],
)
def test_text_cannot_break_its_line(text: str, line: str) -> None:
    assert log.one_line(text) == line


def test_line_has_time_level_and_text(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        log.set_up("warning")
        logging.getLogger("ovfs.x").warning("disk\n%s", "full")
        logging.getLogger("ovfs.x").info("not this")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    expected = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3} ovfs warning: disk\\nfull\n"
    assert re.fullmatch(expected, capsys.readouterr().err)
