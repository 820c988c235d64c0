# SPDX-License-Identifier: Apache-2.0
"""Real programs work in the share as they do on the bare directory, in two kernels.

`workload.sh` is the same script on both sides; every step must end with status 0 on both.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest import Guest, boot, has_uml

GROUPS = ("coreutils", "git", "archive", "database", "fio", "stress")
WORKLOAD = Path(__file__).parent / "workload.sh"

ONLY_WITH_UML = pytest.mark.skipif(not has_uml(), reason="User-mode Linux exists for x86-64 alone")


@pytest.fixture(scope="module", params=["qemu", pytest.param("uml", marks=ONLY_WITH_UML)])
def guest(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guest]:
    """One guest of each kind for all groups."""
    scratch = tmp_path_factory.mktemp(request.param)
    share = scratch / "share"
    share.mkdir()
    with boot(share, scratch, ["--xattr"], uml=request.param == "uml") as booted:
        booted.check("mkdir /mnt/work")
        yield booted


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of the host, of the same file system as the share."""
    return tmp_path_factory.mktemp("bare")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home directory with git's identity, as the guest's init makes one."""
    directory = tmp_path_factory.mktemp("home")
    (directory / ".gitconfig").write_text(
        "[user]\nname = guest\nemail = guest@localhost\n[safe]\ndirectory = *\n"
    )
    return directory


def statuses(report: str) -> dict[str, int]:
    """Each step's status by its name, as workload.sh prints them."""
    lines = [line.split() for line in report.splitlines() if not line.startswith("|")]
    return {name: int(status) for name, status in lines}


@pytest.mark.parametrize("group", GROUPS)
def test_programs_end_in_the_share_as_on_the_bare_directory(
    group: str, guest: Guest, bare: Path, home: Path
) -> None:
    on_host = subprocess.run(
        ["sh", WORKLOAD, bare, group],
        env={
            "PATH": "/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin",
            "HOME": str(home),
            "LC_ALL": "C",
        },
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    assert set(statuses(on_host).values()) == {0}, on_host
    in_guest = guest.check(f"sh /tests/workload.sh /mnt/work {group}", timeout=400)
    assert statuses(in_guest) == statuses(on_host), in_guest
