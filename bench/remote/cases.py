# SPDX-License-Identifier: Apache-2.0
"""What is measured: work on files, and what ovfs promises about the time it takes."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.remote.files import BLOCK, MIB
from bench.remote.guest import Ovfs
from bench.remote.mounted import Rclone, S3fs
from bench.remote.place import noise
from bench.remote.plain import Plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.remote.files import Contender, Files
    from bench.remote.place import Place

OVFS: Final = Ovfs()
BACKGROUND: Final = Ovfs("ovfs, background", durable=False, options=("--upload", "background"))
S3FS: Final = S3fs()
RCLONE: Final = Rclone()
PLAIN: Final = Plain()


@dataclass(frozen=True)
class Scale:
    """How much of everything there is.

    Attributes:
        large: Bytes of the large object.
        reads: Random reads in it.
        small: Small files.
        listed: Objects in the directory that is listed.
    """

    large: int = 256 * MIB
    reads: int = 500
    small: int = 200
    listed: int = 1000

    def names(self) -> list[str]:
        """The small files."""
        return [f"small/file-{number:04}" for number in range(self.small)]

    def offsets(self) -> list[int]:
        """Where random reads go, the same for everybody."""
        rng = random.Random(42)
        return [rng.randrange(self.large // BLOCK) * BLOCK for _ in range(self.reads)]


FULL: Final = Scale()
QUICK: Final = Scale(large=32 * MIB, reads=50, small=20, listed=100)


@dataclass(frozen=True)
class Limit:
    """What ovfs promises about a case at one distance.

    Attributes:
        way: The distance.
        peer: Against whom; None: seconds by the clock.
        most: The most that it takes, as a multiple of the peer's time, or in seconds.
        us: Which ovfs promises it.
    """

    way: str
    peer: Contender | None
    most: float
    us: Contender = OVFS


@dataclass(frozen=True)
class Case:
    """One part of the report's table.

    Attributes:
        name: The part's name.
        prepare: Puts in the data that is there before, once for all.
        run: The work that is timed.
        stored: What has to be in the bucket once it is stored; such a case gets an empty prefix
            for each run.
        contenders: Who takes part, ovfs last.
        limits: What is promised.
    """

    name: str
    run: Callable[[Files, Scale], object]
    prepare: Callable[[Place, Scale], None] | None = None
    stored: Callable[[Scale], dict[str, int]] | None = None
    contenders: tuple[Contender, ...] = (S3FS, RCLONE, PLAIN, OVFS)
    limits: tuple[Limit, ...] = ()


def _put_large(place: Place, scale: Scale) -> None:
    place.put_large("large", scale.large)


def _put_small(place: Place, scale: Scale) -> None:
    place.put_small(scale.names())


def _put_listed(place: Place, scale: Scale) -> None:
    place.put_small([f"listed/object-{number:05}" for number in range(scale.listed)], 100)


def _list(files: Files, scale: Scale) -> None:
    count = files.list_long("listed")
    if count != scale.listed:
        raise RuntimeError(f"{count} of {scale.listed} objects listed")


def _creator(writers: int) -> Callable[[Files, Scale], None]:
    return lambda files, scale: files.create(scale.names(), noise(BLOCK), writers)


def _small_stored(scale: Scale) -> dict[str, int]:
    return dict.fromkeys(scale.names(), BLOCK)


def _random(depth: int) -> Callable[[Files, Scale], None]:
    return lambda files, scale: files.read_at("large", scale.offsets(), depth)


CREATORS: Final = (S3FS, RCLONE, PLAIN, BACKGROUND, OVFS)

CASES: Final = (
    Case(
        "read 256 MiB cold",
        lambda files, scale: files.read("large", scale.large),
        prepare=_put_large,
        limits=(Limit("10 ms", PLAIN, 1 / 0.85), Limit("direct", PLAIN, 1 / 0.5)),
    ),
    Case(
        "write 256 MiB, fsync, close",
        lambda files, scale: files.write("large", scale.large),
        stored=lambda scale: {"large": scale.large},
        limits=(Limit("10 ms", S3FS, 1.0), Limit("10 ms", PLAIN, 1.0)),
    ),
    Case(
        "500 random 4 KiB reads, 16 at a time, cold",
        _random(16),
        prepare=_put_large,
        limits=(Limit("10 ms", None, 1.2),),
    ),
    Case(
        "500 random 4 KiB reads, one at a time, cold",
        _random(1),
        prepare=_put_large,
        limits=(Limit("10 ms", S3FS, 1.0),),
    ),
    Case(
        "create 200 files of 4 KiB, one writer",
        _creator(1),
        stored=_small_stored,
        contenders=CREATORS,
        limits=(Limit("10 ms", S3FS, 1 / 6), Limit("10 ms", RCLONE, 1.0, BACKGROUND)),
    ),
    Case(
        "create 200 files of 4 KiB, eight writers",
        _creator(8),
        stored=_small_stored,
        contenders=CREATORS,
        limits=(Limit("10 ms", S3FS, 1 / 10), Limit("10 ms", RCLONE, 1.0, BACKGROUND)),
    ),
    Case(
        "read 200 files of 4 KiB cold",
        lambda files, scale: files.read_each(scale.names()),
        prepare=_put_small,
        limits=(Limit("10 ms", S3FS, 1 / 5),),
    ),
    Case(
        "ls -l of 1000 objects cold",
        _list,
        prepare=_put_listed,
        limits=(Limit("10 ms", S3FS, 1.0),),
    ),
)
