# SPDX-License-Identifier: Apache-2.0
"""kill -9 at seeded moments: nothing acknowledged is lost, no object is anything but whole.

Each round is a fresh prefix, a fresh cache directory, a daemon, and a guest that writes at random
until the daemon dies. In durable mode the service must then have what was answered; in background
mode it must after another daemon on the same cache directory has stored what was journalled.

`make test` runs 40 rounds; OVFS_KILLS=200 in the environment asks for more.
"""

from __future__ import annotations

import os
import random
import threading
import time
from errno import ESTALE
from typing import TYPE_CHECKING, Final

import pytest

from bench.proxy import DelayProxy
from tests.remote.expectation import NO_DOUBT, Names
from tests.remote.ledger import File
from tests.remote.mortal import KilledError, MortalClient
from tests.remote.workload import MIB, Workload
from tests.semantics.remote.share import RemoteShare
from tests.services.bucket import Bucket
from tests.vmm import ROOT_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.services.seaweed import SeaweedFS

KILLS: Final = int(os.environ.get("OVFS_KILLS", "40"))
SEED: Final = int(os.environ.get("OVFS_KILL_SEED", "1"))
ROUNDS: Final = 10  # of a test, so that one of them is no longer than others
MAX_STEPS: Final = 60  # after which the guest is idle: what is queued is stored in peace
LARGE: Final = 9 * MIB
FAR: Final = 3  # one round in so many has the service farther away
ROUND_TRIP: Final = 0.008


class Moment:
    """Kills a daemon a while after its guest has made so many requests."""

    def __init__(self, kill: Callable[[], None], rng: random.Random) -> None:
        self._left = rng.randrange(MAX_STEPS)
        wait = rng.choice((0.0, rng.uniform(0, 0.005), rng.uniform(0, 0.05), rng.uniform(0, 0.7)))
        self._timer = threading.Timer(wait, kill)

    def tick(self) -> None:
        """The guest makes a request."""
        if self._left == 0:
            self._timer.start()
        self._left -= 1

    def wait(self) -> None:
        """Returns when it is over, which it now begins to be."""
        while self._left >= 0:
            self.tick()
        self._timer.join()


class Round:
    """One life and death.

    Args:
        service: Where the objects are.
        endpoint: How the daemon reaches it.
        seed: Which.
        background: How the daemon stores.
    """

    def __init__(self, service: SeaweedFS, endpoint: str, seed: int, *, background: bool) -> None:
        self._rng = random.Random(seed)
        root = f"/kill-{os.getpid()}-{seed}-{'b' if background else 'd'}/"
        self._background = background
        self._bucket = Bucket(service, root)
        self._names = self._fill()
        mode = "background" if background else "durable"
        self._share = RemoteShare(
            service.url(root=root, endpoint=endpoint),
            self._bucket,
            ("--upload", mode, "--upload-delay", "0.5", "--log-level", "debug"),
        )

    def _fill(self) -> Names:
        """What is on the service before the daemon comes."""
        names = Names({}, {"": ROOT_ID})
        sizes = {"f0": 10, "f1": 5000, "f2": 100_000}
        if self._rng.random() < 0.3:
            sizes["f3"] = LARGE
        for name, size in sizes.items():
            data = self._rng.randbytes(size)
            self._bucket.put(name, data)
            names.files[name] = File.stored(data)
        return names

    def run(self) -> None:
        """The whole of it."""
        with self._share:
            try:
                self._live()
                time.sleep(0.05)  # until the service has done what it was asked last
                if not self._background:
                    self._check(patched=False)
                if self._background or self._rng.random() < 0.2:
                    self._live_again()
            except BaseException:
                print(self._share.log()[-6000:])
                raise
            self._bucket.clear()

    def _live(self) -> None:
        share = self._share
        client = MortalClient(share.guest.vmm, share.daemon)
        client.init()
        moment = Moment(share.daemon.process.kill, self._rng)
        workload = Workload(
            client, self._names, self._rng, moment.tick, background=self._background
        )
        try:
            for _ in range(2 * MAX_STEPS):
                workload.step()
            moment.wait()
        except KilledError:
            pass
        share.daemon.process.wait()
        share.kill()
        self._check_log()

    def _live_again(self) -> None:
        """Another daemon finishes what this one had promised."""
        share = self._share
        share.start_again()
        seen = {key: self._read(key) for key in self._names.files}
        assert share.stop() == 0
        self._check_log()
        self._check(patched=self._background)
        keys = self._bucket.keys()
        doubt = self._names.doubt
        unsure = {*doubt.gone, *doubt.moved, *doubt.moved.values()}
        for key in seen.keys() - unsure:
            stored = self._bucket.get(key) if key in keys else None
            assert stored == seen[key], f"{key}: the guest was shown something else"
        for key in self._names.files.keys() & set(keys):
            head = self._bucket.head(key)
            modes = set().union(*(file.modes for file in self._names.candidates(key)))
            assert head is not None
            assert int(head.meta.get("mode", "420")) & 0o777 in modes, key

    def _read(self, key: str) -> bytes | None:
        fs, nodeid = self._share.fs, ROOT_ID
        for part in key.split("/"):
            try:
                nodeid = fs.lookup(nodeid, part.encode()).nodeid
            except FileNotFoundError:
                nodeid = 0
            if not nodeid:
                return None
        try:
            fh, data = fs.open(nodeid).fh, bytearray()
            while piece := fs.read(nodeid, fh, len(data), MIB):
                data += piece
            fs.release(nodeid, fh)
        except OSError as error:
            # A rename's old name: what is owed of it lay over an object that has moved on.
            if error.errno != ESTALE or self._names.doubt == NO_DOUBT:
                raise
            return None
        return bytes(data)

    def _check(self, *, patched: bool) -> None:
        keys = self._bucket.keys()
        markers = {key[:-1] for key in keys if key.endswith("/")} - {""}
        objects = {key: self._bucket.get(key) for key in keys if key and not key.endswith("/")}
        problems = list(self._names.problems(objects, markers, patched=patched))
        assert not problems, "\n".join(problems)

    def _check_log(self) -> None:
        log = self._share.log()
        assert "Traceback" not in log
        assert "internal error" not in log
        kept = list((self._share.cache_dir / "v1" / "conflicts").iterdir())
        if self._names.doubt == NO_DOUBT:  # else it may have been overtaken by its own request
            assert not kept, f"there is one writer, and it lost a race: {kept}"


@pytest.fixture(scope="module")
def far(seaweed: SeaweedFS) -> Iterator[str]:
    """The same service farther away: there is more time between one step and the next."""
    with DelayProxy(seaweed.port, ROUND_TRIP) as proxy:
        yield proxy.endpoint


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, KILLS // 2, ROUNDS))
@pytest.mark.parametrize("mode", ["durable", "background"])
def test_nothing_acknowledged_is_lost(seaweed: SeaweedFS, far: str, mode: str, first: int) -> None:
    for seed in range(first, min(first + ROUNDS, KILLS // 2)):
        endpoint = far if seed % FAR == 0 else seaweed.endpoint
        try:
            Round(seaweed, endpoint, SEED * 1000 + seed, background=mode == "background").run()
        except BaseException:
            print(f"seed {seed}, {mode}")
            raise
