/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * server - gRPC's side of the front: the server, its thread, and calls on their way in and out.
 *
 * Only so many calls are taken at a time; what is above waits inside gRPC. A call that does not send
 * its message, or whose answer is not taken, is cancelled, so that nobody can sit on all places.
 */
#include <stdio.h>
#include <sys/stat.h>

#include "front/grpc/grpc_int.h"
#include "wire/place.h"

/* --- calls --- */

static struct call_tag *tag_of(struct gcall *c, enum call_step step)
{
	c->tag[step] = (struct call_tag){.call = c, .step = step};
	return &c->tag[step];
}

void call_unref(struct gcall *c)
{
	if (atomic_fetch_sub(&c->refs, 1) != 1)
		return;
	if (c->in)
		protobuf_c_message_free_unpacked(c->in, NULL);
	if (c->payload)
		grpc_byte_buffer_destroy(c->payload);
	if (c->reply)
		grpc_byte_buffer_destroy(c->reply);
	if (c->call)
		grpc_call_unref(c->call);
	grpc_call_details_destroy(&c->details);
	grpc_metadata_array_destroy(&c->meta);
	gpr_free(c->peer);
	mem_free(c->status);
	mem_free_secret(c, sizeof(*c)); /* a new session's */
}

/* Asks gRPC for one more. */
static void call_await(struct grpc_front *f)
{
	struct gcall *c = mem_calloc(1, sizeof(*c));

	if (!c)
		return; /* the next one that ends asks again */
	c->front = f;
	atomic_store(&c->refs, 1);
	grpc_call_details_init(&c->details);
	grpc_metadata_array_init(&c->meta);
	if (grpc_server_request_call(f->server, &c->call, &c->details, &c->meta, f->cq, f->cq,
	                             tag_of(c, CALL_NEW)) != GRPC_CALL_OK) {
		call_unref(c);
		return;
	}
	f->waiting++;
}

static void calls_await(struct grpc_front *f)
{
	while (!atomic_load(&f->stopping) && f->waiting < CALLS_WAITING &&
	       f->live + f->waiting < f->opts.calls_max) {
		unsigned before = f->waiting;

		call_await(f);
		if (f->waiting == before)
			return;
	}
}

static const struct {
	int err;
	grpc_status_code code;
} codes[] = {
        {-EACCES, GRPC_STATUS_PERMISSION_DENIED},
        {-EPERM, GRPC_STATUS_PERMISSION_DENIED},
        {-EKEYREVOKED, GRPC_STATUS_PERMISSION_DENIED},
        {-EKEYEXPIRED, GRPC_STATUS_UNAUTHENTICATED},
        {-EBADF, GRPC_STATUS_UNAUTHENTICATED},
        {-ENOENT, GRPC_STATUS_NOT_FOUND},
        {-EEXIST, GRPC_STATUS_ALREADY_EXISTS},
        {-EINVAL, GRPC_STATUS_INVALID_ARGUMENT},
        {-E2BIG, GRPC_STATUS_INVALID_ARGUMENT},
        {-ENAMETOOLONG, GRPC_STATUS_INVALID_ARGUMENT},
        {-EPROTO, GRPC_STATUS_INVALID_ARGUMENT},
        {-EAGAIN, GRPC_STATUS_RESOURCE_EXHAUSTED},
        {-ENOMEM, GRPC_STATUS_RESOURCE_EXHAUSTED},
        {-ENOSPC, GRPC_STATUS_RESOURCE_EXHAUSTED},
        {-EDQUOT, GRPC_STATUS_RESOURCE_EXHAUSTED},
        {-ENFILE, GRPC_STATUS_RESOURCE_EXHAUSTED},
        {-ESTALE, GRPC_STATUS_FAILED_PRECONDITION},
        {-ENOTEMPTY, GRPC_STATUS_FAILED_PRECONDITION},
        {-ENOTDIR, GRPC_STATUS_FAILED_PRECONDITION},
        {-EISDIR, GRPC_STATUS_FAILED_PRECONDITION},
        {-EBUSY, GRPC_STATUS_FAILED_PRECONDITION},
        {-EROFS, GRPC_STATUS_FAILED_PRECONDITION},
        {-ENOTSUP, GRPC_STATUS_UNIMPLEMENTED},
        {-ETIMEDOUT, GRPC_STATUS_DEADLINE_EXCEEDED},
        {-ECANCELED, GRPC_STATUS_CANCELLED},
        {-ECONNABORTED, GRPC_STATUS_ABORTED},
        {-EIO, GRPC_STATUS_DATA_LOSS},
        {-EREMOTEIO, GRPC_STATUS_DATA_LOSS}, /* the device is gone */
};

