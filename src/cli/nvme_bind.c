/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nvme bind, nvme unbind: a controller on the PCI bus goes from the kernel's driver to vfio-pci, where
 * user space can have it, and back.
 *
 * A controller is taken away only when nobody uses its namespaces. The kernel itself is asked: each of
 * them is opened for exclusive use (which fails beside a mount, swap, device mapper, RAID or another
 * such open, also of a partition) and held so until the controller is in its new driver's hands. What
 * the files in /proc and /sys say is for the message; but for processes that have a namespace open
 * without more ado, which only /proc knows of.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "cli/cli.h"
#include "cli/nvme.h"
#include "nvme/vfio.h"

#define PCI_DEVICES    "/sys/bus/pci/devices"
#define PCI_DRIVERS    "/sys/bus/pci/drivers"
#define NAMESPACES_MAX 64u
#define CLASS_NVME     0x010802u

/* A PCI function, and where it is. */
struct function {
	struct cli *cli;
	char name[VFIO_PCI_NAME_MAX];
	char driver[64]; /* "": none */
	char group[32];  /* of the IOMMU; "": none */
	/* Namespaces that we hold for ourselves. */
	int held[NAMESPACES_MAX];
	unsigned held_count;
};

/* --- files of one line --- */

static bool read_line(const char *path, char *ret_text, size_t size)
{
	FILE *f = fopen(path, "re");
	bool ok = f && fgets(ret_text, (int)size, f);

	if (f)
		fclose(f);
	if (ok)
		ret_text[strcspn(ret_text, "\n")] = '\0';
	return ok;
}

static int write_line(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), rc = 0;
	size_t len = strlen(text);

	if (fd < 0)
		return -errno;
	if (write(fd, text, len) != (ssize_t)len)
		rc = -errno;
	close(fd);
	return rc;
}

/* The last part of where a link leads; "" when there is none. */
static void link_base(const char *path, char *ret_base, size_t size)
{
	char to[PATH_MAX];
	ssize_t n = readlink(path, to, sizeof(to) - 1);
	const char *slash;

	*ret_base = '\0';
	if (n <= 0)
		return;
	to[n] = '\0';
	slash = strrchr(to, '/');
	slash = slash ? slash + 1 : to;
	if (strlen(slash) < size)
		memcpy(ret_base, slash, strlen(slash) + 1);
}

/* Calls @fn with each name in the folder @path until it returns something else than 0. */
static int each_in(const char *path, int (*fn)(void *arg, const char *name), void *arg)
{
	DIR *d = opendir(path);
	struct dirent *e;
	int rc = 0;

	while (d && !rc && (e = readdir(d)))
		rc = e->d_name[0] == '.' ? 0 : fn(arg, e->d_name);
	if (d)
		closedir(d);
	return rc;
}

/* --- namespaces --- */

/* The block device of what a controller's folder calls nvme0n1, or nvme0c1n1 when it is one path of
 * several. False: no namespace's name. */
static bool disk_of(const char *name, char *ret_disk, size_t size)
{
	unsigned subsys, path, nsid;
	int end = 0;

	if (sscanf(name, "nvme%un%u%n", &subsys, &nsid, &end) == 2 && !name[end]) {
		snprintf(ret_disk, size, "%s", name);
		return true;
	}
	end = 0;
	if (sscanf(name, "nvme%uc%un%u%n", &subsys, &path, &nsid, &end) != 3 || name[end])
		return false;
	snprintf(ret_disk, size, "nvme%un%u", subsys, nsid);
	return true;
}

/* Something on the disk that may be in use: the disk itself, or a partition of it. */
struct part {
	const char *disk;
	char name[64];
	unsigned major, minor;
	char why[256]; /* out */
};

static bool is_mounted(struct part *p)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char line[4096], where[1024];
	unsigned major, minor;
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f))
		found = sscanf(line, "%*u %*u %u:%u %*s %1023s", &major, &minor, where) == 3 &&
		        major == p->major && minor == p->minor;
	if (f)
		fclose(f);
	if (found)
		snprintf(p->why, sizeof(p->why), "/dev/%s is mounted on %.128s", p->name, where);
	return found;
}

static bool is_swap(struct part *p)
{
	FILE *f = fopen("/proc/swaps", "re");
	char line[1024], path[64];
	bool found = false;

	snprintf(path, sizeof(path), "/dev/%.48s ", p->name);
	while (f && !found && fgets(line, sizeof(line), f))
		found = strncmp(line, path, strlen(path)) == 0;
	if (f)
		fclose(f);
	if (found)
		snprintf(p->why, sizeof(p->why), "/dev/%s is swap", p->name);
	return found;
}

