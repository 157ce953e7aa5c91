# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# What tests in the guest may use. A test runs under `set -euo pipefail`, in an empty /tmp: the first
# command that fails ends it.

# say WORDS...: into the test's output, and when.
say()
{
	echo "-- $SECONDS s: $*"
}

# fail WORDS...: ends the test.
fail()
{
	echo "FAILED: $*"
	exit 1
}

# skip WORDS...: ends the test, which counts as skipped.
skip()
{
	echo "$*"
	exit 77
}

# load MODULE...
load()
{
	local m
	for m in "$@"; do
		modprobe -d "$LAB_TREE" "$m"
	done
}

# What takes a moment takes a minute where an emulated processor is short of real ones. A bound is here
# only for a test that fails to end, so it is the same, and large, everywhere.
PATIENCE=120

# wait_for WHAT COMMAND...: until it succeeds.
wait_for()
{
	local end=$((SECONDS + PATIENCE)) what=$1
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || fail "$what did not come"
		sleep 0.1
	done
}

# at_work FILE: FILE is what `penstock perf --progress` says; it has counted completions.
at_work()
{
	wait_for "the first completions" grep -qE ' [1-9][0-9]* IOPS' "$1"
}

# sent PORT: commands of the hosts that are there, by that port of our target (--control lab).
sent()
{
	"$PENSTOCK" nvme ana lab --json | python3 -c "import json, sys
print(sum(h['commands'] for h in json.load(sys.stdin)['hosts'] if h['port'] == $1))"
}

# commands PORT COUNT: whether there have been as many.
commands()
{
	[ "$(sent "$1")" -ge "$2" ]
}

# refused WORDS COMMAND...: it must fail, and say so in these words.
refused()
{
	local words=$1 said
	shift
	if said=$("$@" 2>&1); then
		fail "$* was not refused: $said"
	fi
	echo "$said"
	[[ $said == *"$words"* ]] || fail "$* does not say '$words'"
}

# The machine is switched off at once, as if the plug were pulled, and this script runs again with
# LAB_BOOT one higher.
power_cut_and_again()
{
	touch "$LAB_OUT/again" "$LAB_OUT/cut"
	sleep 60
	fail "the machine is still on"
}

# qemu_say COMMAND...: to QEMU's monitor, outside of the guest; what it answers goes into the output.
qemu_say()
{
	rm -f "$LAB_OUT/qemu-said"
	echo "$*" >"$LAB_OUT/qemu.new"
	mv "$LAB_OUT/qemu.new" "$LAB_OUT/qemu"
	wait_for "QEMU's answer" test -e "$LAB_OUT/qemu-said"
	cat "$LAB_OUT/qemu-said"
}

# nvme_address SERIAL: PCI address of the controller with this serial number, while the kernel has it.
nvme_address()
{
	local c
	for c in /sys/class/nvme/nvme*; do
		if [ "$(tr -d ' ' <"$c/serial")" = "$1" ]; then
			cat "$c/address"
			return
		fi
	done
	fail "no NVMe controller with serial number $1"
}

# rdma_up: soft-RoCE, as device rxe0 at the address $RDMA_ADDR (both ends of a connection are there).
# RDMA works over `verbs` then; libfabric's verbs;ofi_rxm wants FI_UNIVERSE_SIZE=16 for its queues.
rdma_up()
{
	RDMA_ADDR=192.168.77.1
	load ib_uverbs rdma_ucm rdma_rxe veth
	# Not on the loopback interface, which rxe refuses.
	ip link add rdma-a type veth peer name rdma-b
	ip address add "$RDMA_ADDR/24" dev rdma-a
	ip link set rdma-a up
	ip link set rdma-b up
	rdma link add rxe0 type rxe netdev rdma-a
	wait_for "the link of rxe0" bash -c 'rdma link show rxe0/1 | grep -q "state ACTIVE"'
	wait_for "the device node of rxe0" test -c /dev/infiniband/uverbs0
}
