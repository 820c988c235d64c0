# SPDX-License-Identifier: Apache-2.0
"""The FUSE wire for the requests that reach Python: ``wire`` takes their fixed parts apart."""
