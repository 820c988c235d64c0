#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs the suites that use the C half with it built under sanitizers: `address,undefined` or `thread`. The build goes
# into a copy of the tree, so that the ordinary one stays usable beside it. The interpreter is not instrumented, hence
# the preloaded runtime; it leaks on purpose, hence no leak check. A report of any process, the daemon's included,
# fails the run. More arguments are pytest's.
#
# Left out: real guests (nothing in them is ours, and they are slow); tests/c, whose programs are built with each
# sanitizer by their own test; what looks at the text of the tree; and what drives somebody else's daemon, in which the
# preloaded runtime cannot work.

set -eu

cd "$(dirname "$0")/.."
export OVFS_SANITIZE="$1"
shift
tree=build/sanitize-$(echo "$OVFS_SANITIZE" | tr , -)
reports=$PWD/$tree/reports
flags="-fsanitize=$OVFS_SANITIZE -fno-sanitize-recover=all -O1 -g"

case $OVFS_SANITIZE in
    address*) runtime=libasan.so ;;
    thread)
        runtime=libtsan.so
        # Its shadow memory has a fixed place, which the layout of newer kernels may have taken.
        personality="setarch $(uname -m) --addr-no-randomize"
        # It does not model fences; the rings' other halves are in the guest, which it does not see either.
        flags="$flags -Wno-tsan"
        # Shells crash with it preloaded, it has a thread of its own in the daemon, and it is slow: the tests that start
        # the daemon through a shell, count its threads, or time the fake VMM.
        left_out="--ignore=tests/operations/test_unprivileged.py --ignore=tests/unit/test_vmm_bench.py
            --deselect=tests/unit/test_daemon.py::test_nothing_of_a_vmm_stays"
        ;;
esac

rm -rf "$tree"
mkdir -p "$reports"
chmod 1777 "$reports" # some of the daemons run as another user
tar -c --exclude='*.so' --exclude='*.o' --exclude=__pycache__ --exclude=./.git --exclude=./.venv --exclude=./.cache \
    --exclude=./build . | tar -x -C "$tree"
VMM_CFLAGS=$flags sh scripts/build.sh "$tree"

python=$PWD/.venv/bin/python
cd "$tree"
status=0
LD_PRELOAD=$(gcc -print-file-name="$runtime") \
    PYTHONPATH=$PWD VMM_CFLAGS=$flags PYTHONMALLOC=malloc \
    ASAN_OPTIONS=detect_leaks=0:log_path="$reports/asan" \
    UBSAN_OPTIONS=print_stacktrace=1:log_path="$reports/ubsan" \
    TSAN_OPTIONS=log_path="$reports/tsan":suppressions="$PWD/scripts/tsan.supp" \
    ${personality:-} "$python" -m pytest tests --ignore=tests/guest --ignore=tests/c \
    --ignore=tests/test_layering.py --ignore=tests/unit/test_delay_proxy.py --ignore=tests/unit/test_fault_proxy.py \
    --ignore=tests/unit/test_services.py --ignore=tests/unit/test_vmm_session.py ${left_out:-} \
    --deselect=tests/unit/test_vmm_bench.py::test_the_driver_itself_can_do_a_million_and_a_half_requests_a_second "$@" ||
    status=$?

for report in "$reports"/*; do
    [ -e "$report" ] || continue
    echo "== $report" >&2
    head -n 60 "$report" >&2
    status=1
done
exit $status