static grpc_status_code code_of(int status)
{
	for (unsigned i = 0; i < ARRAY_LEN(codes); i++)
		if (codes[i].err == status)
			return codes[i].code;
	return GRPC_STATUS_UNKNOWN;
}

static void call_batch(struct gcall *c, const grpc_op *ops, size_t n, enum call_step step)
{
	if (grpc_call_start_batch(c->call, ops, n, tag_of(c, step), NULL) != GRPC_CALL_OK)
		pst_assert(!"a batch that gRPC can't refuse");
}

static int64_t now_s(void)
{
	int64_t s = gpr_now(GPR_CLOCK_MONOTONIC).tv_sec;

	return s ? s : 1;
}

/* Before the batch: when it has been started the call may be gone. */
static void client_awaited(struct gcall *c)
{
	if (!c->watching)
		atomic_store(&c->awaited_s, now_s());
}

/* Its reference ends with the event. */
void call_send(struct gcall *c, grpc_status_code code, const char *text)
{
	grpc_slice details = grpc_slice_from_copied_string(text);
	grpc_op ops[3];
	size_t n = 0;

	memset(ops, 0, sizeof(ops));
	if (!c->begun)
		ops[n++].op = GRPC_OP_SEND_INITIAL_METADATA;
	if (c->reply) {
		ops[n].op = GRPC_OP_SEND_MESSAGE;
		ops[n++].data.send_message.send_message = c->reply;
	}
	ops[n].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
	ops[n].data.send_status_from_server.status = code;
	ops[n++].data.send_status_from_server.status_details = &details;
	client_awaited(c);
	call_batch(c, ops, n, CALL_SENT);
	grpc_slice_unref(details);
}

void call_stream(struct gcall *c)
{
	grpc_op ops[2];
	size_t n = 0;

	memset(ops, 0, sizeof(ops));
	if (!c->begun)
		ops[n++].op = GRPC_OP_SEND_INITIAL_METADATA;
	c->begun = true;
	if (c->reply) {
		ops[n].op = GRPC_OP_SEND_MESSAGE;
		ops[n++].data.send_message.send_message = c->reply;
	}
	client_awaited(c);
	call_batch(c, ops, n, CALL_STREAM);
}

static void reply_drop(struct gcall *c)
{
	if (c->reply)
		grpc_byte_buffer_destroy(c->reply);
	c->reply = NULL;
}

void call_reply(struct gcall *c, const ProtobufCMessage *m)
{
	grpc_slice slice = grpc_slice_malloc(protobuf_c_message_get_packed_size(m));

	protobuf_c_message_pack(m, GRPC_SLICE_START_PTR(slice));
	c->reply = grpc_raw_byte_buffer_create(&slice, 1);
	grpc_slice_unref(slice);
}

void call_end(struct gcall *c, int status, const ProtobufCMessage *out)
{
	char text[600];

	if (!status) {
		call_reply(c, out);
		call_send(c, GRPC_STATUS_OK, "");
		return;
	}
	(void)snprintf(text, sizeof(text), "%s: %s",
	               strerrorname_np(-status) ? strerrorname_np(-status) : "?",
	               c->why[0] ? c->why : strerror(-status));
	call_send(c, code_of(status), text);
}

/* On the loop. */
static void call_on_loop(struct loop_msg *m)
{
	struct gcall *c = container_of(m, struct gcall, msg);

	if (atomic_load(&c->front->stopping) && c->method->kind != METHOD_WATCH)
		call_end(c, call_fail(c, -ECANCELED, "%s: this server ends", method_name(c)), NULL);
	else
		c->method->handler(c);
}

/* --- what came with it --- */

static void take_metadata(struct gcall *c)
{
	for (size_t i = 0; i < c->meta.count; i++) {
		const grpc_metadata *m = &c->meta.metadata[i];
		const char *v = (const char *)GRPC_SLICE_START_PTR(m->value);
		size_t len = GRPC_SLICE_LENGTH(m->value);

		if (grpc_slice_str_cmp(m->key, "authorization") != 0)
			continue;
		/* Who shows what is no token, or two, must not be taken for one who shows none. */
		if (c->bearer_len || len <= 7 || strncasecmp(v, "Bearer ", 7) != 0)
			c->bearer_bad = true;
		if (c->bearer_bad)
			continue;
		c->bearer_len = len - 7;
		memcpy(c->bearer, v + 7, MIN(len - 7, sizeof(c->bearer)));
	}
}