static int holder_found(void *arg, const char *name)
{
	struct part *p = arg;

	snprintf(p->why, sizeof(p->why), "/dev/%s is part of /dev/%.64s", p->name, name);
	return 1;
}

/* @name is an entry in the disk's folder: the disk's own dev, or a partition's folder. */
static int part_found(void *arg, const char *name)
{
	struct part *p = arg;
	char path[256], dev[32];
	const char *sub = "";

	if (strcmp(name, "dev") != 0) {
		if (strncmp(name, p->disk, strlen(p->disk)) != 0 || strlen(name) >= sizeof(p->name))
			return 0;
		sub = name;
	}
	snprintf(path, sizeof(path), "/sys/block/%.48s/%s/dev", p->disk, sub);
	if (!read_line(path, dev, sizeof(dev)) || sscanf(dev, "%u:%u", &p->major, &p->minor) != 2)
		return 0;
	snprintf(p->name, sizeof(p->name), "%s", *sub ? sub : p->disk);
	if (is_mounted(p) || is_swap(p))
		return 1;
	snprintf(path, sizeof(path), "/sys/block/%.48s/%s/holders", p->disk, sub);
	return each_in(path, holder_found, p);
}

/* --- processes that have it open --- */

struct opener {
	const char *disk;
	char fds[64];
	char pid[16];
};

static int fd_found(void *arg, const char *name)
{
	struct opener *o = arg;
	char path[128], to[64];

	snprintf(path, sizeof(path), "%s/%.32s", o->fds, name);
	link_base(path, to, sizeof(to));
	/* The disk, or a partition of it: nvme0n1, nvme0n1p2; not nvme0n10. */
	return strncmp(to, o->disk, strlen(o->disk)) == 0 &&
	       (!to[strlen(o->disk)] || to[strlen(o->disk)] == 'p');
}

static int process_found(void *arg, const char *name)
{
	struct opener *o = arg;

	if (name[strspn(name, "0123456789")] || strlen(name) >= sizeof(o->pid) ||
	    strtol(name, NULL, 10) == getpid())
		return 0;
	snprintf(o->pid, sizeof(o->pid), "%s", name);
	snprintf(o->fds, sizeof(o->fds), "/proc/%s/fd", o->pid);
	return each_in(o->fds, fd_found, o);
}

/* --- taking it for ourselves --- */

static int hold(struct function *f, const char *disk)
{
	struct opener o = {.disk = disk};
	struct part p = {.disk = disk};
	char path[64], comm[64] = "?";
	int fd;

	snprintf(path, sizeof(path), "/sys/block/%.48s", disk);
	if (each_in(path, part_found, &p))
		return cli_fail(f->cli, 0, "%s: in use: %s", f->name, p.why);
	if (f->held_count == NAMESPACES_MAX)
		return cli_fail(f->cli, 0, "%s: has more than %u namespaces", f->name,
		                NAMESPACES_MAX);
	snprintf(path, sizeof(path), "/dev/%.48s", disk);
	fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);
	if (fd < 0 && errno == EBUSY)
		return cli_fail(f->cli, 0, "%s: in use: the kernel says that %s is busy", f->name,
		                path);
	if (fd < 0)
		return cli_fail(f->cli, -errno, "%s: can't tell whether it is in use: %s", f->name,
		                path);
	f->held[f->held_count++] = fd;
	if (!each_in("/proc", process_found, &o))
		return CLI_OK;
	snprintf(path, sizeof(path), "/proc/%s/comm", o.pid);
	read_line(path, comm, sizeof(comm));
	return cli_fail(f->cli, 0, "%s: in use: process %s (%s) has /dev/%s open", f->name, o.pid,
	                comm, disk);
}

struct holding {
	struct function *f;
	char path[PATH_MAX];
	int status;
};

static int namespace_found(void *arg, const char *name)
{
	struct holding *h = arg;
	char disk[64];

	if (!disk_of(name, disk, sizeof(disk)))
		return 0;
	h->status = hold(h->f, disk);
	return h->status != CLI_OK;
}

static int controller_found(void *arg, const char *name)
{
	struct holding *h = arg;

	snprintf(h->path, sizeof(h->path), PCI_DEVICES "/%s/nvme/%.32s", h->f->name, name);
	return each_in(h->path, namespace_found, h);
}

