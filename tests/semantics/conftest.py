# SPDX-License-Identifier: Apache-2.0
"""The fixtures of tests/operations, which these tests are alike."""

from tests.operations.conftest import memory_scene, memory_share, scene, share

__all__ = ["memory_scene", "memory_share", "scene", "share"]
