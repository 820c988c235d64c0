# SPDX-License-Identifier: Apache-2.0
"""A guest, and a VMM, that mean harm.

Whatever they send: that request gets an error, or that queue stops with one log line, or that VMM
is hung up on. The daemon lives, the next one is served, and nothing outside the shared directory
was as much as touched.
"""
