/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check - what can be said of a server's options before anything is opened.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/stack.h"
#include "net/net.h"
#include "server/server.h"
#include "wire/place.h"

/* --- addresses --- */

/* Has this socket's address the other's port, too? */
static bool is_any(const struct net_addr *a)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)&a->sa;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&a->sa;

	return a->sa.ss_family == AF_INET ? in->sin_addr.s_addr == htonl(INADDR_ANY)
	                                  : IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr);
}

/* Every address of IPv6 is every one of IPv4, too. */
static bool collide(const struct net_addr *a, const struct net_addr *b)
{
	char ta[NET_ADDR_TEXT_MAX], tb[NET_ADDR_TEXT_MAX];

	if (net_addr_port(a) != net_addr_port(b))
		return false;
	if (a->sa.ss_family != b->sa.ss_family)
		return is_any(a->sa.ss_family == AF_INET6 ? a : b);
	return is_any(a) || is_any(b) ||
	       !strcmp(net_addr_print(a, ta, sizeof(ta)), net_addr_print(b, tb, sizeof(tb)));
}

/* The hosts are there, and no two of ours are at one port. Those that the kernel chooses are free. */
static int check_addresses(const struct server_opts *o, const char **at, struct pst_err *err)
{
	struct server_addrs a = {.count = 0};
	struct net_addr is[SERVER_ADDRS_MAX][NET_ADDRS_MAX];
	int rc = server_addrs(&a, o, err);

	*at = a.looked_at;
	for (unsigned i = 0; rc == 0 && i < a.count; i++) {
		struct pst_err why = {0};
		unsigned count;

		*at = a.at[i].text;
		rc = net_resolve(is[i], &count, a.at[i].addr, 0, &why);
		if (rc < 0)
			return err_set(err, rc, "%s: %s", a.at[i].who, why.text);
		for (unsigned k = 0; k < i && a.at[i].port; k++)
			if (a.at[k].port && a.at[i].not_tcp == a.at[k].not_tcp &&
			    collide(is[i], is[k]))
				return err_set(err, -EADDRINUSE, "%s: %s listens there already",
				               a.at[i].who, a.at[k].who);
	}
	return rc;
}

/* --- channels --- */

static bool is_verbs(const char *provider)
{
	return !strcmp(provider, "verbs") || !strcmp(provider, "verbs;ofi_rxm");
}

/* @item: "tcp" or "ofi:PROVIDER", of @len bytes; @before: the list up to it. */
static int check_channel(const struct server_opts *o, const char *item, size_t len,
                         struct pst_err *err)
{
	struct fabric_opts fo = {.provider = NULL};
	struct pst_err why = {0};
	char name[96], *colon;
	int rc;

	if (len >= sizeof(name))
		return err_set(err, -EINVAL, "--channels: %.40s...: too long for a channel", item);
	memcpy(name, item, len);
	name[len] = 0;
	colon = strchr(name, ':');
	if (colon) {
		*colon = 0;
		fo.provider = colon + 1;
	}
	if (!fabric_provider_find(name) || !strcmp(name, "sim"))
		return err_set(err, -EINVAL, "--channels: there is no channel \"%s\" here", name);
	if (server_channel(o, name) != item)
		return err_set(err, -EINVAL, "--channels %s: %s is named twice", o->channels, name);
	if (!strcmp(name, "ofi") && (!fo.provider || !*fo.provider))
		return err_set(err, -EINVAL,
		               "--channels: which ofi? ofi:verbs for RDMA, ofi:tcp without a NIC");
	rc = fabric_check(name, &fo, &why);
	if (rc < 0)
		return err_set(err, rc, "--channels: %.*s: %s", (int)len, item, why.text);
	if (!strcmp(name, "ofi") && is_verbs(fo.provider) && !fabric_has_rdma())
		return err_set(err, -ENODEV, "--channels: %.*s: this host has no device for RDMA",
		               (int)len, item);
	return 0;
}

static int check_channels(const struct server_opts *o, struct pst_err *err)
{
	const char *list = o->channels;
	int rc = 0;

	while (rc == 0 && list) {
		const char *end = strchrnul(list, ',');

		rc = check_channel(o, list, (size_t)(end - list), err);
		list = *end ? end + 1 : NULL;
	}
	return rc;
}

/* --- files --- */

