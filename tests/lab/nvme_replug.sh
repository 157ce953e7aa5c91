# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# A device that is taken out and put back while it is used: a pause for who uses it, with all data as it
# was. Another one in its place is refused before a byte is written to it. As one of two paths it is used
# again.
load nvme vfio-pci
wait_for "the controllers" test -e /sys/class/nvme/nvme1/address
first=$(nvme_address lab0) second=$(nvme_address lab1)
"$PENSTOCK" nvme bind "$first"

# take_out NAME [ADDRESS]
take_out()
{
	qemu_say device_del "$1"
	wait_for "the end of $1" test ! -e "/sys/bus/pci/devices/${2:-$first}"
}

# put_in NAME SERIAL SUBSYSTEM
put_in()
{
	qemu_say device_add "nvme,serial=$2,id=$1,bus=rp0,subsys=$3,max_ioqpairs=8,msix_qsize=9"
	# The kernel has it first; its driver is not through with it as soon as it is there.
	wait_for "its namespace" bash -c "ls /sys/bus/pci/devices/$first/nvme/nvme*/ | grep -q 'n1$'"
	"$PENSTOCK" nvme bind "$first"
}

# begin DEVICE ARGUMENTS...: in the background; it is at work when this returns.
begin()
{
	: >/tmp/said
	"$PENSTOCK" perf "$@" --rw randrw --force --verify --progress >/tmp/said 2>&1 &
	at_work /tmp/said
}

# goes_on: more completions than there are now.
goes_on()
{
	local lines
	lines=$(grep -cE ' [1-9][0-9]* IOPS' /tmp/said)
	wait_for "more completions" bash -c "[ \$(grep -cE ' [1-9][0-9]* IOPS' /tmp/said) -gt $((lines + 1)) ]"
}

# ends STATUS WORDS
ends()
{
	local status=0
	wait $! || status=$?
	grep -v IOPS /tmp/said || true
	[ "$status" = "$1" ] || fail "exit status $status"
	grep -q -- "$2" /tmp/said || fail "it does not say '$2'"
}

# cut_short: that is enough; what was written is read once more.
cut_short()
{
	kill -TERM $!
	ends 143 " 0 wrong"
}

for how in "" "?interrupts=1&sgl=0"; do
	say "out, and in again $how"
	begin "nvme:$first$how" --queues 2 --qdepth 16 --runtime 600 --size 32m
	take_out nv0
	sleep 1 # it is asked for in vain meanwhile
	put_in nv0 lab0 ss0
	wait_for "the driver's word" grep -q "is there again" /tmp/said
	goes_on
	cut_short
done

say "under a store"
"$PENSTOCK" format "nvme:$first" --force
export PENSTOCK_STORE="local:nvme:$first"
"$PENSTOCK" container create t
mkdir /tmp/tree
head -c 8M /dev/urandom >/tmp/random
for n in $(seq 20); do
	{ echo "$n" && cat /tmp/random; } >"/tmp/tree/$n"
done
: >/tmp/said
"$PENSTOCK" put -r /tmp/tree t:/tree --progress >/tmp/said 2>&1 &
wait_for "its first data" grep -qE " of [0-9]" /tmp/said
take_out nv0
put_in nv0 lab0 ss0
wait $! || fail "$(cat /tmp/said)"
grep -q "is there again" /tmp/said || fail "it was done before the device was taken out"
for n in $(seq 20); do
	"$PENSTOCK" cat "t:/tree/$n" | cmp - "/tmp/tree/$n"
done
"$PENSTOCK" fsck "nvme:$first"

say "it does not come back"
begin "nvme:$first?reconnect=4" --runtime 600 --size 32m
start=$SECONDS
take_out nv0
ends 1 "the run was given up: No such device"
[ $((SECONDS - start)) -ge 3 ] || fail "it was looked for for $((SECONDS - start)) s, not 4"
put_in nv0 lab0 ss0

say "another one is in its place"
begin "nvme:$first" --runtime 600 --size 32m
take_out nv0
put_in nv2 lab1 ss1
ends 1 "another controller has come back"
other=/dev/$(basename -a /sys/block/* | grep -E '^nvme[0-9]+n1$') # by its other controller
[ -b "$other" ] || fail "the kernel does not have $other"
cmp -n $((32 << 20)) "$other" /dev/zero || fail "it was written to"

say "one of two paths: out, in again, and then alone"
"$PENSTOCK" nvme bind "$second"
begin "multipath:round-robin:nvme:$first?reconnect=1|nvme:$second" --runtime 600 --size 32m
take_out nv2
goes_on
sleep 5 # longer than it would be looked for alone
put_in nv2 lab1 ss1
wait_for "the driver's word" grep -q "is there again" /tmp/said
goes_on
take_out nv1 "$second"
goes_on
cut_short
