# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# A store on QEMU's NVMe through our driver: files in and out, the process killed while it writes, and
# the machine switched off while it writes.
load nvme vfio-pci
wait_for 10 "the controller" test -e /sys/class/nvme/nvme0/address
addr=$(nvme_address lab0)
"$PENSTOCK" nvme bind "$addr"
export PENSTOCK_STORE="local:nvme:$addr?interrupts=1"

# Files that every boot makes the same.
make_files()
{
	mkdir -p /tmp/files/deep/er
	cp "$LAB_REPO"/src/nvme/*.[ch] /tmp/files
	cp "$LAB_REPO/build/src/cli/penstock" /tmp/files/deep
	seq 1000000 >/tmp/files/deep/er/numbers
	openssl enc -aes-128-ctr -k lab -nosalt -pbkdf2 -iter 1 </dev/zero 2>/dev/null |
		head -c 32M >/tmp/files/large || true
}

same()
{
	rm -rf /tmp/back
	"$PENSTOCK" -q get -r "$1" /tmp/back
	diff -r /tmp/files /tmp/back
}

make_files
if [ "$LAB_BOOT" = 1 ]; then
	say "made"
	"$PENSTOCK" format "nvme:$addr"
	"$PENSTOCK" container create t
	"$PENSTOCK" -q put -r /tmp/files t:/first
	same t:/first
	"$PENSTOCK" status

	say "killed while it writes"
	kills=0 delay_ms=1500 n=0
	while [ "$kills" -lt 3 ]; do
		n=$((n + 1))
		[ "$n" -lt 20 ] || fail "it is done too soon, always"
		"$PENSTOCK" -q put -r /tmp/files "t:/killed$n" &
		sleep "$((delay_ms / 1000)).$((delay_ms % 1000 / 100))"
		if kill -9 $!; then
			kills=$((kills + 1)) delay_ms=$((delay_ms + 300))
		else
			delay_ms=$((delay_ms / 2))
		fi
		wait $! || true
		"$PENSTOCK" fsck "nvme:$addr"
		"$PENSTOCK" rm -r "t:/killed$n" || true
	done
	same t:/first

	say "switched off while it writes"
	"$PENSTOCK" -q put -r /tmp/files t:/second
	(
		while :; do
			"$PENSTOCK" -q put -r /tmp/files t:/more
			"$PENSTOCK" -q rm -r t:/more
		done
	) &
	sleep 4
	power_cut_and_again
fi

say "after the power cut"
"$PENSTOCK" fsck "nvme:$addr"
"$PENSTOCK" scrub
same t:/first
same t:/second
"$PENSTOCK" -q put -r /tmp/files t:/third
same t:/third
"$PENSTOCK" nvme unbind "$addr"
