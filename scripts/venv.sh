#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Creates .venv with the first Python that will do and installs ovfs into it, editable, with what the tests need.
# A Python will do from 3.11 on, with its headers and venv; where there is none, the distribution's is installed.
# PYTHON=/path/to/python chooses.

set -eu

cd "$(dirname "$0")/.."

suitable() {
    "$1" - >/dev/null 2>&1 <<-'END'
	import ensurepip, os, sys, sysconfig, venv
	header = os.path.join(sysconfig.get_path("include"), "Python.h")
	sys.exit(sys.version_info < (3, 11) or not os.path.exists(header))
	END
}

find_python() {
    for python in ${PYTHON:-python3 /usr/bin/python3 python3.14 python3.13 python3.12 python3.11}; do
        if suitable "$python"; then
            echo "$python"
            return
        fi
    done
    return 1
}

install_python() {
    command -v apt-get >/dev/null || {
        echo "no Python of 3.11 or later with its headers and venv was found; PYTHON=/path names one" >&2
        exit 1
    }
    # Where the distribution's own Python is older than 3.11, it has 3.11 beside it.
    case $(apt-cache policy python3 2>/dev/null | sed -n 's/ *Candidate: *//p') in
        3.[0-9].* | 3.10.*) packages="python3.11 python3.11-venv python3.11-dev" ;;
        *) packages="python3 python3-venv python3-dev" ;;
    esac
    sh scripts/apt.sh $packages
}

if [ ! -x .venv/bin/python ]; then
    python=$(find_python) || { install_python; python=$(find_python); }
    echo "creating .venv with $python ($("$python" --version))"
    "$python" -m venv .venv
fi

export PIP_DISABLE_PIP_VERSION_CHECK=1
# The build's own requirements come first and build isolation is off, so that an unchanged tree builds in seconds.
.venv/bin/python -m pip install -q 'setuptools>=65' wheel 'cffi>=1.16'
.venv/bin/python -m pip install -q --no-build-isolation -e '.[dev]'
