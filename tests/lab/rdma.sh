# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# The soft-RoCE of the lab, as tests of RDMA find it: verbs between two processes, and libfabric over
# them: small messages, and large ones, whose data the receiver reads from the sender; all checked.
rdma_up
export FI_UNIVERSE_SIZE=16

# both PORT CLIENT_ARGS... -- COMMAND...: a server, which listens at the TCP port PORT for who comes, and
# a client of it with more arguments.
both()
{
	local args=() server port=$1
	shift
	while [ "$1" != -- ]; do
		args+=("$1")
		shift
	done
	shift
	"$@" >/tmp/server 2>&1 &
	server=$!
	wait_for "the server" bash -c "ss -Hltn 'sport = :$port' | grep -q LISTEN"
	timeout "$PATIENCE" "$@" "${args[@]}" || fail "the client ended badly; the server: $(cat /tmp/server)"
	wait "$server" || fail "the server ended badly: $(cat /tmp/server)"
}

say "verbs"
ibv_devinfo -d rxe0 | grep -E "state|transport"
both 18515 "$RDMA_ADDR" -- timeout "$PATIENCE" ibv_rc_pingpong -d rxe0 -g 1 -n 200 -c

say "libfabric"
fi_info -p 'verbs;ofi_rxm' -t FI_EP_RDM | grep -m 3 -E "provider|fabric|domain"
both 47592 "$RDMA_ADDR" -- timeout "$PATIENCE" fi_pingpong -p 'verbs;ofi_rxm' -e rdm -c -I 50 -S 4096
both 47592 "$RDMA_ADDR" -- timeout "$PATIENCE" fi_pingpong -p 'verbs;ofi_rxm' -e rdm -c -I 20 -S 262144
