#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Installs the Debian or Ubuntu packages named, as root or through sudo.

set -eu

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "packages are missing, and this is not root and there is no sudo; as root: $*" >&2
        exit 1
    fi
}

install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}

echo "installing: $*"
# A first failure mostly says that the lists were never fetched, or name versions that are gone.
install "$@" || { as_root apt-get update -q && install "$@"; }
