/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * check - what can be said of a server's options before anything is opened.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/net.h"
#include "server/server.h"
#include "wire/place.h"

/* The addresses that were looked at, as they were given and as they are. */
struct taken {
	struct {
		const char *what, *text;
		char addr[NET_ADDR_TEXT_MAX];
	} at[SERVER_LISTEN_MAX + 2];
	unsigned count;
};

/* The host is there, and nothing else of ours listens at that port of it. Port 0 is always free. */
static int check_taken(struct taken *t, const char *what, const char *text, const char *host,
                       const char *port, struct pst_err *err)
{
	struct net_addr addrs[NET_ADDRS_MAX];
	struct pst_err why = {0};
	char full[300], addr[NET_ADDR_TEXT_MAX];
	unsigned n;
	int rc;

	(void)snprintf(full, sizeof(full), strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
	rc = net_resolve(addrs, &n, full, 0, &why);
	if (rc < 0)
		return err_set(err, rc, "%s %s: %s", what, text, why.text);
	net_addr_print(&addrs[0], addr, sizeof(addr));
	for (unsigned i = 0; i < t->count && strtoul(port, NULL, 10); i++)
		if (!strcmp(t->at[i].addr, addr))
			return err_set(err, -EADDRINUSE, "%s %s: %s %s listens there already", what,
			               text, t->at[i].what, t->at[i].text);
	t->at[t->count].what = what;
	t->at[t->count].text = text;
	memcpy(t->at[t->count++].addr, addr, sizeof(addr));
	return 0;
}

/* @what: "--listen" and the like, as the command line has it. Without @o anybody may reach it. */
static int check_address(const struct server_opts *o, const char *what, const char *text, bool data,
                         struct taken *t, struct pst_err *err)
{
	char host[256], port[16];
	int rc = wire_place_split(text, host, sizeof(host), port, sizeof(port));

	if (rc < 0)
		return err_set(err, rc, "%s %s: write HOST:PORT", what, text);
	if (strlen(port) > 5 || strtoul(port, NULL, 10) > 65535)
		return err_set(err, -EINVAL, "%s %s: there is no port %s", what, text, port);
	rc = o ? server_may_listen(o, what, text, host, data, err) : 0;
	return rc ? rc : check_taken(t, what, text, host, port, err);
}

static int check_addresses(const struct server_opts *o, struct pst_err *err)
{
	struct taken t = {.count = 0};
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < o->listen_count; i++)
		rc = check_address(o, "--listen", o->listen[i], true, &t, err);
	if (rc == 0 && o->control && strcmp(o->control, "none"))
		rc = check_address(o, "--control", o->control, false, &t, err);
	if (rc == 0 && o->metrics)
		rc = check_address(NULL, "--metrics", o->metrics, false, &t, err);
	return rc;
}

static int check_channels(const char *list, struct pst_err *err)
{
	while (list) {
		const char *end = strchrnul(list, ',');
		char name[32];

		(void)snprintf(name, sizeof(name), "%.*s", (int)MIN(end - list, 31), list);
		name[strcspn(name, ":")] = 0;
		if (!fabric_provider_find(name) || !strcmp(name, "sim"))
			return err_set(err, -EINVAL, "--channels: there is no channel \"%s\" here",
			               name);
		if (!strcmp(name, "ofi") && (list[3] != ':' || list + 4 == end))
			return err_set(
			        err, -EINVAL,
			        "--channels: which ofi? ofi:verbs for RDMA, ofi:tcp without a "
			        "NIC");
		list = *end ? end + 1 : NULL;
	}
	return 0;
}

static int check_tls(const struct server_opts *o, struct pst_err *err)
{
	struct net_tls *tls = NULL;
	int rc = server_tls_new(&tls, o, err);

	net_tls_free(tls);
	return rc;
}

/* A device that is a path must be there; of other schemes only their open can tell. */
static int check_device(const char *spec, struct pst_err *err)
{
	const char *path = strncmp(spec, "uring:", 6) ? spec : spec + 6;
	char text[4096];
	size_t len = strcspn(path, "?");
	struct stat st;

	if (path == spec && spec[strcspn(spec, "/:")] == ':')
		return 0;
	if (len >= sizeof(text))
		return err_set(err, -ENAMETOOLONG, "a device's name is too long");
	memcpy(text, path, len);
	text[len] = 0;
	if (stat(text, &st) < 0)
		return err_set(err, -errno, "%s: %s", text, strerror(errno));
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(err, -EINVAL, "%s: neither a file nor a block device", text);
	if (access(text, R_OK | W_OK) < 0)
		return err_set(err, -errno, "%s: %s", text, strerror(errno));
	return 0;
}

static int check_socket(const char *path, struct pst_err *err)
{
	if (path && strlen(path) >= WIRE_PLACE_MAX)
		return err_set(err, -ENAMETOOLONG, "--socket %s: longer than %d bytes", path,
		               WIRE_PLACE_MAX - 1);
	return 0;
}

/* The file may be new; where it is to be has to be there. */
static int check_audit(const char *path, struct pst_err *err)
{
	const char *slash = strrchr(path, '/');
	char folder[4096] = ".";
	struct stat st;

	if (stat(path, &st) == 0) {
		if (S_ISDIR(st.st_mode))
			return err_set(err, -EISDIR, "--audit-log %s: it is a directory", path);
		if (access(path, W_OK) < 0)
			return err_set(err, -errno, "--audit-log %s: %s", path, strerror(errno));
		return 0;
	}
	if (slash && (size_t)(slash - path) < sizeof(folder))
		(void)snprintf(folder, sizeof(folder), "%.*s", (int)MAX(slash - path, 1) /* "/" */,
		               path);
	if (access(folder, W_OK | X_OK) < 0)
		return err_set(err, -errno, "--audit-log %s: %s: %s", path, folder,
		               strerror(errno));
	return 0;
}

int server_check(const struct server_opts *o, const char *const *devices, unsigned device_count,
                 struct pst_err *err)
{
	enum pst_log_level level;
	enum seal_policy seal;
	int rc = 0;

	if (!device_count)
		return err_set(err, -EINVAL, "no device is named");
	if (o->log_level && !server_log_level(o->log_level, &level))
		return err_set(err, -EINVAL, "--log-level %s: write error, warning, info or debug",
		               o->log_level);
	rc = check_tls(o, err);
	if (rc == 0)
		rc = server_seal(&seal, o, err);
	if (rc == 0 && o->cores) {
		int cores[CORES_MAX];
		unsigned count;

		rc = cores_parse(cores, &count, o->cores, true, err);
	}
	if (rc == 0)
		rc = check_addresses(o, err);
	if (rc == 0)
		rc = check_channels(o->channels, err);
	if (rc == 0)
		rc = check_socket(o->socket, err);
	if (rc == 0 && o->audit_log)
		rc = check_audit(o->audit_log, err);
	for (unsigned i = 0; rc == 0 && i < device_count; i++)
		rc = check_device(devices[i], err);
	return rc;
}
