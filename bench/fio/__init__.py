# SPDX-License-Identifier: Apache-2.0
"""fio in a real guest: one workload a file, the file's name is the case."""
