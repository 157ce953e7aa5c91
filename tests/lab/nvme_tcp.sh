# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Our NVMe/TCP target under Linux's nvme-tcp with stock nvme-cli, and our host on Linux's nvmet.
load nvme-tcp nvmet nvmet-tcp xfs
nqn=nqn.2026-11.io.penstock:lab
export PENSTOCK_RUN_DIR=/tmp/run

say "our target"
"$PENSTOCK" -v nvme target 'mem:320m?block=512' 'mem:64m?block=4096' --listen tcp://127.0.0.1:4420 \
	--listen tcp://127.0.0.1:4421 --nqn $nqn --control lab --ana 2:1=non-optimized >target.out 2>&1 &
target=$!
wait_for "the target" grep -q ready target.out
nvme discover -t tcp -a 127.0.0.1 -s 4420 --hostnqn nqn.lab:host --hostid 11111111-2222-3333-4444-555555555555 | tee log
[ "$(grep -c "subnqn:.*$nqn" log)" = 2 ] || fail "two entries"

# disk NSID: the kernel numbers its disks in the order in which it finds them, which may be any.
disk()
{
	local d dev
	for d in /sys/class/nvme-subsystem/nvme-subsys*/nvme*n*; do
		dev=/dev/$(basename "$d")
		[ -b "$dev" ] && [ "$(cat "$d/nsid")" = "$1" ] && echo "$dev" && return
	done
	return 1
}

say "all that discovery names"
nvme connect-all -t tcp -a 127.0.0.1 -s 4420 --hostnqn nqn.lab:host --hostid 11111111-2222-3333-4444-555555555555
wait_for "a namespace" disk 1
wait_for "its device" test -b "$(disk 1)"
nvme list-subsys | tee log
[ "$(grep -c 'traddr=127.0.0.1.*trsvcid=442[01]' log)" = 2 ] || fail "connect-all: two paths"
nvme disconnect -n $nqn

# connect PORT OPTION...
connect()
{
	local port=$1
	shift
	nvme connect -t tcp -a 127.0.0.1 -s "$port" -n $nqn --hostnqn nqn.lab:host \
		--hostid 11111111-2222-3333-4444-555555555555 -i 2 "$@"
}

for options in "" "--hdr-digest" "--hdr-digest --data-digest"; do
	say "Linux connects: $options"
	# shellcheck disable=SC2086 # words
	connect 4420 $options
	wait_for "a namespace" disk 1
	dev=$(disk 1)
	wait_for "its device" test -b "$dev"
	head -c 24M /dev/urandom >data
	dd if=data of="$dev" bs=1M oflag=direct status=none
	dd if="$dev" bs=64k count=384 iflag=direct status=none | cmp - data
	fio --name=v --filename="$dev" --rw=randrw --bs=4k-64k --direct=1 --size=16m --iodepth=8 \
		--ioengine=libaio --verify=crc32c --verify_fatal=1 --output=fio.out || { cat fio.out; fail fio; }
	nvme disconnect -n $nqn
done

say "a file system, and trim"
connect 4420 --data-digest
wait_for "a namespace" disk 1
dev=$(disk 1)
wait_for "its device" test -b "$dev"
nvme id-ctrl "${dev%n*}" | head -n 12
nvme smart-log "$dev" >/dev/null
mkfs.xfs -q "$dev" # which wants 300 MiB
mount "$dev" /mnt
cp "$LAB_REPO"/src/nvme/*.c /mnt
sync
fstrim -v /mnt
umount /mnt
mount "$dev" /mnt
for f in "$LAB_REPO"/src/nvme/*.c; do
	cmp "$f" "/mnt/$(basename "$f")"
done
umount /mnt

say "ANA: a second path, and failover"
connect 4421
nvme list-subsys
before=$(sent 1) other=$(sent 2)
fio --name=v --filename="$dev" --rw=randrw --bs=4k --direct=1 --size=8m --iodepth=4 --ioengine=libaio \
	--verify=crc32c --verify_fatal=1 --time_based --runtime=600 --output=fio.out &
fio=$!
wait_for "fio's I/O" commands 1 $((before + 200))
"$PENSTOCK" nvme ana lab 1:1=inaccessible 2:1=optimized
wait_for "the state in list-subsys" bash -c "nvme list-subsys $dev | grep -q inaccessible"
nvme list-subsys "$dev"
wait_for "I/O by the other path" commands 2 $((other + 200))
kill -INT $fio # 128: it was told to end
status=0
wait $fio || status=$?
if [ $status != 128 ] || ! grep -q "err= 0" fio.out; then
	fail "an error in failover, $status: $(cat fio.out)"
fi
nvme disconnect -n $nqn
kill $target
wait $target

say "our host, on Linux's nvmet"
mount -t configfs configfs /sys/kernel/config 2>/dev/null || true
truncate -s 128M nvmet.img
loop=$(losetup -f --show nvmet.img 2>/dev/null) || loop=
base=/sys/kernel/config/nvmet
mkdir -p $base/subsystems/$nqn/namespaces/1 $base/ports/1
echo 1 >$base/subsystems/$nqn/attr_allow_any_host
echo -n "${loop:-$PWD/nvmet.img}" >$base/subsystems/$nqn/namespaces/1/device_path
echo 1 >$base/subsystems/$nqn/namespaces/1/enable
echo tcp >$base/ports/1/addr_trtype
echo ipv4 >$base/ports/1/addr_adrfam
echo 127.0.0.1 >$base/ports/1/addr_traddr
echo 4425 >$base/ports/1/addr_trsvcid
ln -s $base/subsystems/$nqn $base/ports/1/subsystems/$nqn
"$PENSTOCK" nvme discover tcp://127.0.0.1:4425
for options in "" "?hdgst=1&ddgst=1"; do
	"$PENSTOCK" nvme list "nvme+tcp://127.0.0.1:4425/$nqn$options"
	"$PENSTOCK" perf "nvme+tcp://127.0.0.1:4425/$nqn$options" --rw randrw --verify --runtime 3 \
		--force --size 24m --qdepth 8
	"$PENSTOCK" perf "nvme+tcp://127.0.0.1:4425/$nqn$options" --rw randrw --verify --runtime 2 \
		--force --size 24m --qdepth 4 --iosize 128k
done