static void take_certificate(struct gcall *c)
{
	grpc_auth_context *ctx = grpc_call_auth_context(c->call);
	grpc_auth_property_iterator it;
	const grpc_auth_property *p;

	if (!ctx)
		return;
	if (grpc_auth_context_peer_is_authenticated(ctx)) {
		it = grpc_auth_context_find_properties_by_name(ctx, GRPC_X509_CN_PROPERTY_NAME);
		p = grpc_auth_property_iterator_next(&it);
		/* A name with a NUL inside, or a longer one, is nobody's. */
		if (p && p->value_length < sizeof(c->cert) && !memchr(p->value, 0, p->value_length))
			memcpy(c->cert, p->value, p->value_length);
	}
	grpc_auth_context_release(ctx);
}

static void read_message(struct gcall *c)
{
	grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};

	op.data.recv_message.recv_message = &c->payload;
	client_awaited(c);
	call_batch(c, &op, 1, CALL_MESSAGE);
}

static void call_came(struct grpc_front *f, struct gcall *c)
{
	grpc_op op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};

	f->live++;
	list_push(&f->calls, &c->link);
	atomic_store(&c->refs, 2);
	op.data.recv_close_on_server.cancelled = &c->cancelled;
	call_batch(c, &op, 1, CALL_CLOSED);
	take_metadata(c);
	take_certificate(c);
	c->peer = grpc_call_get_peer(c->call);
	c->method = method_find((const char *)GRPC_SLICE_START_PTR(c->details.method),
	                        GRPC_SLICE_LENGTH(c->details.method));
	if (!c->method)
		call_send(c, GRPC_STATUS_UNIMPLEMENTED, "ENOTSUP: no such method");
	else if (c->method->kind == METHOD_QUESTIONS)
		call_stream(c);
	else
		read_message(c);
}

/* The payload as one piece. */
static bool payload_slice(struct gcall *c, grpc_slice *ret_slice)
{
	grpc_byte_buffer_reader reader;

	if (!grpc_byte_buffer_reader_init(&reader, c->payload))
		return false;
	*ret_slice = grpc_byte_buffer_reader_readall(&reader);
	grpc_byte_buffer_reader_destroy(&reader);
	grpc_byte_buffer_destroy(c->payload);
	c->payload = NULL;
	return true;
}

static void stream_message(struct gcall *c)
{
	grpc_slice slice;

	if (!c->payload) {
		call_send(c, GRPC_STATUS_OK, ""); /* the client has no more questions */
		return;
	}
	if (!payload_slice(c, &slice)) {
		call_send(c, GRPC_STATUS_INTERNAL, "EBADMSG: an unreadable message");
		return;
	}
	c->reply = reflect_answer(GRPC_SLICE_START_PTR(slice), GRPC_SLICE_LENGTH(slice));
	grpc_slice_unref(slice);
	if (!c->reply) {
		call_send(c, GRPC_STATUS_INVALID_ARGUMENT, "EBADMSG: an unreadable message");
		return;
	}
	call_stream(c);
}

/* From here on it is the loop's, and a call less. */
static bool watch_counted(struct gcall *c)
{
	struct grpc_front *f = c->front;

	if (f->watching == WATCHERS_MAX) {
		call_send(c, GRPC_STATUS_RESOURCE_EXHAUSTED,
		          "EAGAIN: as many watch the health as may: end one, or ask by Check");
		return false;
	}
	f->live--;
	f->watching++;
	c->watching = true;
	return true;
}

static void call_message(struct gcall *c)
{
	struct pst_err err = {0};
	grpc_slice slice;
	int rc = 0;

	atomic_store(&c->awaited_s, 0);
	if (c->method->kind == METHOD_QUESTIONS) {
		stream_message(c);
		return;
	}
	if (c->payload && payload_slice(c, &slice)) {
		c->in = protobuf_c_message_unpack(c->method->in, NULL, GRPC_SLICE_LENGTH(slice),
		                                  GRPC_SLICE_START_PTR(slice));
		rc = strings_check(c->method->in, GRPC_SLICE_START_PTR(slice),
		                   GRPC_SLICE_LENGTH(slice), &err);
		grpc_slice_unref(slice);
	}
	if (c->in && rc) {
		call_end(c, call_fail(c, rc, "%s", err.text), NULL);
		return;
	}
	if (!c->in) {
		call_send(c, GRPC_STATUS_INVALID_ARGUMENT,
		          "EBADMSG: the bytes are no message of this method's type");
		return;
	}
	if (c->method->kind == METHOD_WATCH && !watch_counted(c))
		return;
	c->msg.run = call_on_loop;
	loop_post(c->front->loop, &c->msg);
}

