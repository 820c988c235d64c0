# SPDX-License-Identifier: Apache-2.0
"""The command line: text to a checked ``Config``, and every mistake in it to one line.

The backend URL is the last argument, or the value of OVFS_BACKEND_URL, or in a file; the options of
remote backends are in ``cli_remote.py``.
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, NoReturn

from ovfs import __version__, cli_remote
from ovfs.backend_file import BackendFile, read_backend_file
from ovfs.cli_values import mode, number
from ovfs.config import TIMEOUTS, Config, FsBackend, make_backend
from ovfs.errors import UsageError
from ovfs.log import LEVELS
from ovfs.native import Cache, FileHandles
from ovfs.url import BackendUrl, parse_url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ovfs.config import Backend

USAGE = """\
ovfs [options] <socket-path> <backend-url>
       ovfs [options] --fd N <backend-url>
       ovfs status [--cache-dir DIR] [--json]
       ovfs drain [--cache-dir DIR] [--timeout SECONDS]"""
DESCRIPTION = (
    "Serve a directory, or the objects of a storage service, to a virtual machine as a virtio-fs "
    "device, over vhost-user."
)
EPILOG = """\
backend URLs (in a value % and & are written %25 and %26):
  fs://?root=DIR        a directory of this host
  s3://?bucket=NAME&root=PREFIX&endpoint=ADDRESS&region=REGION
                        objects in a bucket; access_key_id and secret_access_key
                        come here, from --backend-file, or from AWS_ACCESS_KEY_ID
                        and AWS_SECRET_ACCESS_KEY
  SCHEME://?KEY=VALUE   any other service of OpenDAL, with its parameters
The URL may come from the environment instead, as OVFS_BACKEND_URL.

examples:
  ovfs /run/vm1-fs.sock 'fs://?root=/srv/share'
  ovfs --readonly --cache always /run/vm1-fs.sock 'fs://?root=/usr/share'
  ovfs --backend-file /etc/ovfs/vm1 /run/vm1-fs.sock 's3://?bucket=vm1&region=eu-west-1'

