#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs the suites that use the C half with it built under sanitizers: `address,undefined` or `thread`. The build goes
# into a copy of the tree, so that the ordinary one stays usable beside it. The interpreter is not instrumented, hence
# the preloaded runtime; it leaks on purpose, hence no leak check. A report of any process, the daemon's included,
# fails the run. The programs of tests/c are left out: their own test builds them with each sanitizer. More arguments
# are pytest's.

set -eu

cd "$(dirname "$0")/.."
export OVFS_SANITIZE="$1"
shift
tree=build/sanitize-$(echo "$OVFS_SANITIZE" | tr , -)
reports=$PWD/$tree/reports
flags="-fsanitize=$OVFS_SANITIZE -fno-sanitize-recover=all -O1 -g"

mkdir -p "$tree"
rm -rf "$reports" "$tree/ovfs" "$tree/c" "$tree/tests"
mkdir "$reports"
tar -c --exclude='*.so' --exclude='*.o' --exclude=__pycache__ \
    setup.py pyproject.toml README.md ovfs c tests bench scripts | tar -x -C "$tree"
VMM_CFLAGS=$flags sh scripts/build.sh "$tree"

case $OVFS_SANITIZE in
    address*) runtime=libasan.so ;;
    # Its shadow memory has a fixed place, which the layout of newer kernels may have taken.
    thread) runtime=libtsan.so personality="setarch $(uname -m) --addr-no-randomize" ;;
esac
python=$PWD/.venv/bin/python
cd "$tree"
status=0
LD_PRELOAD=$(gcc -print-file-name="$runtime") \
    PYTHONPATH=$PWD VMM_CFLAGS=$flags PYTHONMALLOC=malloc \
    ASAN_OPTIONS=detect_leaks=0:log_path="$reports/asan" \
    UBSAN_OPTIONS=print_stacktrace=1:log_path="$reports/ubsan" \
    TSAN_OPTIONS=log_path="$reports/tsan" \
    ${personality:-} "$python" -m pytest tests --ignore=tests/guest --ignore=tests/c "$@" || status=$?

for report in "$reports"/*; do
    [ -e "$report" ] || continue
    echo "== $report" >&2
    head -n 60 "$report" >&2
    status=1
done
exit $status
