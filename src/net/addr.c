/* SPDX-License-Identifier: BSD-3-Clause */
/* Addresses as text, and what can be told from them without asking anybody. */
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/un.h>

#include "net/net_int.h"

#define UNIX_PREFIX     "unix:"
#define ABSTRACT_PREFIX "unix-abstract:"
#define UNIX_PATH_MAX   (sizeof(((struct sockaddr_un *)0)->sun_path))

static struct sockaddr_in *as_v4(struct net_addr *a)
{
	return (struct sockaddr_in *)&a->sa;
}

static struct sockaddr_in6 *as_v6(struct net_addr *a)
{
	return (struct sockaddr_in6 *)&a->sa;
}

static int parse_port(const char *text, const char *whole, uint16_t *ret_port, struct pst_err *err)
{
	unsigned long n = 0;

	if (!*text || strlen(text) > 5)
		goto bad;
	for (const char *p = text; *p; p++) {
		if (*p < '0' || *p > '9')
			goto bad;
		n = 10 * n + (unsigned long)(*p - '0');
	}
	if (n > UINT16_MAX)
		goto bad;
	*ret_port = (uint16_t)n;
	return 0;
bad:
	return err_set(err, -EINVAL, "'%s': '%s' is no port (0 to 65535)", whole, text);
}

/* Where the host ends in "[V6]...", or NULL. */
static const char *bracket_end(const char *text)
{
	const char *end = strchr(text, ']');

	return end && (end[1] == '\0' || end[1] == ':') ? end : NULL;
}

int addr_split(const char *text, uint16_t default_port, char *ret_host, uint16_t *ret_port,
               struct pst_err *err)
{
	const char *host = text, *end, *port;
	uint16_t n = default_port;
	int r;

	if (*text == '[') {
		host++;
		end = bracket_end(text);
		if (!end)
			return err_set(err, -EINVAL, "'%s': '[' without ']' or ']:PORT'", text);
		port = end[1] ? end + 1 : NULL;
	} else {
		port = strchr(text, ':');
		if (port && strchr(port + 1, ':'))
			return err_set(err, -EINVAL,
			               "'%s': an IPv6 address needs brackets: [%s]:PORT", text,
			               text);
		end = port ? port : text + strlen(text);
	}
	if (end == host)
		return err_set(err, -EINVAL, "'%s': no host (HOST:PORT)", text);
	if ((size_t)(end - host) >= NET_HOST_BYTES_MAX)
		return err_set(err, -EINVAL, "the host's name is longer than %llu bytes",
		               (unsigned long long)(NET_HOST_BYTES_MAX - 1));
	if (!port && !default_port)
		return err_set(err, -EINVAL, "'%s': no port (HOST:PORT)", text);
	if (port) {
		r = parse_port(port + 1, text, &n, err);
		if (r)
			return r;
	}
	memcpy(ret_host, host, (size_t)(end - host));
	ret_host[end - host] = '\0';
	*ret_port = n;
	return 0;
}

static int parse_unix(struct net_addr *ret_addr, const char *name, bool abstract,
                      struct pst_err *err)
{
	struct net_addr a = {0};
	struct sockaddr_un *un = (struct sockaddr_un *)&a.sa;
	size_t len = strlen(name);

	if (!len)
		return err_set(err, -EINVAL, "a unix socket without a %s",
		               abstract ? "name" : "path");
	if (len >= UNIX_PATH_MAX)
		return err_set(err, -EINVAL,
		               "'%s' is too long for a unix socket: %zu bytes, limit %zu", name,
		               len, UNIX_PATH_MAX - 1);
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path + abstract, name, len);
	/* A path has its NUL; an abstract name is what stands behind a NUL, up to the length. */
	a.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
	*ret_addr = a;
	return 0;
}

/* "fe80::1%eth0" too. */
static bool parse_v6(struct net_addr *a, const char *host)
{
	char text[NET_HOST_BYTES_MAX];
	struct sockaddr_in6 *in6 = as_v6(a);
	char *scope;

	memcpy(text, host, strlen(host) + 1);
	scope = strchr(text, '%');
	if (scope)
		*scope++ = '\0';
	if (inet_pton(AF_INET6, text, &in6->sin6_addr) != 1)
		return false;
	if (scope) {
		in6->sin6_scope_id = if_nametoindex(scope);
		if (!in6->sin6_scope_id)
			return false;
	}
	in6->sin6_family = AF_INET6;
	a->len = sizeof(*in6);
	return true;
}

