# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# A store on QEMU's NVMe through our driver: files in and out, the process killed while it writes, and
# the machine switched off while it writes.
# shellcheck source=tests/lab/guest/store.sh
. "$LAB_REPO/tests/lab/guest/store.sh"
load nvme vfio-pci
wait_for "the controller" test -e /sys/class/nvme/nvme0/address
addr=$(nvme_address lab0)
"$PENSTOCK" nvme bind "$addr"
DEVICE="nvme:$addr"
export PENSTOCK_STORE="local:$DEVICE?interrupts=1"
make_files
if [ "$LAB_BOOT" = 1 ]; then
	store_made
	store_killed 3
	store_power_cut
fi
store_after_power_cut
"$PENSTOCK" nvme unbind "$addr"
