# SPDX-License-Identifier: Apache-2.0
"""Proof that a sanitizer build is one."""
