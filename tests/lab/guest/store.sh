# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# A store on a device that is lost in every way: for the tests of the lab that have one. $DEVICE is its
# device string, and $PENSTOCK_STORE the store on it.

# Files that every boot makes the same.
make_files()
{
	mkdir -p /tmp/files/deep/er
	cp "$LAB_REPO"/src/nvme/*.[ch] /tmp/files
	cp "$LAB_REPO/$LAB_BUILD/src/cli/penstock" /tmp/files/deep
	seq 1000000 >/tmp/files/deep/er/numbers
	openssl enc -aes-128-ctr -k lab -nosalt -pbkdf2 -iter 1 </dev/zero 2>/dev/null |
		head -c 32M >/tmp/files/large || true
}

# same DIR: what is there is what was put.
same()
{
	rm -rf /tmp/back
	"$PENSTOCK" -q get -r "$1" /tmp/back
	diff -r /tmp/files /tmp/back
}

store_made()
{
	say "made"
	"$PENSTOCK" format "$DEVICE"
	"$PENSTOCK" container create t
	"$PENSTOCK" -q put -r /tmp/files t:/first
	same t:/first
	"$PENSTOCK" status
}

# store_killed COUNT
store_killed()
{
	local kills=0 delay_ms=1500 n=0

	say "killed while it writes"
	while [ "$kills" -lt "$1" ]; do
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
		"$PENSTOCK" fsck "$DEVICE"
		"$PENSTOCK" rm -r "t:/killed$n" || true
	done
	same t:/first
}

store_power_cut()
{
	say "switched off while it writes"
	"$PENSTOCK" -q put -r /tmp/files t:/second
	(
		while :; do
			"$PENSTOCK" -q put -r /tmp/files t:/more
			touch /tmp/more
			"$PENSTOCK" -q rm -r t:/more
		done
	) &
	wait_for "the first of what is written over and over" test -e /tmp/more
	sleep 1.5 # into the middle of another one
	power_cut_and_again
}

store_after_power_cut()
{
	say "after the power cut"
	"$PENSTOCK" fsck "$DEVICE"
	"$PENSTOCK" scrub
	same t:/first
	same t:/second
	"$PENSTOCK" -q put -r /tmp/files t:/third
	same t:/third
}