/* What happens to one of those is for the loop to know; only here it counts. */
static void watcher_event(struct gcall *c, enum call_step step, bool ok)
{
	struct loop_msg *m = step == CALL_CLOSED ? &c->closed_msg : &c->msg;

	switch (step) {
	case CALL_STREAM:
		c->sent_ok = ok;
		m->run = watch_sent;
		break;
	case CALL_CLOSED:
		list_del(&c->link);
		m->run = watch_closed;
		break;
	default:
		c->front->watching--;
		m->run = watch_gone;
	}
	loop_post(c->front->loop, m);
}

static void call_event(struct grpc_front *f, struct call_tag *tag, bool ok)
{
	struct gcall *c = tag->call;

	if (c->watching) {
		watcher_event(c, tag->step, ok);
		return;
	}
	switch (tag->step) {
	case CALL_NEW:
		f->waiting--;
		if (ok)
			call_came(f, c);
		else
			call_unref(c); /* the server shuts down */
		break;
	case CALL_MESSAGE:
		call_message(c);
		break;
	case CALL_STREAM:
		reply_drop(c);
		if (ok && !atomic_load(&f->stopping))
			read_message(c);
		else
			call_send(c, GRPC_STATUS_CANCELLED, "");
		break;
	case CALL_CLOSED:
		list_del(&c->link);
		call_unref(c);
		break;
	case CALL_SENT:
		f->live--;
		call_unref(c);
		break;
	}
}

/* --- the thread --- */

static void cancel_silent(struct grpc_front *f)
{
	int64_t now = now_s();
	struct gcall *c;

	list_for_each (c, &f->calls, link) {
		int64_t since = atomic_load(&c->awaited_s);

		if (since && now - since >= CLIENT_S)
			(void)grpc_call_cancel_with_status(
			        c->call, GRPC_STATUS_DEADLINE_EXCEEDED,
			        "ETIMEDOUT: no message came, or its answer was not taken", NULL);
	}
}

static void *front_thread(void *arg)
{
	struct grpc_front *f = arg;
	int64_t looked_s = now_s();
	bool shut = false;

	calls_await(f);
	for (;;) {
		gpr_timespec until = gpr_time_add(gpr_now(GPR_CLOCK_REALTIME),
		                                  gpr_time_from_seconds(1, GPR_TIMESPAN));
		grpc_event ev = grpc_completion_queue_next(f->cq, until, NULL);

		if (ev.type == GRPC_QUEUE_SHUTDOWN)
			break;
		if (ev.type == GRPC_OP_COMPLETE && ev.tag == f)
			shut = true; /* the server is down: no new call comes */
		else if (ev.type == GRPC_OP_COMPLETE)
			call_event(f, ev.tag, ev.success);
		/* Also where one event follows the other. */
		if (now_s() != looked_s) {
			looked_s = now_s();
			cancel_silent(f);
		}
		calls_await(f);
		/* Answers that are on the loop still end in the queue: it goes when none is left. */
		if (shut && list_empty(&f->calls) && !f->waiting && !f->live && !f->watching) {
			grpc_completion_queue_shutdown(f->cq);
			shut = false;
		}
	}
	loop_post(f->loop, &f->over);
	return NULL;
}

/* --- starting --- */

char *front_read_pem(const char *path, struct pst_err *err, int *ret_err)
{
	FILE *file = fopen(path, "re");
	char *text = NULL;
	struct stat st;

	*ret_err = -errno;
	if (file && !fstat(fileno(file), &st) && st.st_size > 0 && st.st_size < (off_t)MIB)
		text = mem_calloc(1, (size_t)st.st_size + 1);
	if (text && fread(text, 1, (size_t)st.st_size, file) != (size_t)st.st_size) {
		mem_free(text);
		text = NULL;
	}
	if (file)
		(void)fclose(file);
	else
		err_set(err, *ret_err, "%s: %s", path, strerror(-*ret_err));
	if (file && !text) {
		*ret_err = -EINVAL;
		err_set(err, -EINVAL, "%s: can't be read as a PEM file", path);
	}
	return text;
}

