/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * serve - a store for other processes: until a signal says that it is enough.
 */
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/base.h"
#include "cli/attr.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "server/config.h"
#include "server/notify.h"

enum {
	OPT_LISTEN,
	OPT_CHANNELS,
	OPT_SOCKET,
	OPT_INSECURE,
	OPT_SEAL,
	OPT_TLS_CERT,
	OPT_TLS_KEY,
	OPT_TLS_CA,
	OPT_CONTROL,
	OPT_POLL,
	OPT_CONFIG,
	OPT_CHECK,
	OPT_AUDIT_LOG,
	OPT_LOG_LEVEL,
	OPT_METRICS,
	OPT_SLOW_OP,
	OPT_CORES,
};

#define FDS_WANTED 65536
#define END_NS     (10 * NSEC_PER_SEC) /* that requests under way have when it ends */

static const struct cli_opt opts[] = {
        [OPT_LISTEN] = {'l', "listen", "HOST:PORT",
                        "where (default: 127.0.0.1:7440); may be given again. Port 0: any"},
        [OPT_CHANNELS] = {0, "channels", "LIST", "pipe, tcp, ofi:PROVIDER (default: pipe,tcp)"},
        [OPT_SOCKET] = {0, "socket", "PATH",
                        "of the channel pipe (default: PORT.sock in /run/penstock or "
                        "$XDG_RUNTIME_DIR/penstock)"},
        [OPT_INSECURE] = {0, "insecure", NULL,
                          "whoever can reach it may do everything, and see it on the way"},
        [OPT_SEAL] = {0, "seal", "auto|required|off",
                      "channels without TLS are sealed: auto (where others could read; default), "
                      "required (all but the pipe), or off"},
        [OPT_TLS_CERT] = {0, "tls-cert", "FILE", "tcp speaks TLS 1.3 with this certificate (PEM)"},
        [OPT_TLS_KEY] = {0, "tls-key", "FILE", "its key (PEM, not encrypted)"},
        [OPT_TLS_CA] = {0, "tls-ca", "FILE",
                        "clients must show a certificate of this authority: their name is the "
                        "subject cert:COMMON-NAME of capabilities"},
        [OPT_CONTROL] = {0, "control", "HOST:PORT",
                         "the control plane (gRPC); none: not at all (default: the port after the "
                         "first of --listen, and a unix socket beside the pipe's)"},
        [OPT_POLL] = {0, "poll", NULL, "never sleep: takes a whole core"},
        [OPT_CONFIG] = {0, "config", "FILE",
                        "options out of a YAML file; those given here go first"},
        [OPT_CHECK] = {0, "check", NULL, "only say whether the options are good; opens no device"},
        [OPT_AUDIT_LOG] = {0, "audit-log", "FILE", "append who was granted and refused what"},
        [OPT_LOG_LEVEL] = {0, "log-level", "error|warning|info|debug",
                           "what is said (default: warning)"},
        [OPT_METRICS] = {0, "metrics", "HOST:PORT",
                         "figures for Prometheus, over plain HTTP, to whoever can reach it"},
        [OPT_SLOW_OP] = {0, "slow-op", "MS",
                         "log requests that take as long, and where their time went"},
        [OPT_CORES] = {0, "cores", "LIST",
                       "a reactor on each of these cores, such as 0,2-5; the store's shards are "
                       "parted among them (default: one, on any core)"},
        {0, NULL, NULL, NULL},
};

/* Each client is a few descriptors: as many as the system lets a process have, within reason. */
static void fds_raise(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0 || rl.rlim_cur >= FDS_WANTED)
		return;
	rl.rlim_cur = MIN(rl.rlim_max, (rlim_t)FDS_WANTED);
	(void)setrlimit(RLIMIT_NOFILE, &rl);
}

static struct loop *running;
static struct server *serving; /* NULL: there is nothing to open anew any more */

static void on_end(int sig)
{
	int was = errno;

	loop_stop(running);
	errno = was;
}

/* The message that on_hup() posts: it is the inbox's while hup_posted. */
static atomic_bool hup_posted;

static void hup_run(struct loop_msg *m)
{
	atomic_store(&hup_posted, false); /* first: one that comes from here on is another one */
	if (serving)
		server_reopen(serving);
}

static struct loop_msg hup = {.run = hup_run};

