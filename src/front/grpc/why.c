/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * why - a refusal in a sentence: what was asked about, and what is wrong with it. The rooms below say errno
 * values; what the caller named is in its message.
 */
#include <stdio.h>

#include "front/grpc/grpc_int.h"

int call_fail(struct gcall *c, int status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(c->why, sizeof(c->why), fmt, ap);
	va_end(ap);
	return status;
}

const char *shown(char buf[SHOWN_MAX], const char *s)
{
	return text_show(buf, SHOWN_MAX, s, strlen(s));
}

const char *method_name(const struct gcall *c)
{
	return strrchr(c->method->path, '/') + 1;
}

const char *name_field(const struct gcall *c)
{
	return c->method->in == &penstock__v1__read_dir_request__descriptor ? "name." : "";
}

/* --- what a request was about --- */

enum about { ABOUT_CONT, ABOUT_SNAP, ABOUT_NAME };

static void about_cont(char *buf, size_t len, const char *name, uint32_t id)
{
	char text[SHOWN_MAX];

	if (name[0])
		(void)snprintf(buf, len, "container \"%s\"", shown(text, name));
	else if (id)
		(void)snprintf(buf, len, "container %u", id);
	else
		(void)snprintf(buf, len, "the containers");
}

static void about_name(char *buf, size_t len, const Penstock__V1__NameRequest *in)
{
	char one[SHOWN_MAX], two[SHOWN_MAX], dir[48] = "", view[48] = "";

	(void)text_show(one, sizeof(one), (const char *)in->path.data, in->path.len);
	(void)text_show(two, sizeof(two), (const char *)in->path2.data, in->path2.len);
	if (in->dir)
		(void)snprintf(dir, sizeof(dir), " from directory %llu",
		               (unsigned long long)in->dir);
	if (in->view)
		(void)snprintf(view, sizeof(view), ", snapshot view %llu",
		               (unsigned long long)in->view);
	(void)snprintf(buf, len, "\"%s\"%s%s%s%s in container %u%s", one, dir,
	               in->path2.len ? ", \"" : "", two, in->path2.len ? "\"" : "", in->container,
	               view);
}

/* The messages whose requests go through sessions. */
static enum about about(const struct gcall *c, char *buf, size_t len)
{
	const ProtobufCMessageDescriptor *d = c->method->in;

	if (d == &penstock__v1__container_request__descriptor) {
		const Penstock__V1__ContainerRequest *in = (const void *)c->in;

		about_cont(buf, len, in->container->name, in->container->id);
		return ABOUT_CONT;
	}
	if (d == &penstock__v1__list_request__descriptor) {
		about_cont(buf, len,
		           ((const Penstock__V1__ListRequest *)(const void *)c->in)->container, 0);
		return ABOUT_CONT;
	}
	if (d == &penstock__v1__snapshot_request__descriptor) {
		const Penstock__V1__SnapshotRequest *in = (const void *)c->in;
		char one[SHOWN_MAX], two[SHOWN_MAX];

		(void)snprintf(buf, len, "snapshot \"%s\" of container \"%s\"",
		               shown(one, in->name), shown(two, in->container));
		return ABOUT_SNAP;
	}
	about_name(buf, len,
	           d == &penstock__v1__read_dir_request__descriptor
	                   ? ((const Penstock__V1__ReadDirRequest *)(const void *)c->in)->name
	                   : (const void *)c->in);
	return ABOUT_NAME;
}

/* --- and what is wrong with it --- */

static const struct {
	int status;
	const char *cont, *snap, *name; /* NULL: as for containers */
} reasons[] = {
        {-ENOENT, "there is none that this session may see",
         "there is no such snapshot or container that this session may see",
         "nothing is there, or there is no such container, view or directory"},
        {-EEXIST, "it is there already", NULL, "something is there already"},
        {-EACCES, "no capability of this session allows it", NULL, NULL},
        {-EKEYREVOKED, "the capability that allowed it was revoked", NULL, NULL},
        {-EKEYEXPIRED, "the capability that allowed it has expired", NULL, NULL},
        {-EPERM, "the capability does not give that user or group id", NULL,
         "not on a file of this kind, or the capability does not give that user or group id"},
        {-EBUSY, "it has snapshots: destroy those first", "it is in use", "it is in use"},
        {-EROFS, "the store is read only", NULL, "a snapshot, or a store that is read only"},
        {-ENOTSUP, "this store has no such layout, properties or snapshots", NULL,
         "a container of objects has no names, or the store can't do that"},
        {-ENOTDIR, "it is no directory", NULL, "a part of the path is no directory"},
        {-EISDIR, "it is a directory", NULL, NULL},
        {-ENOTEMPTY, "it is not empty", NULL, NULL},
        {-ELOOP, "more symbolic links than are followed", NULL, NULL},
        {-EMLINK, "it has as many links as a file can have", NULL, NULL},
        {-ENAMETOOLONG, "a name has at most 255 bytes", NULL, NULL},
        {-EFBIG, "larger than a file can be", NULL, NULL},
        {-EINVAL, "the layout, properties or quota are none that it can have", "both need a name",
         "the path, flags or attributes are none that this takes"},
        {-ENOSPC, "the store is full", NULL, NULL},
        {-EDQUOT, "the container's quota is used up", NULL, NULL},
        {-EAGAIN, "as many requests are under way as the session and its tenant may have", NULL,
         NULL},
        {-ESTALE, "a later sequence was seen in the token's slot", NULL,
         "a later sequence was seen in the token's slot, or the directory is gone"},
        {-EPROTO,
         "token: slots are those that OpenSession gave, and sequences go on by one; the session is "
         "closed",
         NULL, NULL},
        {-EBADF, "the handle is none that this session was given", NULL, NULL},
        {-ENFILE, "the session holds as many files open as it may", NULL, NULL},
        {-ENOMEM, "the server has no memory for it now", NULL, NULL},
        {-EIO, "the device failed, or the store has stopped: the server's log says more", NULL,
         NULL},
        {-EREMOTEIO, "the device is gone, and the store has stopped", NULL, NULL},
        {-ECONNABORTED, "the session was closed or taken over meanwhile", NULL, NULL},
};

void why_request(struct gcall *c, int status)
{
	char what[400];
	enum about a = about(c, what, sizeof(what));

	for (unsigned i = 0; i < ARRAY_LEN(reasons); i++) {
		const char *s = a == ABOUT_SNAP   ? reasons[i].snap
		                : a == ABOUT_NAME ? reasons[i].name
		                                  : NULL;

		if (reasons[i].status != status)
			continue;
		(void)call_fail(c, status, "%s: %s", what, s ? s : reasons[i].cont);
		return;
	}
	(void)call_fail(c, status, "%s: %s", what, strerror(-status));
}
