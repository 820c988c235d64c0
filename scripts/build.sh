#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Compiles the C parts of the source tree named, in place: the data plane, the ring binding and the fake VMM.
# OVFS_SANITIZE=address,undefined or =thread instruments them.

set -eu

python=$PWD/.venv/bin/python
# setuptools warns of its own future, to whoever calls it.
export PYTHONWARNINGS=ignore
cd "$1"
# Forced, because changed headers and flags alone make setuptools compile nothing; make decides whether to call this.
"$python" setup.py -q build_ext --inplace --force --parallel "$(nproc)"
# By its path: as a module it would be imported through its package, which loads what is to be built.
"$python" tests/vmm/build_vmm.py >/dev/null
