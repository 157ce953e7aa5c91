# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# The lab itself: the kernel is the one that was unpacked, its modules load, the kernel can ask for
# them, the root can't be written, what is needed of the IOMMU is there, and our program runs.
[ "$(uname -r)" = "$(ls "$LAB_TREE/lib/modules")" ] || fail "kernel $(uname -r)"
load nvme vfio-pci
[ -c /dev/vfio/vfio ] || fail "no /dev/vfio/vfio"
if touch "$LAB_REPO/written" 2>/dev/null; then
	fail "the host's file system can be written"
fi
modprobe -d "$LAB_TREE" configfs
mount -t configfs configfs /sys/kernel/config
if [ -d /sys/class/block/loop0 ]; then
	fail "the loop driver is there before it was asked for"
fi
[ -n "$(ls /sys/class/iommu)" ] || fail "no IOMMU"
"$PENSTOCK" version
"$PENSTOCK" perf nvme+loop:mem:16m --rw randrw --verify --runtime 0.5 --force