static void on_hup(int sig)
{
	int was = errno;

	if (!atomic_exchange(&hup_posted, true))
		loop_post(running, &hup);
	errno = was;
}

/* Also while the store is recovered: nothing but INT and TERM ends a server. USR1 and USR2 mean nothing here,
 * and would kill it. */
static void catch_signals(struct loop *loop, struct server *s)
{
	struct sigaction end = {.sa_handler = on_end}, reopen = {.sa_handler = on_hup};

	running = loop;
	serving = s;
	sigaction(SIGINT, &end, NULL);
	sigaction(SIGTERM, &end, NULL);
	sigaction(SIGHUP, &reopen, NULL);
	(void)signal(SIGUSR1, SIG_IGN);
	(void)signal(SIGUSR2, SIG_IGN);
	(void)signal(SIGPIPE, SIG_IGN);
}

/* The server is about to go. */
static void ignore_hup(void)
{
	serving = NULL;
	(void)signal(SIGHUP, SIG_IGN);
}

/* The loop is about to go. The process ends now: who asks for that has it. */
static void ignore_signals(void)
{
	ignore_hup();
	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGTERM, SIG_IGN);
	while (atomic_load(&hup_posted)) /* the loop's, until it ran */
		if (loop_turn(running, 0) < 0)
			break;
}

/* "local:" and the devices, or a store's name as it is. */
static char *store_name(const char *const *devices, unsigned count)
{
	size_t len = sizeof("local:");
	char *text, *at;

	for (unsigned i = 0; i < count; i++)
		len += strlen(devices[i]) + 1;
	text = mem_alloc(len);
	if (!text)
		return NULL;
	at = stpcpy(text, strncmp(devices[0], "local:", 6) ? "local:" : "");
	for (unsigned i = 0; i < count; i++) {
		at = stpcpy(at, i ? "," : "");
		at = stpcpy(at, devices[i]);
	}
	return text;
}

/* One line that says it is ready, for those who wait for that. */
static int announce(struct cli *cli, const struct server *s)
{
	if (cli->json) {
		json_t *doors = json_array();

		for (unsigned i = 0; i < s->door_count; i++)
			json_array_append_new(doors,
			                      json_pack("{s:s, s:s, s:b, s:b}", "channel",
			                                s->door[i].provider, "address",
			                                s->door[i].addr, "tls", (int)s->door[i].tls,
			                                "sealed", (int)s->door[i].sealed));
		if (cli_print_json(cli, json_pack("{s:o, s:s?, s:i}", "listening", doors, "metrics",
		                                  server_metrics_addr(s), "pid", (int)getpid())) !=
		    CLI_OK)
			return CLI_FAILED;
	} else {
		printf("serving at");
		for (unsigned i = 0; i < s->door_count; i++)
			printf("%s %s (%s%s)", i ? "," : "", s->door[i].addr, s->door[i].provider,
			       server_door_cover(&s->door[i]));
		if (server_metrics_addr(s))
			printf(", %s (metrics)", server_metrics_addr(s));
		printf("\n");
	}
	/* Who waits for the line would wait for ever. The reason is told when the command ends. */
	if (fflush(stdout) == 0)
		return CLI_OK;
	cli->out_errno = errno;
	return CLI_FAILED;
}

static int serve(struct cli *cli, struct server_opts *o, bool poll)
{
	struct pst_err err = {0};
	struct loop_opts lo;
	struct notify notify;
	struct server s = {.audit = NULL};
	struct loop *loop;
	int rc, status;

	loop_opts_default(&lo);
	lo.poll = poll;
	rc = loop_new(&loop, &lo, &err);
	if (rc < 0)
		return cli_fail(cli, 0, "%s", err.text);
	fds_raise();
	catch_signals(loop, &s);
	rc = server_open(&s, loop, o, &err);
	if (rc < 0) {
		ignore_signals();
		loop_free(loop);
		return cli_fail(cli, 0, "%s", err.text[0] ? err.text : cli_why(rc));
	}
	status = announce(cli, &s);
	notify_ready(&notify, &s);
	if (status == CLI_OK) {
		rc = loop_run(loop);
		if (rc < 0)
			status = cli_fail(cli, rc, "waiting for requests");
	}
	cli_note(cli, "ending");
	notify_stopping(&notify);
	ignore_hup();
	rc = server_close(&s, END_NS);
	if (rc < 0)
		status = cli_fail(cli, rc, "closing the store");
	ignore_signals();
	loop_free(loop);
	return status;
}

