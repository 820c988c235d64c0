# SPDX-License-Identifier: Apache-2.0
"""SEMANTICS.md against the tests: no promise without a test, no test without a promise."""
