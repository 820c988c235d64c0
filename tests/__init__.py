# SPDX-License-Identifier: Apache-2.0
"""The tests of ovfs, and the tools they share."""