static int tls_credentials(const struct grpc_front_opts *o, grpc_server_credentials **ret_c,
                           struct pst_err *err)
{
	const char *path[3] = {o->tls_ca, o->tls_key, o->tls_cert};
	char *pem[3] = {NULL};
	int rc = 0;

	for (unsigned i = 0; i < 3 && !rc; i++) {
		int why;

		if (!path[i])
			continue;
		pem[i] = front_read_pem(path[i], err, &why);
		if (!pem[i])
			rc = why;
	}
	if (!rc) {
		grpc_ssl_pem_key_cert_pair pair = {.private_key = pem[1], .cert_chain = pem[2]};

		*ret_c = grpc_ssl_server_credentials_create_ex(
		        pem[0], &pair, 1,
		        pem[0] ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
		               : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
		        NULL);
		if (!*ret_c)
			rc = err_set(err, -EINVAL, "%s, %s: not good for TLS", o->tls_cert,
			             o->tls_key);
	}
	for (unsigned i = 0; i < 3; i++)
		mem_free_secret(pem[i], pem[i] ? strlen(pem[i]) : 0);
	return rc;
}

static bool is_loopback(const char *addr)
{
	char host[256], port[16];

	return wire_place_split(addr, host, sizeof(host), port, sizeof(port)) == 0 &&
	       wire_place_is_loopback(host);
}

static int add_port(struct grpc_front *f, struct pst_err *err)
{
	const struct grpc_front_opts *o = &f->opts;
	grpc_server_credentials *creds = NULL;
	int rc = 0, port;

	if (!o->listen)
		return 0;
	if (!o->tls_cert != !o->tls_key || (o->tls_ca && !o->tls_cert))
		return err_set(err, -EINVAL, "TLS takes a certificate and its key");
	if (!o->tls_cert && !is_loopback(o->listen) && !o->insecure)
		return err_set(
		        err, -EINVAL,
		        "%s is no loopback address: it takes TLS, or to be told that it may be "
		        "insecure",
		        o->listen);
	if (o->tls_cert)
		rc = tls_credentials(o, &creds, err);
	else
		creds = grpc_insecure_server_credentials_create();
	if (rc)
		return rc;
	port = grpc_server_add_http2_port(f->server, o->listen, creds);
	grpc_server_credentials_release(creds);
	if (port <= 0)
		return err_set(err, -EADDRINUSE,
		               "the control plane can't listen at %s: is it in use?", o->listen);
	f->port = (unsigned)port;
	return 0;
}

static int server_make(struct grpc_front *f, struct pst_err *err)
{
	grpc_arg args[] = {
	        {.type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)GRPC_ARG_ALLOW_REUSEPORT},
	        {.type = GRPC_ARG_INTEGER,
	         .key = (char *)(uintptr_t)GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH,
	         .value.integer = MESSAGE_MAX},
	        /* A watcher whose host is gone says nothing, as those that are well do. */
	        {.type = GRPC_ARG_INTEGER,
	         .key = (char *)(uintptr_t)GRPC_ARG_KEEPALIVE_TIME_MS,
	         .value.integer = 60000},
	};
	const grpc_channel_args ca = {.num_args = ARRAY_LEN(args), .args = args};
	int rc;

	f->server = grpc_server_create(&ca, NULL);
	f->cq = grpc_completion_queue_create_for_next(NULL);
	grpc_server_register_completion_queue(f->server, f->cq, NULL);
	rc = add_port(f, err);
	if (rc)
		return rc;
	grpc_server_start(f->server);
	if (pthread_create(&f->thread, NULL, front_thread, f))
		return err_set(err, -EAGAIN, "no thread for gRPC");
	f->threaded = true;
	return f->opts.unix_path ? unix_listen(f, f->opts.unix_path, err) : 0;
}

static int opts_copy(struct grpc_front *f, const struct grpc_front_opts *o)
{
	const char **s[5] = {&f->opts.listen, &f->opts.unix_path, &f->opts.tls_cert,
	                     &f->opts.tls_key, &f->opts.tls_ca};

	f->opts = *o;
	f->opts.calls_max = o->calls_max ? o->calls_max : 64;
	for (unsigned i = 0; i < 5; i++) {
		if (*s[i] && !**s[i])
			*s[i] = NULL;
		if (!*s[i])
			continue;
		f->strings[i] = strdup(*s[i]);
		if (!f->strings[i])
			return -ENOMEM;
		*s[i] = f->strings[i];
	}
	return 0;
}

