# SPDX-License-Identifier: Apache-2.0
"""Which objects there may be after a kill, given the answers, and the one request without.

A name is answered for as its file is (`ledger`). The request that was under way when the daemon was
killed has happened, or not, or, where it is several steps on a service, in part: a rename may leave
both names, and never neither.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.remote.ledger import File


@dataclass(frozen=True, slots=True)
class Doubt:
    """A change of names that was asked for and not answered.

    Attributes:
        gone: Names that may be gone, or still be there.
        made: Names of directories that may be there or not.
        moved: Old and new names of files, of which at least one is there.
    """

    gone: frozenset[str] = frozenset()
    made: frozenset[str] = frozenset()
    moved: Mapping[str, str] = field(default_factory=dict)


NO_DOUBT = Doubt()


@dataclass(slots=True)
class Names:
    """The guest's names.

    Attributes:
        files: By name, `dir/name` for those in directories.
        dirs: Names of directories with their node ids; "" is the root.
        under: Files whose objects are replaced only when the file that took their name is stored.
        doubt: What is under way.
    """

    files: dict[str, File] = field(default_factory=dict)
    dirs: dict[str, int] = field(default_factory=dict)
    under: dict[str, list[File]] = field(default_factory=dict)
    doubt: Doubt = NO_DOUBT

    def move(self, old: str, new: str) -> None:
        """A file has another name; what had that before is replaced once the file is stored."""
        file, target = self.files.pop(old), self.files.get(new)
        self.under.pop(old, None)  # its object went when the file was stored elsewhere
        if target is not None:
            self.under[new] = [target.frozen(), *self.under.get(new, [])]
        self.files[new] = file

    def covers(self, name: str) -> bool:
        """Whether the object of a name is still another file's."""
        return any(each.acked is not None for each in self.under.get(name, []))

    def move_directory(self, old: str, new: str) -> None:
        """A directory has another name, and with it what is in it."""
        self.dirs[new] = self.dirs.pop(old)
        for table in (self.files, self.under):
            for name in [name for name in table if name.startswith(f"{old}/")]:
                table[new + name[len(old) :]] = table.pop(name)  # type: ignore[assignment]

    def remove(self, name: str) -> None:
        """A file has no name any more."""
        del self.files[name]
        self.under.pop(name, None)

    def candidates(self, key: str) -> list[File]:
        """The files that the object of this key may be."""
        found = []
        if key in self.files:
            found.append(self.files[key])
            if self.files[key].acked is None:
                found += self.under.get(key, [])
        found += [self.files[old] for old, new in self.doubt.moved.items() if new == key]
        return found

    def may_lack(self, key: str) -> bool:
        """Whether there need not be an object of this key."""
        if key in self.doubt.gone or key in self.doubt.moved:
            return True
        file = self.files.get(key)
        if file is None or file.acked is not None:
            return file is None
        return not self.covers(key)

    def problems(
        self, objects: Mapping[str, bytes], markers: set[str], *, patched: bool
    ) -> Iterator[str]:
        """What is wrong with the objects on the service, in words.

        Args:
            objects: By key; without the directories' markers.
            markers: The directories that have one.
            patched: See `File.allows`.
        """
        for key, data in objects.items():
            candidates = self.candidates(key)
            if not candidates:
                yield f"{key}: there should be no such object"
            elif not any(file.allows(data, patched=patched) for file in candidates):
                yield f"{key}: {_describe(data, candidates)}"
        for key in self.files:
            if key not in objects and not self.may_lack(key):
                yield f"{key}: it is lost"
        for old, new in self.doubt.moved.items():
            file = self.files[old]
            arrived = new in objects and file.allows(objects[new], patched=patched)
            if file.acked is not None and old not in objects and not arrived:
                yield f"{old}: lost on its way to {new}"
        known = set(self.dirs) - {""}
        unsure = self.doubt.made | self.doubt.gone
        yield from (f"{name}/: it is lost" for name in known - markers - unsure)
        yield from (f"{name}/: it should not be there" for name in markers - known - unsure)


def _describe(data: bytes, candidates: list[File]) -> str:
    versions = [version for file in candidates for version in file.versions()]
    sizes = ", ".join(str(len(version.data)) for version in versions) or "none"
    near = [version for version in versions if len(version.data) == len(data)]
    text = f"{len(data)} bytes that are no version (versions of {sizes} bytes)"
    for version in near:
        at = next(at for at in range(len(data)) if data[at] != version.data[at])
        zeros = data[at:].count(0)
        text += f"; differs from {at} on, {zeros} zeros of {len(data) - at} bytes from there"
    return text
