# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# A store on a namespace that our target serves over NVMe/TCP, from a disk that the kernel drives: files
# in and out; the process killed while it writes; the target killed while it writes, and started again;
# the machine switched off while it writes.
# shellcheck source=tests/lab/guest/store.sh
. "$LAB_REPO/tests/lab/guest/store.sh"
load nvme
wait_for 10 "the disk" test -b /dev/nvme0n1
nqn=nqn.2026-11.io.penstock:lab
export PENSTOCK_RUN_DIR=/tmp/run

serve()
{
	: >/tmp/target
	"$PENSTOCK" nvme target /dev/nvme0n1 --listen tcp://127.0.0.1:4420 --nqn $nqn --control lab >/tmp/target 2>&1 &
	target=$!
	wait_for 30 "the target" grep -q ready /tmp/target
}

serve
DEVICE="nvme+tcp://127.0.0.1:4420/$nqn"
export PENSTOCK_STORE="local:$DEVICE?ddgst=1"
make_files
if [ "$LAB_BOOT" = 1 ]; then
	store_made
	store_killed

	say "the target killed while it writes: a pause"
	"$PENSTOCK" put -r /tmp/files t:/pause >/tmp/said 2>&1 &
	put=$!
	wait_for 30 "its I/O" commands 1 300
	kill -9 $target
	wait $target || true
	serve
	wait $put || fail "$(cat /tmp/said)"
	same t:/pause
	"$PENSTOCK" -q rm -r t:/pause

	store_power_cut
fi
store_after_power_cut
kill $target
wait $target
