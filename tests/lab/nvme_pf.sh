# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# A whole NVMe controller of QEMU's: taken from the kernel's driver and given back, and driven in
# between behind the IOMMU, with verified random I/O, by PRPs and SGLs, polled and by interrupts, on
# several queues, and with resets while commands are under way.
load nvme
wait_for "the controller" test -e /sys/class/nvme/nvme0/address
addr=$(nvme_address lab0)

say "what can't be taken is refused"
refused "no such PCI function" "$PENSTOCK" nvme bind 0000:77:00.0
refused "no NVMe controller" "$PENSTOCK" nvme bind 0000:00:00.0
refused "modprobe vfio-pci" "$PENSTOCK" nvme bind "$addr"
load vfio-pci dm-mod
wait_for "the namespace" test -b /dev/nvme0n1
refused "penstock nvme bind" "$PENSTOCK" perf "nvme:$addr" --rw randread --runtime 1
mkfs.ext4 -q /dev/nvme0n1
load ext4
mount /dev/nvme0n1 /mnt
refused "mounted on /mnt" "$PENSTOCK" nvme bind "$addr"
umount /mnt
mkswap -q /dev/nvme0n1
swapon /dev/nvme0n1
refused "/dev/nvme0n1 is swap" "$PENSTOCK" nvme bind /dev/nvme0n1
swapoff /dev/nvme0n1
printf 'label: gpt\nsize=64M\nsize=64M\n' | sfdisk -q --wipe always /dev/nvme0n1
wait_for "the partition" test -b /dev/nvme0n1p2
mkfs.ext4 -q /dev/nvme0n1p2
mount /dev/nvme0n1p2 /mnt
refused "/dev/nvme0n1p2 is mounted on /mnt" "$PENSTOCK" nvme bind /dev/nvme0
umount /mnt
tail -f /dev/null 3</dev/nvme0n1p1 &
refused "process $! (tail) has /dev/nvme0n1 open" "$PENSTOCK" nvme bind /dev/nvme0
kill $!
wait $! || true
python3 - <<'EOF' &
import os, time
os.open("/dev/nvme0n1p1", os.O_RDONLY | os.O_EXCL)
open("/tmp/held", "w")
time.sleep(100)
EOF
wait_for "the exclusive open" test -e /tmp/held
refused "/dev/nvme0n1 is busy" "$PENSTOCK" nvme bind /dev/nvme0
kill $!
wait $! || true
[ -b /dev/nvme0n1 ] || fail "the kernel has lost it, though it was refused"

say "taken"
dd if=/dev/zero of=/dev/nvme0n1 bs=1M count=2 oflag=direct status=none
blockdev --rereadpt /dev/nvme0n1
"$PENSTOCK" nvme bind /dev/nvme0n1
[ ! -b /dev/nvme0n1 ] || fail "the kernel still has the namespace"
"$PENSTOCK" nvme bind "nvme:$addr" # once more is no error

say "driven"
perf()
{
	local device=$1 said
	shift
	said=$("$PENSTOCK" perf "nvme:$addr$device" --rw randrw --verify --force --runtime 1 "$@" 2>&1) || fail "$said"
	echo "$said"
	[[ $said == *" 0 wrong"* && $said != *"verified 0 reads"* ]] || fail "nothing was verified"
}
perf "" --iosize 512 --qdepth 64 --batch 8
perf "?sgl=0" --iosize 64k --size 64m
perf "?sgl=1" --iosize 128k --size 64m --queues 4
perf "?interrupts=1" --queues 3 --iosize 4k
perf "?entries=2" --qdepth 1
perf "" --queues 2 --reset-every 20
perf "?interrupts=1&sgl=0" --queues 8 --qdepth 16 --iosize 16k --reset-every 30

say "one process at a time"
"$PENSTOCK" perf "nvme:$addr" --rw randread --runtime 600 >/dev/null &
wait_for "the group to be in use" bash -c "grep -q vfio /proc/$!/maps"
refused "in use by another process" "$PENSTOCK" perf "nvme:$addr" --rw randread --runtime 1
refused "in use by another process" "$PENSTOCK" nvme unbind "$addr"
kill $!
wait $! || true

say "killed with commands under way: usable again at once"
for _ in 1 2 3; do
	: >/tmp/said
	"$PENSTOCK" perf "nvme:$addr" --rw randrw --force --verify --iosize 64k --qdepth 64 --runtime 600 \
		--progress 2>/tmp/said &
	at_work /tmp/said
	kill -9 $!
	wait $! || true
	perf "" --runtime 0.2
done

say "given back"
"$PENSTOCK" nvme unbind "$addr"
wait_for "the kernel's namespace" test -b /dev/nvme0n1
dd if=/dev/nvme0n1 of=/dev/null bs=1M count=16 iflag=direct status=none
"$PENSTOCK" nvme unbind "$addr" # once more is no error
if dmesg | grep -i "dmar.*fault"; then
	fail "the device reached for memory that it was not given"
fi
