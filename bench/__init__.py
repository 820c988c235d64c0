# SPDX-License-Identifier: Apache-2.0
"""Measurements: `make bench` runs all of them, `make bench-quick` a short version.

bench_local.py   ovfs beside other daemons, on the fake VMM; holds the promises about speed
bench_null.py    the fake VMM's own ceiling
bench_start.py   start-up time, idle memory
bench_uring.py   the Python binding of io_uring
fio/             fio in a real guest
remote/          objects on a storage service, beside s3fs, rclone and plain OpenDAL
proxy.py         the proxy that puts the service further away
"""
