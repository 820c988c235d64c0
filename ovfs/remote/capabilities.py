# SPDX-License-Identifier: Apache-2.0
"""What a service can do: declared by OpenDAL, corrected by what a probe found (``probe.py``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opendal.capability import Capability


@dataclass(frozen=True, slots=True)
class Capabilities:
    """One service's abilities; sizes in bytes, None where there is no limit."""

    read: bool
    ranges: bool  # a part of an object can be read
    write: bool
    delete: bool
    list: bool
    list_recursive: bool
    start_after: bool
    create_dir: bool
    rename: bool
    copy: bool
    append: bool
    multipart: bool  # an object can be written in pieces, before its size is known
    write_empty: bool
    if_match: bool  # a write can be tied to the version that it replaces
    if_not_exists: bool
    read_if_match: bool
    delete_if_match: bool  # not declared by OpenDAL: False until a probe saw it work
    user_metadata: bool
    dir_metadata: bool  # of directory markers; False until a probe saw it work
    presign: bool
    part_min: int | None
    part_max: int | None
    total_max: int | None

    @classmethod
    def declared(cls, capability: Capability) -> Capabilities:
        """Return what OpenDAL says about a service."""
        return cls(
            read=capability.read,
            ranges=True,  # all are said to, but see probe.py
            write=capability.write,
            delete=capability.delete,
            list=capability.list,
            list_recursive=capability.list_with_recursive,
            start_after=capability.list_with_start_after,
            create_dir=capability.create_dir,
            rename=capability.rename,
            copy=capability.copy,
            append=capability.write_can_append,
            multipart=capability.write_can_multi,
            write_empty=capability.write_can_empty,
            if_match=capability.write_with_if_match,
            if_not_exists=capability.write_with_if_not_exists,
            read_if_match=capability.read_with_if_match,
            delete_if_match=False,
            user_metadata=capability.write_with_user_metadata,
            dir_metadata=False,
            presign=capability.presign,
            part_min=capability.write_multi_min_size,
            part_max=capability.write_multi_max_size,
            total_max=capability.write_total_max_size,
        )
