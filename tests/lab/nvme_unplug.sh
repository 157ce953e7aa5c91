# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# A device that goes away under I/O: its slot loses power, or the kernel is told to unbind it. Whoever
# uses it lets go of it at once, so that the kernel is done with it, and with reconnect=0 is told so
# (nvme_replug.sh: without).
load nvme vfio-pci
wait_for "the controllers" test -e /sys/class/nvme/nvme1/address
first=$(nvme_address lab0) second=$(nvme_address lab1)
"$PENSTOCK" nvme bind "$first" "$second"

# Takes a function out of its slot, as a hand would: power controller and indicator off in Slot Control
# is what QEMU removes the device at, at once. The slot's interrupts are off for that moment, and its
# power is on again when the kernel hears of it: to it the device just isn't there any more. A moment
# before, the function loses the bus: commands that were sent by then never come back. (QEMU 7.2 crashes
# when a device is removed that still has I/O in QEMU's own hands.)
pull()
{
	python3 - "$(basename "$(dirname "$(readlink -f "/sys/bus/pci/devices/$1")")")" "$1" <<'EOF'
import struct, sys, time
with open("/sys/bus/pci/devices/%s/config" % sys.argv[2], "r+b", buffering=0) as f:
    f.seek(4)
    command = struct.unpack("<H", f.read(2))[0]
    f.seek(4)
    f.write(struct.pack("<H", command & ~4))  # no bus master
time.sleep(0.2)
with open("/sys/bus/pci/devices/%s/config" % sys.argv[1], "r+b", buffering=0) as f:
    def get(at, fmt):
        f.seek(at)
        return struct.unpack(fmt, f.read(struct.calcsize(fmt)))[0]
    cap = get(0x34, "<B")
    while get(cap, "<B") != 0x10:  # PCI Express
        cap = get(cap + 1, "<B")
    control = get(cap + 0x18, "<H")
    for value in (control & ~0x0020 | 0x0700, control):
        f.seek(cap + 0x18)
        f.write(struct.pack("<H", value))
EOF
}

# ends WORDS: the last background process, long before it would be done, and saying so.
ends()
{
	local until=$((SECONDS + PATIENCE)) status=0
	while kill -0 $! 2>/dev/null; do
		[ "$SECONDS" -lt "$until" ] || fail "it does not notice: $(cat /tmp/said)"
		sleep 0.1
	done
	wait $! || status=$?
	cat /tmp/said
	[ "$status" = 1 ] || fail "exit status $status"
	grep -q "$1" /tmp/said || fail "it does not say '$1'"
}

say "the kernel wants it back"
"$PENSTOCK" perf "nvme:$first?reconnect=0" --rw randrw --force --verify --runtime 600 --progress >/tmp/said 2>&1 &
at_work /tmp/said
echo "$first" >/sys/bus/pci/drivers/vfio-pci/unbind
ends "No such device"
[ ! -e "/sys/bus/pci/devices/$first/driver" ] || fail "it still has a driver"
"$PENSTOCK" nvme bind "$first"
"$PENSTOCK" perf "nvme:$first" --rw randrw --force --verify --runtime 0.5

say "pulled out, under perf"
: >/tmp/said
"$PENSTOCK" perf "nvme:$first?reconnect=0" --rw randrw --force --verify --queues 2 --runtime 600 --progress >/tmp/said 2>&1 &
at_work /tmp/said
pull "$first"
ends "No such device"
wait_for "the kernel's end of it" test ! -e "/sys/bus/pci/devices/$first"
refused "no such PCI function" "$PENSTOCK" perf "nvme:$first" --rw randread --runtime 1

say "pulled out, under a store"
export PENSTOCK_STORE="local:nvme:$second?reconnect=0"
"$PENSTOCK" format "nvme:$second"
"$PENSTOCK" container create t
head -c 300M /dev/zero >/tmp/large
: >/tmp/said
"$PENSTOCK" put /tmp/large t:/large --progress >/tmp/said 2>&1 &
wait_for "its first data" grep -q " of 300" /tmp/said
pull "$second"
ends "penstock: put:"
wait_for "the kernel's end of it" test ! -e "/sys/bus/pci/devices/$second"