static bool parse_numeric(struct net_addr *a, const char *host, uint16_t port)
{
	if (!strcmp(host, "*")) {
		as_v4(a)->sin_addr.s_addr = htonl(INADDR_ANY);
	} else if (inet_pton(AF_INET, host, &as_v4(a)->sin_addr) != 1) {
		if (!parse_v6(a, host))
			return false;
		as_v6(a)->sin6_port = htons(port);
		return true;
	}
	as_v4(a)->sin_family = AF_INET;
	as_v4(a)->sin_port = htons(port);
	a->len = sizeof(struct sockaddr_in);
	return true;
}

int net_addr_parse(struct net_addr *ret_addr, const char *text, uint16_t default_port,
                   struct pst_err *err)
{
	char host[NET_HOST_BYTES_MAX];
	struct net_addr a = {0};
	uint16_t port;
	int r;

	if (!strncmp(text, UNIX_PREFIX, strlen(UNIX_PREFIX)))
		return parse_unix(ret_addr, text + strlen(UNIX_PREFIX), false, err);
	if (!strncmp(text, ABSTRACT_PREFIX, strlen(ABSTRACT_PREFIX)))
		return parse_unix(ret_addr, text + strlen(ABSTRACT_PREFIX), true, err);
	r = addr_split(text, default_port, host, &port, err);
	if (r)
		return r;
	/* Brackets are for IPv6 alone. */
	if ((*text != '[' || strchr(host, ':')) && parse_numeric(&a, host, port)) {
		*ret_addr = a;
		return 0;
	}
	if (*text == '[')
		return err_set(err, -EINVAL, "'%s': '%s' is no IPv6 address", text, host);
	return err_set(err, -EDESTADDRREQ, "'%s' is a name, not a numeric address", host);
}

static void print_unix(const struct net_addr *addr, char *buf, size_t buf_len)
{
	const struct sockaddr_un *un = (const struct sockaddr_un *)&addr->sa;
	size_t len = addr->len - MIN(addr->len, offsetof(struct sockaddr_un, sun_path));

	if (len > 1 && !un->sun_path[0])
		snprintf(buf, buf_len, ABSTRACT_PREFIX "%.*s", (int)(len - 1), un->sun_path + 1);
	else
		snprintf(buf, buf_len, UNIX_PREFIX "%.*s", (int)len, un->sun_path);
}

char *net_addr_print(const struct net_addr *addr, char *buf, size_t buf_len)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)&addr->sa;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&addr->sa;
	char host[INET6_ADDRSTRLEN] = "?", scope[IF_NAMESIZE + 1] = "";

	switch (addr->sa.ss_family) {
	case AF_UNIX:
		print_unix(addr, buf, buf_len);
		break;
	case AF_INET:
		inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
		snprintf(buf, buf_len, "%s:%u", host, ntohs(in->sin_port));
		break;
	case AF_INET6:
		inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
		if (in6->sin6_scope_id && if_indextoname(in6->sin6_scope_id, scope + 1))
			scope[0] = '%';
		snprintf(buf, buf_len, "[%s%s]:%u", host, scope, ntohs(in6->sin6_port));
		break;
	default:
		snprintf(buf, buf_len, "an address of family %u", (unsigned)addr->sa.ss_family);
		break;
	}
	return buf;
}

bool net_addr_is_loopback(const struct net_addr *addr)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)&addr->sa;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&addr->sa;

	switch (addr->sa.ss_family) {
	case AF_UNIX:
		return true;
	case AF_INET:
		return ntohl(in->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	case AF_INET6:
		return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr) ||
		       (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr) &&
		        in6->sin6_addr.s6_addr[12] == IN_LOOPBACKNET);
	default:
		return false;
	}
}

bool net_addr_is_unix(const struct net_addr *addr)
{
	return addr->sa.ss_family == AF_UNIX;
}

uint16_t net_addr_port(const struct net_addr *addr)
{
	switch (addr->sa.ss_family) {
	case AF_INET:
		return ntohs(((const struct sockaddr_in *)&addr->sa)->sin_port);
	case AF_INET6:
		return ntohs(((const struct sockaddr_in6 *)&addr->sa)->sin6_port);
	default:
		return 0;
	}
}
