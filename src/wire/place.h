/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * place - where servers are found: the unix sockets beside a port.
 */
#ifndef WIRE_PLACE_H
#define WIRE_PLACE_H

#include <stdbool.h>
#include <stddef.h>

#define WIRE_PLACE_MAX 108 /* what a socket's address holds */

/*
 * The unix socket of the server at @port: of the system's, in /run/penstock, or of this user's own,
 * in $XDG_RUNTIME_DIR/penstock (or /tmp/penstock-UID). False: it does not fit.
 */
bool wire_place_socket(char *buf, size_t len, bool system, const char *port);
/* The control plane's, beside @socket: ".control" in the place of ".sock", or behind it all. */
bool wire_place_control(char *buf, size_t len, const char *socket);
/* Makes the folder that the socket lies in, for us alone (the system's: for all to enter). 0 or
 * -errno. */
int wire_place_folder(const char *socket, bool system);
/*
 * May what listens at @socket be shown secrets? For the user's own socket (wire_place_socket(), not the
 * system's, whose folder only root can make): 0 if its folder is ours and nobody else can put anything there.
 * -EPERM: it is another's, who got there first; -ENOENT: there is none; another -errno.
 */
int wire_place_trust(const char *socket);
/* Does @host name this machine's loopback? */
bool wire_place_is_loopback(const char *host);
/*
 * Splits "HOST:PORT", "HOST", "[V6]:PORT" or ":PORT". 0; -EINVAL; -ENAMETOOLONG. An absent host is
 * "127.0.0.1", an absent port WIRE_PORT.
 */
int wire_place_split(const char *text, char *ret_host, size_t host_len, char *ret_port,
                     size_t port_len);

#define WIRE_PLACE_OFI 2 /* ports above */
/*
 * The port where the channel ofi listens for the server at @port: two above, since the next one is the
 * control plane's. "0" for "0". -EINVAL: there is none.
 */
int wire_place_ofi_port(char *buf, size_t len, const char *port);

#endif
