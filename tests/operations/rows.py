# SPDX-License-Identifier: Apache-2.0
"""The table: all rows, by opcode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.operations import (
    rows_attributes,
    rows_directories,
    rows_files,
    rows_locks,
    rows_moves,
    rows_names,
    rows_ranges,
    rows_session,
    rows_xattrs,
)

if TYPE_CHECKING:
    from tests.operations.table import Row
    from tests.vmm import Opcode

ALL: Final = (
    *rows_names.ROWS,
    *rows_moves.ROWS,
    *rows_attributes.ROWS,
    *rows_files.ROWS,
    *rows_ranges.ROWS,
    *rows_directories.ROWS,
    *rows_xattrs.ROWS,
    *rows_locks.ROWS,
    *rows_session.ROWS,
)

ROWS: Final[dict[Opcode, Row]] = {row.opcode: row for row in ALL}
