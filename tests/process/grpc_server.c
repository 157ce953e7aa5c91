/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * grpc_server - the control plane on a store in memory, for test_grpc.py:
 *
 *   grpc_server STORE key=value...     listen, unix, cert, key, ca, insecure, audit, owner (a uid)
 *
 * Prints "port N" when it serves; ends when its standard input does.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "client/stack.h"
#include "front/grpc/grpc.h"
#include "session/audit.h"

static struct loop *loop;

static void input_ready(struct loop_fd *f, uint32_t revents)
{
	char buf[16];

	if (read(f->fd, buf, sizeof(buf)) <= 0)
		loop_stop(loop);
}

static bool gone;

static void input_gone(struct loop_fd *f)
{
	gone = true;
}

static int fail(const char *what, int rc, const struct pst_err *err)
{
	(void)fprintf(stderr, "%s: %s (%s)\n", what, err->text, strerror(-rc));
	return 1;
}

static void serve(struct grpc_front *f)
{
	struct loop_fd in = {.fd = STDIN_FILENO, .ready = input_ready};

	(void)printf("port %u\n", grpc_front_port(f));
	(void)fflush(stdout);
	pst_assert(!loop_fd_add(loop, &in, POLLIN));
	pst_assert(!loop_run(loop));
	loop_fd_del(loop, &in, input_gone);
	while (!gone)
		(void)loop_turn(loop, NSEC_PER_SEC);
}

static void take(struct grpc_front_opts *o, struct session_opts *so, const char **audit,
                 const char *arg)
{
	const char *value = strchr(arg, '=') + 1;

	switch (arg[0]) {
	case 'l':
		o->listen = value;
		break;
	case 'u':
		o->unix_path = value;
		break;
	case 'c':
		if (arg[1] == 'e')
			o->tls_cert = value;
		else
			o->tls_ca = value;
		break;
	case 'k':
		o->tls_key = value;
		break;
	case 'i':
		o->insecure = so->open_access = true;
		break;
	case 'a':
		*audit = value;
		break;
	case 'o':
		so->owner_uid = (uint32_t)strtoul(value, NULL, 10);
		break;
	}
}

int main(int argc, char **argv)
{
	struct grpc_front_opts o = {.endpoints = 1, .endpoint = {{"tcp", "127.0.0.1:7440"}}};
	struct session_opts so = {.owner_uid = UINT32_MAX};
	const char *audit = NULL;
	struct loop_opts lo;
	struct audit_file *log = NULL;
	struct session_table *t;
	struct pst_err err = {0};
	struct grpc_front *f;
	struct store *store;
	int rc;

	(void)signal(SIGPIPE, SIG_IGN);
	for (int i = 2; i < argc; i++)
		take(&o, &so, &audit, argv[i]);
	loop_opts_default(&lo);
	rc = loop_new(&loop, &lo, &err);
	if (!rc && audit)
		rc = audit_file_open(&log, audit, &err);
	if (log) {
		so.audit = audit_file_write;
		so.audit_arg = log;
	}
	rc = rc ? rc : stack_open(&store, argv[1], loop, NULL, &err);
	rc = rc ? rc : session_table_open(&t, store, &so, &err);
	rc = rc ? rc : grpc_front_start(&f, &o, loop, t, &err);
	if (rc)
		return fail("start", rc, &err);
	serve(f);
	grpc_front_stop(f);
	session_table_close(t);
	rc = store_close(store);
	loop_free(loop);
	audit_file_close(log);
	return rc ? fail("close", rc, &err) : 0;
}
