# SPDX-License-Identifier: Apache-2.0
"""Tests of the data plane's modules, each a C program of its own."""