static void sweep_fired(struct loop_timer *t)
{
	struct grpc_front *f = container_of(t, struct grpc_front, sweep);

	fsessions_sweep(f);
	health_ask(f);
	(void)loop_timer_arm(f->loop, t, loop_now(f->loop) + 5 * NSEC_PER_SEC);
}

/* Any of gRPC's threads. What it calls an error may be a port in use: our own sentences say what is ours. */
void front_log(gpr_log_func_args *args)
{
	if (args->severity == GPR_LOG_SEVERITY_DEBUG)
		log_debug("gRPC: %s", args->message);
	else
		log_info("gRPC: %s", args->message);
}

/* A handshake that failed is somebody who was refused: who speaks no TLS, or has no certificate of ours. gRPC says no
 * more of strangers than this, and other things of them, too. */
static void server_log(gpr_log_func_args *args)
{
	if (strstr(args->message, "Handshake failed"))
		log_stranger(PST_LOG_WARN, "control plane: refused: %s", args->message);
	else if (args->severity == GPR_LOG_SEVERITY_DEBUG)
		front_log(args);
	else
		log_stranger(PST_LOG_INFO, "gRPC: %s", args->message);
}

int grpc_front_start(struct grpc_front **ret_f, const struct grpc_front_opts *opts,
                     struct loop *loop, struct session_table *table, struct pst_err *err)
{
	struct grpc_front *f = mem_calloc(1, sizeof(*f));
	int rc;

	if (!f)
		return err_set(err, -ENOMEM, "no memory");
	f->loop = loop;
	f->table = table;
	list_init(&f->calls);
	list_init(&f->sessions);
	list_init(&f->watchers);
	f->health = HEALTH_SERVING;
	f->sweep.fired = sweep_fired;
	grpc_init();
	methods_init();
	gpr_set_log_function(server_log);
	f->health_status = mem_calloc(1, sizeof(*f->health_status));
	rc = f->health_status ? opts_copy(f, opts) : err_set(err, -ENOMEM, "no memory");
	if (!rc && !f->opts.listen && !f->opts.unix_path)
		rc = err_set(err, -EINVAL, "the control plane has no address");
	rc = rc ? rc : server_make(f, err);
	if (rc) {
		grpc_front_stop(f);
		return rc;
	}
	sweep_fired(&f->sweep);
	*ret_f = f;
	return 0;
}

unsigned grpc_front_port(const struct grpc_front *f)
{
	return f->port;
}

/* --- stopping --- */

static void thread_over(struct loop_msg *m)
{
	container_of(m, struct grpc_front, over)->threaded = false;
}

/* The loop turns, so that what runs can end and be answered, until the front's thread is gone. */
static void server_stop(struct grpc_front *f)
{
	uint64_t until = loop_now(f->loop) + STOP_S * NSEC_PER_SEC;

	atomic_store(&f->stopping, true);
	f->over.run = thread_over;
	watchers_end(f);
	while (!list_empty(&f->watchers) && loop_now(f->loop) < until)
		(void)loop_turn(f->loop, NSEC_PER_SEC / 10);
	grpc_server_shutdown_and_notify(f->server, f->cq, f);
	grpc_server_cancel_all_calls(f->server);
	while (f->threaded || f->health_asked)
		(void)loop_turn(f->loop, NSEC_PER_SEC);
	pthread_join(f->thread, NULL);
}

void grpc_front_stop(struct grpc_front *f)
{
	struct fsession *s, *tmp;

	if (!f)
		return;
	unix_close(f);
	if (f->threaded) {
		server_stop(f);
	} else if (f->cq) {
		grpc_server_shutdown_and_notify(f->server, f->cq, f);
		(void)grpc_completion_queue_next(f->cq, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
		grpc_completion_queue_shutdown(f->cq);
		(void)grpc_completion_queue_next(f->cq, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
	}
	loop_timer_disarm(f->loop, &f->sweep);
	list_for_each_safe (s, tmp, &f->sessions, link)
		fsession_end(s);
	if (f->server)
		grpc_server_destroy(f->server);
	if (f->cq)
		grpc_completion_queue_destroy(f->cq);
	if (f->plain)
		grpc_server_credentials_release(f->plain);
	grpc_shutdown_blocking();
	for (unsigned i = 0; i < ARRAY_LEN(f->strings); i++)
		free(f->strings[i]);
	mem_free(f->peers);
	mem_free(f->health_status);
	mem_free(f);
}
