# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# The machines of the lab: machine_NAME DIR prints QEMU's arguments, one on each line, on top of what
# every machine has. Disks are files in DIR, made anew for each test and kept over its boots.

# image DIR NAME SIZE
image()
{
	[ -f "$1/$2" ] || truncate -s "$3" "$1/$2"
}

machine_plain()
{
	:
}

# One NVMe controller with one namespace, behind a root port that it can be pulled from.
machine_nvme()
{
	image "$1" nvme0.img 1G
	printf '%s\n' -device pcie-root-port,id=rp0,chassis=1,slot=1 \
		-drive "file=$1/nvme0.img,if=none,id=d0,format=raw,discard=unmap" \
		-device nvme,serial=lab0,id=nv0,bus=rp0,drive=d0,max_ioqpairs=8,msix_qsize=9,mdts=5
}

# Two of them, in slots whose hot-plug is PCI Express's own and not ACPI's.
machine_nvme2()
{
	machine_nvme "$1"
	image "$1" nvme1.img 1G
	printf '%s\n' -global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off \
		-device pcie-root-port,id=rp1,chassis=2,slot=2 \
		-drive "file=$1/nvme1.img,if=none,id=d1,format=raw,discard=unmap" \
		-device nvme,serial=lab1,id=nv1,bus=rp1,drive=d1,max_ioqpairs=8,msix_qsize=9,mdts=5
}

# Two subsystems, each with a namespace that stays when its controller is taken out (device_del) and
# put back (device_add); hot-plug is ACPI's.
machine_nvme_hot()
{
	local n
	for n in 0 1; do
		image "$1" "nvme$n.img" 1G
		printf '%s\n' -device "pcie-root-port,id=rp$n,chassis=$n,slot=$n" \
			-blockdev "driver=file,filename=$1/nvme$n.img,node-name=d$n" \
			-device "nvme-subsys,id=ss$n" \
			-device "nvme,serial=lab$n,id=nv$n,bus=rp$n,subsys=ss$n,max_ioqpairs=8,msix_qsize=9" \
			-device "nvme-ns,drive=d$n,bus=nv$n,nsid=1,shared=true"
	done
}

# One NVMe controller that has two virtual functions, and a namespace that all of them share.
machine_sriov()
{
	image "$1" nvme0.img 256M
	printf '%s\n' -device pcie-root-port,id=rp0,chassis=1,slot=1 \
		-drive "file=$1/nvme0.img,if=none,id=d0,format=raw,discard=unmap" \
		-device nvme-subsys,id=ss0 \
		-device nvme,serial=lab0,id=nv0,bus=rp0,subsys=ss0,sriov_max_vfs=2,sriov_vq_flexible=4,sriov_vi_flexible=2,max_ioqpairs=8,msix_qsize=8 \
		-device nvme-ns,drive=d0,nsid=1,shared=true
}