/* Which of the three files it is about, for the configuration's line. */
static int check_tls(const struct server_opts *o, const char **at, struct pst_err *err)
{
	const char *const file[] = {o->tls_cert, o->tls_key, o->tls_ca};
	struct pst_err why = {0};
	struct net_tls *tls = NULL;
	int rc = server_tls_new(&tls, o, &why);

	net_tls_free(tls);
	if (rc == 0)
		return 0;
	for (unsigned i = ARRAY_LEN(file); i-- > 0;)
		*at = file[i] ? file[i] : *at;
	for (unsigned i = 0; i < ARRAY_LEN(file); i++)
		if (file[i] && strstr(why.text, file[i]))
			*at = file[i];
	return err_set(err, rc, "%s", why.text);
}

/* Devices of one operand, or of one item of the list: what stands there, and their options. */
static int check_device(const char *spec, bool first, struct pst_err *err)
{
	return stack_local_check(first && !strncmp(spec, "local:", 6) ? spec + 6 : spec, err);
}

static int check_socket(const struct server_opts *o, struct pst_err *err)
{
	const char *path = o->socket;
	int rc;

	if (!path)
		return 0;
	if (!path[0])
		return err_set(err, -EINVAL, "--socket: no path is given");
	if (strlen(path) >= WIRE_PLACE_MAX)
		return err_set(err, -ENAMETOOLONG, "--socket %s: longer than %d bytes", path,
		               WIRE_PLACE_MAX - 1);
	rc = server_file_socket(o, path, err);
	return rc ? rc : server_file_folder("--socket", path, err);
}

/* The file may be new. */
static int check_audit(const char *path, struct pst_err *err)
{
	struct stat st;

	if (lstat(path, &st) == 0) {
		if (S_ISDIR(st.st_mode))
			return err_set(err, -EISDIR, "--audit-log %s: it is a directory", path);
		if (S_ISLNK(st.st_mode))
			return err_set(err, -ELOOP, "--audit-log %s: it is a symbolic link", path);
		if (S_ISSOCK(st.st_mode))
			return err_set(err, -ENXIO, "--audit-log %s: it is a socket", path);
		if (S_ISFIFO(st.st_mode))
			return err_set(err, -EINVAL,
			               "--audit-log %s: it is a pipe: who reads it would hold up "
			               "the server",
			               path);
		if (access(path, W_OK) < 0)
			return err_set(err, -errno, "--audit-log %s: %s", path, strerror(errno));
		return 0;
	}
	return server_file_folder("--audit-log", path, err);
}

/* Each device by itself, and that none is there twice. */
static int check_devices(struct server_files *f, const char *const *devices, unsigned count,
                         const char **ret_at, struct pst_err *err)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < count; i++) {
		*ret_at = devices[i];
		rc = check_device(devices[i], i == 0, err);
		if (rc == 0)
			rc = server_files_devices(f, devices[i], err);
	}
	return rc;
}

static int check_files(const struct server_opts *o, const char *const *devices, unsigned count,
                       const char **ret_at, struct pst_err *err)
{
	struct server_files f = {.at = NULL};
	int rc;

	*ret_at = o->socket;
	rc = check_socket(o, err);
	if (rc == 0)
		rc = check_devices(&f, devices, count, ret_at, err);
	if (rc == 0)
		rc = server_files_others(&f, o, err);
	if (rc == 0 && o->audit_log) {
		*ret_at = o->audit_log;
		rc = server_files_audit(&f, o->audit_log, o->socket, err);
		if (rc == 0)
			rc = check_audit(o->audit_log, err);
	}
	server_files_done(&f);
	return rc;
}

static int check_cores(const char *list, struct pst_err *err)
{
	int cores[CORES_MAX];
	unsigned count;

	return cores_parse(cores, &count, list, true, err);
}

int server_check(const struct server_opts *o, const char *const *devices, unsigned device_count,
                 const char **ret_at, struct pst_err *err)
{
	enum pst_log_level level;
	enum seal_policy seal;
	int rc = 0;

	if (!device_count)
		return err_set(err, -EINVAL, "no device is named");
	*ret_at = o->log_level;
	if (o->log_level && !server_log_level(o->log_level, &level))
		return err_set(err, -EINVAL, "--log-level %s: write error, warning, info or debug",
		               o->log_level);
	rc = check_tls(o, ret_at, err);
	if (rc == 0) {
		*ret_at = o->seal;
		rc = server_seal(&seal, o, err);
	}
	if (rc == 0 && o->cores) {
		*ret_at = o->cores;
		rc = check_cores(o->cores, err);
	}
	if (rc == 0) {
		*ret_at = o->channels;
		rc = check_channels(o, err);
	}
	if (rc == 0)
		rc = check_addresses(o, ret_at, err);
	if (rc == 0)
		rc = check_files(o, devices, device_count, ret_at, err);
	return rc;
}
