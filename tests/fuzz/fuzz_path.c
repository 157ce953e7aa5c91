/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz_path - names and paths as hostile callers write them, on the names layer over the model. The
 * input is a program: each step a byte that chooses the op, a byte of flags, and one or two strings
 * with their lengths before them. After the last step the tree must be whole: every link count
 * right, every object an inode (fsx_check), and no name that a directory lists is one that the
 * rules forbid.
 */
#include "fs_util.h"

#include "fuzz.h"

#define STEPS_MAX 24

struct text {
	const char *bytes;
	uint32_t len;
};

/* A length (one byte, or above 250 a longer one, to get at the limits), then bytes. */
static struct text string(struct input *in)
{
	struct text t;
	size_t want = byte(in);

	if (want > 250)
		want = (want - 250) * 1024;
	t.len = (uint32_t)MIN(want, in->len);
	t.bytes = (const char *)in->data;
	in->data += t.len;
	in->len -= t.len;
	return t;
}

static const uint8_t opcodes[] = {
        PST_OP_LOOKUP,   PST_OP_CREATE,   PST_OP_MKDIR,   PST_OP_SYMLINK,
        PST_OP_LINK,     PST_OP_UNLINK,   PST_OP_RMDIR,   PST_OP_RENAME,
        PST_OP_READDIR,  PST_OP_READLINK, PST_OP_GETATTR, PST_OP_SETXATTR,
        PST_OP_GETXATTR, PST_OP_LOOKUP,   PST_OP_RENAME,  PST_OP_REMOVEXATTR,
};

static bool listed(struct pst_op *op, const struct pst_entry *e)
{
	pst_assert(e->name_len >= 1 && e->name_len <= PST_NAME_MAX);
	pst_assert(!memchr(e->name, '/', e->name_len) && !memchr(e->name, 0, e->name_len));
	pst_assert(e->name_len > 2 || memcmp(e->name, "..", e->name_len) != 0);
	return true;
}

static void step(struct fsx *x, struct input *in)
{
	uint8_t choice = byte(in), flags = byte(in);
	struct text path = string(in), second = string(in);
	struct pst_op op = fsx_op(x, opcodes[choice % ARRAY_LEN(opcodes)], NULL);
	char out[PST_PATH_MAX];
	int rc;

	op.name = path.bytes;
	op.name_len = path.len;
	op.flags = flags & (PST_F_EXCL | PST_F_NOFOLLOW | PST_F_EXCHANGE | PST_F_REPLACE);
	switch (op.opcode) {
	case PST_OP_SYMLINK:
	case PST_OP_LINK:
	case PST_OP_RENAME:
		op.name2 = second.bytes;
		op.name2_len = second.len;
		break;
	case PST_OP_SETXATTR:
	case PST_OP_GETXATTR:
	case PST_OP_REMOVEXATTR:
		op.key = second.bytes;
		op.key_len = second.len;
		op.val = out;
		op.val_cap = op.opcode == PST_OP_GETXATTR ? sizeof(out) : 0;
		break;
	case PST_OP_READLINK:
		op.val = out;
		op.val_cap = sizeof(out);
		break;
	case PST_OP_READDIR:
		op.start = second.len ? second.bytes : NULL;
		op.start_len = second.len;
		op.want_values = flags & 1;
		op.entry = listed;
		break;
	default:
		break;
	}
	rc = fsx_run(x, &op);
	pst_assert(rc <= 0 && rc > -4096 && rc != -EBADMSG && rc != -EIO);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {.data = data, .len = size};
	struct fs_opts small = {.requests_max = 4, .open_max = 16, .ino_range = 64};
	struct fsx x;

	fsx_open(&x, &small, NULL, 0);
	pst_assert(!fsx_mkdir(&x, "/d") && !fsx_create(&x, "/d/f", 0));
	pst_assert(!fsx_symlink(&x, "/l", "d") && !fsx_symlink(&x, "/loop", "loop"));
	for (unsigned i = 0; i < STEPS_MAX && in.len; i++)
		step(&x, &in);
	fsx_check(&x);
	fsx_close(&x);
	return 0;
}