SIGTERM and SIGINT end it: what is in flight is answered, data is written back. SIGUSR1 logs the
counters. Exit codes: 0 ended by a signal; 1 data could not be written back; 2 could not start.
"""

# They reach through to the host's files, or trust the guest's kernel more than close-to-open does.
LOCAL_OPTIONS = (
    "--writeback",
    "--posix-acl",
    "--allow-direct-io",
    "--posix-lock",
    "--flock",
    "--inode-file-handles",
)

MAX_TAG = 36
MAX_QUEUES = 255  # a vring's index has 8 bits in vhost-user, and the hiprio queue takes one
MAX_POLL = 10_000  # microseconds
MAX_TIMEOUT = 10.0 * 365 * 86400  # seconds; far below what 64 bits of nanoseconds hold


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def parse(arguments: Sequence[str]) -> Config:
    """Return what the command line asks for.

    Raises:
        UsageError: it asks for nothing that can be done.
        SystemExit: it asked for the help or the version, which is printed.
    """
    options, unknown = _parser().parse_known_intermixed_args(arguments)
    if unknown:
        # Only the name: what was meant as its value could be a secret.
        name = str(unknown[0]).partition("=")[0]
        raise UsageError(f"there is no option {name}: see ovfs --help")
    file = read_backend_file(options.backend_file) if options.backend_file else BackendFile()
    socket_path, url = _targets(options, file)
    backend = _backend(url, file)
    _check_options(options, backend)
    default = TIMEOUTS[Cache(options.cache)]
    return Config(
        backend=backend,
        socket_path=socket_path,
        socket_fd=options.fd,
        socket_mode=0o600 if options.socket_mode is None else options.socket_mode,
        socket_group=options.socket_group,
        queues=options.queues,
        tag=options.tag,
        cache=Cache(options.cache),
        attr_timeout=default if options.attr_timeout is None else options.attr_timeout,
        entry_timeout=default if options.entry_timeout is None else options.entry_timeout,
        writeback=options.writeback,
        readonly=options.readonly,
        xattr=options.xattr or options.posix_acl,
        posix_acl=options.posix_acl,
        allow_direct_io=options.allow_direct_io,
        posix_lock=options.posix_lock,
        flock=options.flock,
        file_handles=FileHandles(options.inode_file_handles or FileHandles.PREFER),
        rlimit_nofile=options.rlimit_nofile,
        log_level=options.log_level,
        poll=options.poll_us / 1e6,
        # For the tests: kernel 5.15 is served, but hardly any machine that tests still runs it.
        plain_rings=os.environ.get("OVFS_PLAIN_RINGS") == "1",
        **cli_remote.fields(options),
    )


def _targets(options: argparse.Namespace, file: BackendFile) -> tuple[str | None, str]:
    """Return socket path (None with --fd) and URL."""
    targets: list[str] = list(options.targets)
    wanted = 2 if options.fd is None else 1
    # An argument goes before the environment, which may be set for a whole session.
    elsewhere = file.url or os.environ.get("OVFS_BACKEND_URL")
    if elsewhere and len(targets) == wanted - 1:
        targets.append(elsewhere)
    elif file.url and len(targets) == wanted:
        raise UsageError("there are two backend URLs, an argument and the one in --backend-file")
    if options.fd is None:
        if len(targets) != 2:
            raise UsageError(
                f"{len(targets)} arguments are not <socket-path> <backend-url>, as in "
                "ovfs /run/vm.sock 'fs://?root=/srv/share'"
            )
        if not targets[0]:
            raise UsageError("the socket path is empty: name the path of the socket to make")
        return targets[0], targets[1]
    if len(targets) != 1:
        raise UsageError("with --fd there is no socket path: give the backend URL alone")
    if options.socket_mode is not None or options.socket_group is not None:
        raise UsageError("--socket-mode and --socket-group are for whoever made the socket of --fd")
    return None, targets[0]


def _backend(text: str, file: BackendFile) -> Backend:
    url = parse_url(text)
    for key, line in file.lines.items():
        if key in url.parameters:
            raise UsageError(f"line {line} of --backend-file repeats a key of the backend URL")
    return make_backend(
        BackendUrl(url.scheme, {**url.parameters, **file.parameters}), lines=file.lines
    )


def _check_options(options: argparse.Namespace, backend: Backend) -> None:
    """Refuse what the backend could only ignore."""
    if isinstance(backend, FsBackend):
        given = [name for name in cli_remote.OPTIONS if getattr(options, _dest(name)) is not None]
        where = "fs:// is this host's own directory"
    else:
        given = [name for name in LOCAL_OPTIONS if getattr(options, _dest(name))]
        if options.xattr and options.posix_metadata == "off":
            raise UsageError("--xattr needs --posix-metadata=on: attributes are kept in it")
        where = f"{backend.scheme}:// is not a directory of this host"
    if given:
        raise UsageError(f"{given[0]} has no meaning here: {where}")


def _dest(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="ovfs",
        usage=USAGE,
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("targets", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version=f"ovfs {__version__}")
    _add_cache(parser)
    _add_access(parser)
    _add_device(parser)
    _add_socket(parser)
    _add_process(parser)
    cli_remote.add_options(parser)
    return parser


def _add_cache(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("cache: what the guest's kernel may keep")
    group.add_argument(
        "--cache",
        choices=[
            policy.value for policy in (Cache.AUTO, Cache.ALWAYS, Cache.METADATA, Cache.NEVER)
        ],
        default=Cache.AUTO.value,
        help="auto: names and attributes for 1 s, data while the file stands unchanged (default); "
        "always: everything, for a directory that only this guest changes; "
        "metadata: names and attributes, no data; never: nothing",
    )
    seconds = number(float, 0.0, MAX_TIMEOUT, "seconds")
    group.add_argument(
        "--attr-timeout",
        type=seconds,
        metavar="SECONDS",
        help="how long attributes are kept (default: 0 never, 1 auto, 86400 metadata and always)",
    )
    group.add_argument(
        "--entry-timeout", type=seconds, metavar="SECONDS", help="how long names are kept (same)"
    )
    group.add_argument(
        "--writeback", action="store_true", help="let the guest gather writes before it sends them"
    )


def _add_access(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("access: what the guest may do")
    for name, text in (
        ("--readonly", "nothing that changes the directory"),
        ("--xattr", "extended attributes"),
        ("--posix-acl", "POSIX access control lists (implies --xattr)"),
        ("--allow-direct-io", "O_DIRECT reaches the host's files"),
        ("--posix-lock", "fcntl locks reach the host's files, and so other guests"),
        ("--flock", "flock locks reach the host's files, and so other guests"),
    ):
        group.add_argument(name, action="store_true", help=text)


def _add_device(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("device")
    group.add_argument(
        "--queues",
        type=number(int, 1, MAX_QUEUES, "queues"),
        default=min(len(os.sched_getaffinity(0)), MAX_QUEUES),
        metavar="N",
        help="the most request queues that a VMM may ask for (default: number of CPUs)",
    )
    group.add_argument(
        "--tag",
        type=_tag,
        help="the name to mount, told to VMMs that ask the daemon for it, as User-mode Linux "
        "does; QEMU has an option of its own, and QEMU 7.1 to 8.0 crash with this one",
    )


def _add_socket(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("socket")
    group.add_argument(
        "--fd",
        type=number(int, 0, (1 << 31) - 1, "a descriptor"),
        metavar="N",
        help="serve on this listening UNIX socket, passed in by whoever starts ovfs",
    )
    group.add_argument(
        "--socket-mode", type=mode, metavar="MODE", help="permissions, octal (default: 0600)"
    )
    group.add_argument("--socket-group", metavar="GROUP", help="its group, by name or number")


def _add_process(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("process")
    group.add_argument(
        "--log-level", choices=list(LEVELS), default="info", help="what to log (default: info)"
    )
    group.add_argument(
        "--rlimit-nofile",
        type=number(int, 1, 1 << 30, "descriptors"),
        metavar="N",
        help="how many descriptors may be open (default: as many as the hard limit allows)",
    )
    group.add_argument(
        "--poll-us",
        type=number(int, 0, MAX_POLL, "microseconds"),
        default=100,
        metavar="N",
        help="look for requests for up to so long before sleeping, while a guest sends them that "
        "quickly one after the other; 0: never (default: 100)",
    )
    group.add_argument(
        "--inode-file-handles",
        choices=[way.value for way in FileHandles],
        help="find files that the guest knows by file handle instead of an open descriptor each: "
        "prefer (default) where file system and privileges allow it; mandatory or not at all",
    )


def _tag(text: str) -> bytes:
    try:
        tag = text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("the tag is not UTF-8") from None
    if not 1 <= len(tag) <= MAX_TAG:
        raise argparse.ArgumentTypeError(f"the tag has {len(tag)} bytes, not 1 to {MAX_TAG}")
    return tag
