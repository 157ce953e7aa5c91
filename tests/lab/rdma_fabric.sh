# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# The channel ofi on RDMA: the contract suite of channels over verbs on soft-RoCE, with the limits of
# its queues; then a served store and a client, every byte verified. Nothing is set in the environment
# that a user would not set. What it measures is whether it is right, not how fast.
"$PENSTOCK" serve --check --channels ofi:tcp mem:64m || skip "this build has no libfabric"
rdma_up
unset FI_UNIVERSE_SIZE FI_OFI_RXM_USE_SRX
export PST_OFI_PROVIDER=verbs PST_OFI_HOST=$RDMA_ADDR PST_ROUND_STEP=3
tests=$LAB_REPO/$LAB_BUILD/tests/unit
fi_info -p 'verbs;ofi_rxm' -t FI_EP_RDM >/dev/null || fail "no verbs;ofi_rxm"

say "the contract of channels"
# Sixty pairs of endpoints don't fit in this machine: each has tens of MiB inside of ofi_rxm.
timeout 900 "$tests/test_fabric" ofi '*' '*many_channels' >contract 2>&1 || {
	grep -v '^\[ *OK' contract | tail -n 30
	fail "the contract"
}
grep -E 'test\(s\)' contract

say "a store, served and used over RDMA"
"$PENSTOCK" serve mem:192m --listen "$RDMA_ADDR:7440" --channels tcp,ofi:verbs --insecure >server 2>&1 &
server=$!
wait_for "the server" grep -q serving server
there="pst://$RDMA_ADDR:7440?channel=ofi:verbs"
at="$there&connect=$PATIENCE"
"$PENSTOCK" -s "$at" status | tee status
grep -q "channel *ofi" status || fail "another channel"
"$PENSTOCK" -s "$at" bench --container a --create --rw randrw --bs 4k --iodepth 32 --size 8m --runtime 3 --verify
"$PENSTOCK" -s "$at" bench --container b --create --rw write --bs 1m --iodepth 4 --size 32m --runtime 3 --verify
"$PENSTOCK" -s "$at" bench --container c --create --rw randread --bs 256k --iodepth 8 --size 32m --runtime 3 --verify

say "RDMA is found by who does not name it"
chosen="pst://$RDMA_ADDR:7440?connect=$PATIENCE" # there is no pipe
"$PENSTOCK" -s "$chosen" status --json >choice
grep -q '"channel": *"ofi:verbs ' choice || fail "not RDMA: $(cat choice)"
"$PENSTOCK" -s "$chosen" bench --container d --create --rw randrw --bs 4k --iodepth 8 --size 8m --runtime 2 --verify
FI_PROVIDER=tcp "$PENSTOCK" -s "$chosen" status >choice 2>said
grep -q "channel *tcp " choice || fail "neither RDMA nor tcp: $(cat choice said)"
grep -q "NOT THE FIRST CHOICE" choice || fail "a slower path without a word: $(cat choice)"
grep -q "connected over tcp and not over ofi, which is better" said || fail "no warning: $(cat said)"

say "a server that is killed is noticed"
kill -9 "$server"
refused "connect" "$PENSTOCK" -s "$there" status
