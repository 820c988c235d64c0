# SPDX-License-Identifier: Apache-2.0
"""The daemon with less patience: what a remote call may wait is scaled, retries and all.

    python -m tests.remote.impatient FACTOR SOCKET URL [option ...]

What follows when the patience is at its end is what it is in the real one.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from ovfs.__main__ import main
from ovfs.remote import operators, service, share, upload_stream


def shorten(factor: float) -> None:
    """Scales every time that a remote call may take once the daemon serves."""
    for name in ("CONTROL", "DATA", "UPLOAD"):
        patience: operators.Patience = getattr(operators, name)
        shorter = replace(
            patience,
            answer=patience.answer * factor,
            data=patience.data * factor,
            pause=patience.pause * factor,
            max_pause=patience.max_pause * factor,
        )
        setattr(operators, name, shorter)
    service.DEADLINE *= factor
    upload_stream.STEP_DEADLINE *= factor
    share.PLACE_DEADLINE *= factor


if __name__ == "__main__":
    shorten(float(sys.argv.pop(1)))
    sys.exit(main())
