# SPDX-License-Identifier: Apache-2.0
"""Every backend but ``fs://``: objects of a storage service, served as files."""
