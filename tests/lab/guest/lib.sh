# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# What tests in the guest may use. A test runs under `set -euo pipefail`, in an empty /tmp: the first
# command that fails ends it.

# say WORDS...: into the test's output.
say()
{
	echo "-- $*"
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

# wait_for SECONDS WHAT COMMAND...: until it succeeds.
wait_for()
{
	local end=$((SECONDS + $1)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || fail "$what did not come"
		sleep 0.1
	done
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
