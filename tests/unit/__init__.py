# SPDX-License-Identifier: Apache-2.0
"""Tests of one module each, most of them without a process or a guest."""
