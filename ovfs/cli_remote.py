# SPDX-License-Identifier: Apache-2.0
"""The options that only remote backends have."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, TypedDict

from ovfs.cli_values import directory, mode, number, size
from ovfs.config import Upload, default_cache_dir

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# None stands for "not given" in all of them: fs:// refuses what is.
OPTIONS = (
    "--cache-dir",
    "--cache-size",
    "--upload",
    "--upload-delay",
    "--posix-metadata",
    "--default-uid",
    "--default-gid",
    "--default-file-mode",
    "--default-dir-mode",
)
_MAX_DELAY = 86400.0  # seconds
_MAX_ID = (1 << 32) - 2  # the last one means "no change" to chown


class Fields(TypedDict, total=False):
    """Fields of ``Config``; what is left out has its default."""

    cache_dir: Path
    cache_size: int
    upload: Upload
    upload_delay: float
    posix_metadata: bool
    default_uid: int
    default_gid: int
    default_file_mode: int
    default_dir_mode: int


def fields(options: argparse.Namespace) -> Fields:
    """Return what was given."""
    found = Fields()
    if options.upload is not None:
        found["upload"] = Upload(options.upload)
    if options.upload_delay is not None:
        found["upload_delay"] = options.upload_delay
    if options.posix_metadata is not None:
        found["posix_metadata"] = options.posix_metadata == "on"
    if options.cache_dir is not None:
        found["cache_dir"] = options.cache_dir
    if options.cache_size is not None:
        found["cache_size"] = options.cache_size
    if options.default_uid is not None:
        found["default_uid"] = options.default_uid
    if options.default_gid is not None:
        found["default_gid"] = options.default_gid
    if options.default_file_mode is not None:
        found["default_file_mode"] = options.default_file_mode
    if options.default_dir_mode is not None:
        found["default_dir_mode"] = options.default_dir_mode
    return found


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add them to the command line's parser."""
    group = parser.add_argument_group("remote: backends other than fs://")
    group.add_argument(
        "--backend-file",
        metavar="FILE",
        help="a file, readable by nobody else, with the backend URL in its first line, or with "
        "lines key=value that are added to it: access_key_id=..., unencoded",
    )
    group.add_argument(
        "--list-services",
        nargs=0,
        action=_ListServices,
        help="print the services of the installed OpenDAL and what each can do",
    )
    group.add_argument(
        "--cache-dir",
        type=directory,
        metavar="DIR",
        help="where bytes are kept, before and after they are stored; daemons may share it "
        f"(default: {default_cache_dir()})",
    )
    group.add_argument(
        "--cache-size",
        type=size,
        metavar="SIZE",
        help="how much it may hold beside what is not stored yet; K M G T (default: 10G)",
    )
    group.add_argument(
        "--upload",
        choices=[when.value for when in Upload],
        help="durable: close and fsync return once the object is stored (default); "
        "background: close returns at once, `ovfs status` shows what is not stored yet",
    )
    group.add_argument(
        "--upload-delay",
        type=number(float, 0.0, _MAX_DELAY, "seconds"),
        metavar="SECONDS",
        help="how long background waits after a close, since many files are soon renamed, written "
        "again or removed (default: 5)",
    )
    group.add_argument(
        "--posix-metadata",
        choices=["on", "off"],
        help="keep modes, owners, times, links and attributes with the objects, as s3fs and rclone "
        "do (default: on)",
    )
    for what in ("uid", "gid"):
        group.add_argument(
            f"--default-{what}",
            type=number(int, 0, _MAX_ID, "an id"),
            metavar="ID",
            help=f"{what} of objects that carry none (default: 0)",
        )
    for what, default in (("file", "0644"), ("dir", "0755")):
        group.add_argument(
            f"--default-{what}-mode",
            type=mode,
            metavar="MODE",
            help=f"permissions of objects that carry none, octal (default: {default})",
        )


class _ListServices(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,  # noqa: ARG002 (argparse calls it with all four)
        values: str | Sequence[Any] | None,  # noqa: ARG002
        option_string: str | None = None,  # noqa: ARG002
    ) -> None:
        # Only here: it loads OpenDAL.
        from ovfs.remote.catalogue import services_table  # noqa: PLC0415

        print(services_table(), end="")
        parser.exit()