static int hold_all(struct function *f)
{
	struct holding h = {.f = f, .status = CLI_OK};
	char path[128], count[16] = "0";

	snprintf(path, sizeof(path), PCI_DEVICES "/%s/sriov_numvfs", f->name);
	if (read_line(path, count, sizeof(count)) && strcmp(count, "0") != 0)
		return cli_fail(f->cli, 0,
		                "%s: in use: it has %s virtual functions (see sriov_numvfs)",
		                f->name, count);
	snprintf(path, sizeof(path), PCI_DEVICES "/%s/nvme", f->name);
	each_in(path, controller_found, &h);
	return h.status;
}

static void release_all(struct function *f)
{
	while (f->held_count)
		close(f->held[--f->held_count]);
}

/* --- which function is meant --- */

struct finding {
	const char *node; /* nvme0, or nvme0n1 */
	char ctrlr[64];
	unsigned count;
};

static int node_is_namespace(void *arg, const char *name)
{
	const struct finding *s = arg;
	char disk[64];

	return disk_of(name, disk, sizeof(disk)) && strcmp(disk, s->node) == 0;
}

static int node_is_controller(void *arg, const char *name)
{
	struct finding *s = arg;
	char path[128];

	snprintf(path, sizeof(path), "/sys/class/nvme/%.64s", name);
	if (strcmp(name, s->node) != 0 && !each_in(path, node_is_namespace, s))
		return 0;
	snprintf(s->ctrlr, sizeof(s->ctrlr), "%.63s", name);
	s->count++;
	return 0;
}

/* The address of the controller behind /dev/nvme0 or /dev/nvme0n1. */
static int find_node(struct function *f, const char *node)
{
	struct finding s = {.node = node};
	char path[128], address[64];

	each_in("/sys/class/nvme", node_is_controller, &s);
	if (!s.count)
		return cli_fail(f->cli, 0,
		                "/dev/%s: no NVMe controller or namespace of the kernel's", node);
	if (s.count > 1)
		return cli_fail(f->cli, 0, "/dev/%s: has %u controllers: name one, by its address",
		                node, s.count);
	snprintf(path, sizeof(path), "/sys/class/nvme/%s/address", s.ctrlr);
	if (!read_line(path, address, sizeof(address)) || !vfio_pci_name(address, f->name))
		return cli_fail(f->cli, 0, "/dev/%s: not on the PCI bus", node);
	return CLI_OK;
}

static void look(struct function *f)
{
	char path[128];

	snprintf(path, sizeof(path), PCI_DEVICES "/%s/driver", f->name);
	link_base(path, f->driver, sizeof(f->driver));
	snprintf(path, sizeof(path), PCI_DEVICES "/%s/iommu_group", f->name);
	link_base(path, f->group, sizeof(f->group));
}

static int find(struct function *f, struct cli *cli, const char *dev)
{
	char path[128], class24[16];
	int status;

	memset(f, 0, sizeof(*f));
	f->cli = cli;
	if (strncmp(dev, "/dev/", 5) == 0) {
		status = find_node(f, dev + 5);
		if (status != CLI_OK)
			return status;
	} else if (!vfio_pci_name(strncmp(dev, "nvme:", 5) == 0 ? dev + 5 : dev, f->name)) {
		return cli_fail(cli, 0,
		                "%s: no PCI address (0000:01:00.0) and no device (/dev/nvme0)",
		                dev);
	}
	snprintf(path, sizeof(path), PCI_DEVICES "/%s/class", f->name);
	if (!read_line(path, class24, sizeof(class24)))
		return cli_fail(cli, 0, "%s: there is no such PCI function", f->name);
	if (strtoul(class24, NULL, 16) != CLASS_NVME)
		return cli_fail(cli, 0, "%s: no NVMe controller (PCI class %s)", f->name, class24);
	look(f);
	return CLI_OK;
}

/* --- from driver to driver --- */

static int set_override(const struct function *f, const char *driver)
{
	char path[128];

	snprintf(path, sizeof(path), PCI_DEVICES "/%s/driver_override", f->name);
	return write_line(path, driver);
}

static int leave_driver(const struct function *f)
{
	char path[128];

	if (!*f->driver)
		return 0;
	snprintf(path, sizeof(path), PCI_DEVICES "/%s/driver/unbind", f->name);
	return write_line(path, f->name);
}

/* Leaves its driver for the one that @override names ("\n": the kernel's choice). */
static int move(struct function *f, const char *override)
{
	int rc = set_override(f, override);

	if (!rc)
		rc = leave_driver(f);
	if (!rc)
		rc = write_line("/sys/bus/pci/drivers_probe", f->name);
	look(f);
	return rc;
}

