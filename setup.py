# SPDX-License-Identifier: Apache-2.0
"""Builds the two compiled parts; everything else is declared in pyproject.toml."""

from setuptools import setup

setup(
    cffi_modules=[
        "ovfs/native/build_plane.py:ffibuilder",
        "ovfs/uring/build_uring.py:ffibuilder",
    ],
)