/* What the command line says. */
struct asked {
	struct server_opts opts;
	const char *config;
	bool poll, check;
};

static int take_option(struct cli *cli, struct asked *a, int opt, const char *value)
{
	struct server_opts *o = &a->opts;
	const char **texts[] = {
	        [OPT_CHANNELS] = &o->channels,   [OPT_SOCKET] = &o->socket,
	        [OPT_CONFIG] = &a->config,       [OPT_AUDIT_LOG] = &o->audit_log,
	        [OPT_LOG_LEVEL] = &o->log_level, [OPT_TLS_CERT] = &o->tls_cert,
	        [OPT_TLS_KEY] = &o->tls_key,     [OPT_TLS_CA] = &o->tls_ca,
	        [OPT_METRICS] = &o->metrics,     [OPT_CONTROL] = &o->control,
	        [OPT_SEAL] = &o->seal,           [OPT_CORES] = &o->cores,
	};
	uint64_t ms;

	if (opt == OPT_LISTEN && o->listen_count == SERVER_LISTEN_MAX)
		return cli_usage(cli, "more than %d times --listen", SERVER_LISTEN_MAX);
	if (opt == OPT_LISTEN)
		o->listen[o->listen_count++] = value;
	else if (opt == OPT_SLOW_OP && cli_number(cli, "slow-op", value, 1, 86400000, &ms) < 0)
		return CLI_USAGE;
	else if (opt == OPT_SLOW_OP)
		o->listener.slow_ns = ms * NSEC_PER_MSEC;
	else if (opt == OPT_INSECURE)
		o->insecure = true;
	else if (opt == OPT_POLL)
		a->poll = true;
	else if (opt == OPT_CHECK)
		a->check = true;
	else
		*texts[opt] = value;
	return CLI_OK;
}