static int say(struct function *f, const char *was)
{
	if (f->cli->json)
		return cli_print_json(f->cli,
		                      json_pack("{s:s, s:s, s:s, s:s}", "device", f->name, "driver",
		                                f->driver, "was", was, "iommu_group", f->group));
	printf("%s: %s -> %s\n", f->name, *was ? was : "no driver", f->driver);
	return CLI_OK;
}

static int bind_it(struct function *f)
{
	char was[64];
	int status, rc;

	snprintf(was, sizeof(was), "%s", f->driver);
	if (strcmp(was, "vfio-pci") == 0)
		return say(f, was);
	if (!*f->group)
		return cli_fail(f->cli, 0,
		                "%s: in no IOMMU group: is the IOMMU on (intel_iommu=on)? Without "
		                "one a device can't be given to a process safely",
		                f->name);
	if (access(PCI_DRIVERS "/vfio-pci", F_OK))
		return cli_fail(f->cli, 0, "the driver vfio-pci isn't there: modprobe vfio-pci");
	status = hold_all(f);
	if (status != CLI_OK)
		return status;
	rc = move(f, "vfio-pci");
	if (!rc && strcmp(f->driver, "vfio-pci") == 0)
		return say(f, was);
	if (move(f, "\n"))
		cli_note(f->cli, "%s: and it could not go back to its driver", f->name);
	return cli_fail(f->cli, rc, "%s: vfio-pci does not take it", f->name);
}

static int unbind_it(struct function *f)
{
	char was[64], path[64];
	int fd, rc;

	snprintf(was, sizeof(was), "%s", f->driver);
	if (strcmp(was, "vfio-pci") != 0 && *was)
		return say(f, was);
	/* The kernel would wait for the process that has it, for ever. */
	snprintf(path, sizeof(path), "/dev/vfio/%s", f->group);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 && errno == EBUSY)
		return cli_fail(f->cli, 0, "%s: in use by another process (%s)", f->name, path);
	if (fd >= 0)
		close(fd);
	rc = move(f, "\n");
	if (rc)
		return cli_fail(f->cli, rc, "%s: vfio-pci does not let go of it", f->name);
	if (!*f->driver)
		return cli_fail(f->cli, 0, "%s: no driver of the kernel's takes it: modprobe nvme",
		                f->name);
	return say(f, was);
}

static int run(struct cli *cli, int argc, char **argv, int (*fn)(struct function *f))
{
	struct function f;
	int status = CLI_OK;

	if (cli_operands(cli, argc, argv, 1, -1) < 0)
		return cli_end_status(cli);
	for (int i = 0; i < cli->arg_count && status == CLI_OK; i++) {
		status = find(&f, cli, cli->args[i]);
		if (status == CLI_OK)
			status = fn(&f);
		release_all(&f);
	}
	return status;
}

static int run_bind(struct cli *cli, int argc, char **argv)
{
	return run(cli, argc, argv, bind_it);
}

static int run_unbind(struct cli *cli, int argc, char **argv)
{
	return run(cli, argc, argv, unbind_it);
}

const struct cli_command nvme_bind = {
        .name = "nvme bind",
        .args = "DEV...",
        .summary = "Take a controller from the kernel, for use from user space",
        .help = "Hands NVMe controllers on the PCI bus over from the kernel's driver to vfio-pci, "
                "so\n"
                "that they can be used as nvme:ADDRESS. DEV is a PCI address or a device node of "
                "the\n"
                "kernel's. All of a controller's namespaces go with it.\n"
                "\n"
                "One is refused while a namespace of it, or a partition of one, is mounted, swap, "
                "part\n"
                "of another device (device mapper, RAID), or open in a process; or while it has\n"
                "virtual functions. It needs an IOMMU and the driver vfio-pci.\n"
                "\n"
                "Examples:\n"
                "  penstock nvme bind /dev/nvme1\n"
                "  penstock nvme bind 0000:01:00.0\n",
        .flags = CLI_JSON | CLI_NO_STORE,
        .run = run_bind,
};

const struct cli_command nvme_unbind = {
        .name = "nvme unbind",
        .args = "DEV...",
        .summary = "Give a controller back to the kernel",
        .help = "Hands NVMe controllers that `penstock nvme bind` took back to the kernel's "
                "driver. One\n"
                "that a process uses is refused.\n"
                "\n"
                "Examples:\n"
                "  penstock nvme unbind 0000:01:00.0\n",
        .flags = CLI_JSON | CLI_NO_STORE,
        .run = run_unbind,
};
