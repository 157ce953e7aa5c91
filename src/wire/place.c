/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * place - addresses of servers, as people write them, and the sockets beside them.
 */
#include "wire/place.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "wire/wire.h"

bool wire_place_socket(char *buf, size_t len, bool system, const char *port)
{
	const char *dir = getenv("XDG_RUNTIME_DIR");
	int n;

	if (system)
		n = snprintf(buf, len, "/run/penstock/%s.sock", port);
	else if (dir && dir[0] == '/')
		n = snprintf(buf, len, "%s/penstock/%s.sock", dir, port);
	else
		n = snprintf(buf, len, "/tmp/penstock-%u/%s.sock", (unsigned)geteuid(), port);
	return n > 0 && (size_t)n < len && n < WIRE_PLACE_MAX;
}

bool wire_place_control(char *buf, size_t len, const char *socket)
{
	size_t keep = strlen(socket);
	int n;

	if (keep > 5 && !strcmp(socket + keep - 5, ".sock"))
		keep -= 5;
	n = snprintf(buf, len, "%.*s.control", (int)keep, socket);
	return n > 0 && (size_t)n < len && n < WIRE_PLACE_MAX;
}

static int folder_of(char *dir, size_t len, const char *socket)
{
	const char *slash = strrchr(socket, '/');

	if (!slash || slash == socket || (size_t)(slash - socket) >= len)
		return -EINVAL;
	memcpy(dir, socket, (size_t)(slash - socket));
	dir[slash - socket] = 0;
	return 0;
}

/* A folder in /tmp that somebody else made is none to put a socket in, or to look for one. */
static int folder_check(const char *dir)
{
	struct stat st;

	if (lstat(dir, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	return st.st_uid == geteuid() && !(st.st_mode & 022) ? 0 : -EPERM;
}

int wire_place_folder(const char *socket, bool system)
{
	char dir[WIRE_PLACE_MAX];
	int rc = folder_of(dir, sizeof(dir), socket);

	if (rc < 0)
		return rc;
	if (mkdir(dir, system ? 0755 : 0700) < 0 && errno != EEXIST)
		return -errno;
	return folder_check(dir);
}

int wire_place_trust(const char *socket)
{
	char dir[WIRE_PLACE_MAX];
	int rc = folder_of(dir, sizeof(dir), socket);

	return rc < 0 ? rc : folder_check(dir);
}

bool wire_place_is_loopback(const char *host)
{
	struct in_addr v4;

	/* Of the names only this one: "127.example.org" may be anywhere. */
	return !strcmp(host, "localhost") || !strcmp(host, "::1") ||
	       (!strncmp(host, "127.", 4) && inet_pton(AF_INET, host, &v4) == 1);
}

static int copy(char *to, size_t to_len, const char *from, size_t len)
{
	if (len >= to_len)
		return -ENAMETOOLONG;
	memcpy(to, from, len);
	to[len] = 0;
	return 0;
}

int wire_place_split(const char *text, char *host, size_t host_len, char *port, size_t port_len)
{
	const char *end, *rest;
	int rc;

	if (text[0] == '[') {
		end = strchr(++text, ']');
		if (!end || (end[1] && end[1] != ':'))
			return -EINVAL;
		rest = end + 1;
	} else {
		end = rest = strchrnul(text, ':');
		if (*rest && strchr(rest + 1, ':'))
			return -EINVAL; /* an IPv6 address without brackets */
	}
	if (*rest && (!rest[1] || strspn(rest + 1, "0123456789") != strlen(rest + 1)))
		return -EINVAL;
	rc = end == text ? copy(host, host_len, "127.0.0.1", 9)
	                 : copy(host, host_len, text, (size_t)(end - text));
	if (rc < 0)
		return rc;
	return *rest ? copy(port, port_len, rest + 1, strlen(rest + 1))
	             : copy(port, port_len, WIRE_PORT, strlen(WIRE_PORT));
}

int wire_place_ofi_port(char *buf, size_t len, const char *port)
{
	unsigned long n = strtoul(port, NULL, 10);

	if (n + WIRE_PLACE_OFI > UINT16_MAX)
		return -EINVAL;
	return (size_t)snprintf(buf, len, "%lu", n ? n + WIRE_PLACE_OFI : 0) < len ? 0
	                                                                           : -ENAMETOOLONG;
}
