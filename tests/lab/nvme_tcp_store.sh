# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# A store on a namespace that our target serves over NVMe/TCP, from a disk that the kernel drives: files
# in and out; the process killed while it writes; the target killed while it writes, and started again;
# the machine switched off while it writes.
# shellcheck source=tests/lab/guest/store.sh
. "$LAB_REPO/tests/lab/guest/store.sh"
load nvme
wait_for "the disk" test -b /dev/nvme0n1
nqn=nqn.2026-11.io.penstock:lab
export PENSTOCK_RUN_DIR=/tmp/run

serve()
{
	: >/tmp/target
	"$PENSTOCK" nvme target /dev/nvme0n1 --listen tcp://127.0.0.1:4420 --nqn $nqn --control lab >/tmp/target 2>&1 &
	target=$!
	wait_for "the target" grep -q ready /tmp/target
}

serve
DEVICE="nvme+tcp://127.0.0.1:4420/$nqn"
export PENSTOCK_STORE="local:$DEVICE?ddgst=1"
make_files
if [ "$LAB_BOOT" = 1 ]; then
	store_made
	store_killed 1

	say "the target killed while it writes: a pause"
	mkdir /tmp/many
	for n in 1 2 3; do
		cp -r /tmp/files /tmp/many/$n
	done
	"$PENSTOCK" put -r /tmp/many t:/pause >/tmp/said 2>&1 &
	put=$!
	wait_for "its I/O" commands 1 50
	kill -9 $target
	wait $target || true
	kill -0 $put || fail "it was done too soon: $(cat /tmp/said)"
	serve
	wait $put || fail "$(cat /tmp/said)"
	rm -rf /tmp/back
	"$PENSTOCK" -q get -r t:/pause /tmp/back
	diff -r /tmp/many /tmp/back
	rm -r /tmp/back /tmp/many
	"$PENSTOCK" -q rm -r t:/pause

	store_power_cut
fi
store_after_power_cut
kill $target
wait $target
