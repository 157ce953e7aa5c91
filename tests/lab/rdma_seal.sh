# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# A sealed channel on RDMA: a server at an address that others can reach, without TLS and without --insecure, over
# verbs on soft-RoCE. Who holds a capability's token uses its store, every byte verified, payloads that RDMA
# moves included; who has none, a wrong one, or one that was revoked is refused.
"$PENSTOCK" serve --check --channels ofi:tcp mem:64m || skip "this build has no libfabric"
rdma_up
unset FI_UNIVERSE_SIZE FI_OFI_RXM_USE_SRX PENSTOCK_TOKEN
fi_info -p 'verbs;ofi_rxm' -t FI_EP_RDM >/dev/null || fail "no verbs;ofi_rxm"

say "a server that takes sealed channels only"
"$PENSTOCK" serve mem:192m --listen "$RDMA_ADDR:7440" --socket /tmp/seal.sock --channels pipe,tcp,ofi:verbs \
	--audit-log /tmp/audit >server 2>log &
server=$!
wait_for "the server" grep -q serving server
grep -q "(ofi+sealed)" server || fail "$(cat server)"
owner="pst://localhost:7440?channel=pipe&socket=/tmp/seal.sock"
"$PENSTOCK" -s "$owner" container create a --layout object
token=$("$PENSTOCK" -q -s "$owner" capability grant a --rights all --control unix:/tmp/seal.control)
[[ $token == pst1* ]] || skip "this build has no gRPC: $token"
at="pst://$RDMA_ADDR:7440?channel=ofi:verbs&connect=$PATIENCE"

say "used by who has the token"
export PENSTOCK_TOKEN=$token
"$PENSTOCK" -s "$at" status | tee status
grep -q "channel *ofi" status || fail "another channel"
grep -q "sealed *aes-256-gcm" status || fail "not sealed"
"$PENSTOCK" -s "$at" bench --container a --rw randrw --bs 4k --iodepth 32 --size 8m --runtime 3 --verify
"$PENSTOCK" -s "$at" bench --container a --rw write --bs 1m --iodepth 4 --size 8m --runtime 3 --verify
"$PENSTOCK" -s "$at" bench --container a --rw randread --bs 256k --iodepth 8 --size 8m --runtime 3 --verify

"$PENSTOCK" -s "pst://$RDMA_ADDR:7440?socket=/nowhere&connect=$PATIENCE" status | tee status
grep -q "channel *ofi:verbs" status || fail "RDMA was not found"
grep -q "sealed *aes-256-gcm" status || fail "not sealed"

say "and by nobody else"
unset PENSTOCK_TOKEN
refused "has to be sealed" "$PENSTOCK" -s "$at" status
changed=A
[ "${token:44:1}" = A ] && changed=B
wrong=${token:0:44}$changed${token:45}
refused "not one of this store's" "$PENSTOCK" -s "$at&token=$wrong" status
refused "others can read this channel" "$PENSTOCK" -s "$at&token=$token&seal=off" status
refused "has to be sealed" "$PENSTOCK" -s "$at&token=$token&insecure=yes" status
grep -q EBADF /tmp/audit || fail "the wrong token is not in the audit log: $(cat /tmp/audit)"
"$PENSTOCK" -s "$owner" capability revoke 2 --control unix:/tmp/seal.control
refused "revoked" "$PENSTOCK" -s "$at&token=$token" status

say "nothing that was refused has harmed it"
"$PENSTOCK" -s "$owner" status >/dev/null
kill "$server"
wait "$server" || fail "the server ended badly: $(cat log)"
