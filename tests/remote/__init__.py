# SPDX-License-Identifier: Apache-2.0
"""The remote backend against real services, on good days and on bad ones."""
