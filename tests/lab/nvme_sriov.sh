# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# SR-IOV: the physical function stays with the kernel's driver, a virtual function of it is ours, and
# both work on one namespace at the same time, each in its own part of it.
load nvme vfio-pci
wait_for "the controller" test -e /sys/class/nvme/nvme0/address
pf=$(nvme_address lab0)
dev=/dev/nvme0
virtual()
{
	nvme virt-mgmt "$dev" "$@" >/dev/null
}

# Queues and interrupts leave the physical function, at its next reset, and go to the virtual ones.
virtual -c 0 -r 1 -a 1 -n 0
virtual -c 0 -r 0 -a 1 -n 0
nvme reset "$dev"
wait_for "the namespace" test -b /dev/nvme0n1
echo 0 >"/sys/bus/pci/devices/$pf/sriov_drivers_autoprobe"
echo 2 >"/sys/bus/pci/devices/$pf/sriov_numvfs"
for c in 1 2; do
	virtual -c "$c" -r 1 -a 8 -n 1
	virtual -c "$c" -r 0 -a 8 -n 2
	virtual -c "$c" -a 9
done
vf=$(basename "$(readlink "/sys/bus/pci/devices/$pf/virtfn0")")
say "physical $pf, virtual $vf"
refused "2 virtual functions" "$PENSTOCK" nvme bind "$pf"
"$PENSTOCK" nvme bind "$vf"
"$PENSTOCK" nvme identify "nvme:$vf" || fail "identify"

say "both at once"
"$PENSTOCK" perf /dev/nvme0n1 --rw randread --runtime 8 >/tmp/kernel 2>&1 &
kernel=$!
"$PENSTOCK" perf "nvme:$vf" --rw randrw --verify --force --size 64m --runtime 3
"$PENSTOCK" perf "nvme:$vf?interrupts=1&sgl=0" --rw randrw --verify --force --size 64m --iosize 64k --runtime 2
"$PENSTOCK" perf "nvme:$vf" --rw randrw --verify --force --size 64m --runtime 2 --reset-every 50
wait "$kernel" || fail "$(cat /tmp/kernel)"
cat /tmp/kernel

say "what one wrote the other reads"
head -c 16M "$PENSTOCK" >/tmp/data
truncate -s 16M /tmp/data
"$PENSTOCK" format "nvme:$vf" --force
PENSTOCK_STORE="local:nvme:$vf" "$PENSTOCK" container create t
PENSTOCK_STORE="local:nvme:$vf" "$PENSTOCK" put /tmp/data t:/data
PENSTOCK_STORE="local:/dev/nvme0n1" "$PENSTOCK" get t:/data /tmp/back
cmp /tmp/data /tmp/back

say "killed with commands under way: the physical function does not care"
"$PENSTOCK" perf "nvme:$vf" --rw randrw --force --verify --iosize 64k --runtime 600 --progress 2>/tmp/said &
at_work /tmp/said
kill -9 $!
wait $! || true
"$PENSTOCK" perf "nvme:$vf" --rw randrw --verify --force --size 64m --runtime 1
"$PENSTOCK" perf /dev/nvme0n1 --rw randread --runtime 1
if dmesg | grep -i "dmar.*fault"; then
	fail "the device reached for memory that it was not given"
fi