/* What is wrong with the options. */
static int refuse(struct cli *cli, const struct asked *a, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
static int refuse(struct cli *cli, const struct asked *a, const char *fmt, ...)
{
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (a->check && cli->json) {
		json_t *o = json_pack("{s:b}", "ok", 0);

		json_set_text(o, "error", text);
		(void)cli_print_json(cli, o);
	}
	return cli_fail(cli, 0, "%s", text);
}

/* The file's options below those of the command line, devices included; then all of them checked. */
static int settle(struct cli *cli, const struct asked *a, struct config *c)
{
	enum pst_log_level level = PST_LOG_WARN;
	struct pst_err err = {0};
	const char *at = NULL;

	if (a->config && config_load(c, a->config, &err) < 0)
		return refuse(cli, a, "%s", err.text);
	config_override(&c->opts, &a->opts);
	c->opts.config = a->config;
	c->poll |= a->poll;
	if (cli->arg_count) {
		c->device_count = (unsigned)cli->arg_count;
		for (unsigned i = 0; i < c->device_count; i++)
			c->devices[i] = cli->args[i];
	}
	if (!c->device_count)
		return cli_usage(cli, "needs a device");
	if (server_check(&c->opts, c->devices, c->device_count, &at, &err) < 0) {
		unsigned line = config_line(c, at);

		return line ? refuse(cli, a, "%s:%u: %s", a->config, line, err.text)
		            : refuse(cli, a, "%s", err.text);
	}
	if (c->opts.log_level)
		(void)server_log_level(c->opts.log_level, &level);
	server_log_start(level);
	return CLI_OK;
}

static int settled(struct cli *cli, const struct asked *a, struct config *c)
{
	char *name;
	int status = settle(cli, a, c);

	if (status != CLI_OK)
		return status;
	if (a->check && cli->json)
		return cli_print_json(cli, json_pack("{s:b}", "ok", 1));
	if (a->check) {
		cli_note(cli, "nothing is wrong with the options");
		return CLI_OK;
	}
	name = store_name(c->devices, c->device_count);
	if (!name)
		return cli_fail(cli, -ENOMEM, "the store's name");
	c->opts.store = name;
	c->opts.poll = c->poll;
	status = serve(cli, &c->opts, c->poll);
	mem_free(name);
	return status;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct config config = {0};
	struct asked asked = {0};
	const char *value;
	int opt, status;

	while ((opt = cli_option(cli, argc, argv, &value)) >= 0) {
		status = take_option(cli, &asked, opt, value);
		if (status != CLI_OK)
			return status;
	}
	if (opt == -2)
		return cli_end_status(cli);
	status = cli_operand_count(cli, 0, PST_DEVICES_MAX);
	if (status == CLI_OK)
		status = settled(cli, &asked, &config);
	config_done(&config);
	return status;
}

const struct cli_command cmd_serve = {
        .name = "serve",
        .args = "[DEV...] [--listen HOST:PORT]... [--channels LIST] [--cores LIST] [--tls-cert "
                "FILE --tls-key "
                "FILE [--tls-ca FILE] | --insecure] [--config FILE] [--check]",
        .summary = "Serve a store to other processes and hosts",
        .help = "Opens the store on DEV... and serves it until it is told to end (SIGTERM or\n"
                "SIGINT), with one line on stdout when it is ready. SIGHUP opens the audit log\n"
                "anew, after it was renamed. Clients name it\n"
                "pst://HOST[:PORT]. On this host they come over shared memory (the channel\n"
                "pipe), as the user that they are: the server's own may do everything. An\n"
                "address that other hosts can reach wants TLS; without it the channels there are\n"
                "sealed (AES-256-GCM, under keys that follow from a capability's token, which\n"
                "clients then need and never show), or open with --insecure in so many words.\n"
                "\n"
                "Over tcp a client is known by its certificate (--tls-ca: it must show one), by\n"
                "a capability's token, or not at all: then it is refused. The PEM files are read\n"
                "once, at the start.\n"
                "\n"
                "RDMA: --channels pipe,tcp,ofi:verbs; ofi:tcp does the same over sockets, where "
                "there\n"
                "is no NIC. It listens two ports above, and is sealed where others could read it.\n"
                "\n"
                "A client's options follow a '?': channel=pipe, tcp or ofi:PROVIDER (default: the\n"
                "best of pipe and tcp that both ends can use; status says which), socket=PATH, "
                "connect=SECONDS and\n"
                "reconnect=SECONDS (how long to wait for a server that isn't there yet, or went\n"
                "away), token=TEXT (or $PENSTOCK_TOKEN), ops=N, slots=N, volatile=yes\n"
                "(faster, but a crash of the server loses what was not flushed). TLS: tls-ca=FILE\n"
                "(the server's authority) or tls=yes (the system's list), tls-cert=FILE and\n"
                "tls-key=FILE (the client's own), tls-name=NAME (in the server's certificate, if\n"
                "it isn't HOST). seal=auto (default: who has a token seals what others could "
                "read),\n"
                "required (everything) or off. insecure=yes shows a token even where others can\n"
                "read it.\n"
                "\n"
                "--cores spreads the engine's work (index, checksums, journal, devices): shard i "
                "of\n"
                "the store belongs to reactor i modulo their number. Connections and sessions are\n"
                "served by the first. A store has as many shards as format gave it; more reactors\n"
                "than that are refused. The same store may be served with another list next time.\n"
                "\n"
                "With --config the options stand in a YAML file, and more of them: limits, shares\n"
                "and rates of tenants. The annotated example is serve.yaml among the installed\n"
                "documents. --check reads it and looks at all that can be looked at without\n"
                "opening a device: 0 if a server would start with it, 1 and a sentence if not "
                "(--json:\n"
                "ok, error). What is in a device, and who has it, or a port, open it does not "
                "see.\n"
                "\n"
                "Examples:\n"
                "  penstock serve /srv/data.pst\n"
                "  penstock serve --check --config /etc/penstock/serve.yaml\n"
                "  penstock -s pst://localhost ls train:/\n"
                "  penstock serve /dev/nvme0n1 --listen 0.0.0.0:7440 --tls-cert srv.pem \\\n"
                "      --tls-key srv.key --tls-ca ca.pem\n"
                "  penstock -s 'pst://srv?tls-ca=ca.pem&tls-cert=me.pem&tls-key=me.key' ls "
                "train:/\n"
                "  penstock serve /dev/nvme0n1 --listen 0.0.0.0:7440 --channels "
                "pipe,tcp,ofi:verbs\n"
                "  penstock serve /dev/nvme0n1 --listen 0.0.0.0:7440 --insecure\n",
        .opts = opts,
        .flags = CLI_JSON | CLI_NO_STORE,
        .run = run,
};
