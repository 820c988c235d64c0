# SPDX-License-Identifier: Apache-2.0
"""The ``ovfs`` command."""

from __future__ import annotations

import os
import signal
import sys

from ovfs.argv import hide_secrets

EXIT_USAGE = 2


def main() -> int:
    """Run the command line given to this process; returns the exit code."""
    code = _run()
    if "opendal" in sys.modules:
        # Its threads may still be letting go of what they had of the interpreter's; whoever of them
        # does so while that is taken apart aborts the process.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _run() -> int:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback, until the daemon handles it
    hide_secrets()  # before anything else: from here on `ps` shows what anybody may see
    # Imported after that, which takes longer than all of it.
    from ovfs.cli import parse  # noqa: PLC0415
    from ovfs.commands import run_command  # noqa: PLC0415
    from ovfs.errors import UsageError  # noqa: PLC0415
    from ovfs.log import one_line, set_up  # noqa: PLC0415

    try:
        code = run_command(sys.argv[1:])
        if code is not None:
            return code
        config = parse(sys.argv[1:])
        set_up(config.log_level)
        # Last, so that a mistyped command costs neither asyncio nor the data plane.
        from ovfs.daemon import run  # noqa: PLC0415

        return run(config)
    except UsageError as error:
        reason = str(error)
    except OSError as error:
        reason = f"cannot start: {error}"
    except ModuleNotFoundError as error:
        if error.name != "ovfs.native._plane":
            raise
        reason = "its compiled part is missing: install it with `pip install .`"
    print(one_line(f"ovfs: {reason}"), file=sys.stderr)
    return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
