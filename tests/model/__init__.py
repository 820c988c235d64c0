# SPDX-License-Identifier: Apache-2.0
"""Random sequences of operations, each compared with what the host itself makes of it."""
