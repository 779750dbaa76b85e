// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * What the kernel has to be asked for before and after the job: file systems,
 * modules, the way out to the host, and the end.
 */
#define _GNU_SOURCE
#include "init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define BOOT_MODULES "/farm/modules.boot"
#define PORT_CLASS "/sys/class/virtio-ports"
#define PORT_WAIT_US (10 * 1000 * 1000)
/*
 * The driver copies each write into a kmalloc() of its size
 * (drivers/char/virtio_console.c, port_fops_write). One page is an allocation
 * that does not make the kernel compact or reclaim memory on our account.
 */
#define PORT_CHUNK 4096

uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void mount_basic(const char *type, const char *where)
{
	/* EBUSY: the kernel has mounted devtmpfs itself (CONFIG_DEVTMPFS_MOUNT). */
	if (mount(type, where, type, 0, NULL) && errno != EBUSY)
		die("mount %s on %s: %s", type, where, strerror(errno));
}

void boot_mount_basics(void)
{
	static const char *const directories[] = { "/proc", "/sys", "/dev", "/tmp" };

	for (size_t i = 0; i < sizeof(directories) / sizeof(*directories); i++)
		boot_make_directories(directories[i]);
	mount_basic("proc", "/proc");
	mount_basic("sysfs", "/sys");
	mount_basic("devtmpfs", "/dev");
	mount_basic("tmpfs", "/tmp");
	/*
	 * A kernel without debugfs cannot re-arm WARN_ON_ONCE, one without
	 * tracefs cannot count, which each step's end then says; it can be
	 * stressed all the same.
	 */
	mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
	mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, NULL);
}

/* mkdir -p */
void boot_make_directories(const char *path)
{
	char *copy = strdup(path);

	if (!copy)
		die("mkdir %s: out of memory", path);
	for (char *slash = copy + 1;; slash++) {
		bool last = *slash == '\0';

		if (!last && *slash != '/')
			continue;
		*slash = '\0';
		if (mkdir(copy, 0755) && errno != EEXIST)
			die("mkdir %s: %s", copy, strerror(errno));
		if (last)
			break;
		*slash = '/';
	}
	free(copy);
}

/* The whole file, with a NUL behind it, or NULL and errno. EFBIG if over LIMIT. */
char *boot_read_file(const char *path, size_t limit, size_t *length)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	char *bytes = NULL;
	size_t have = 0;
	int error = 0;

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st))
		error = errno;
	else if ((size_t)st.st_size > limit)
		error = EFBIG;
	else if (!(bytes = malloc((size_t)st.st_size + 1)))
		error = ENOMEM;
	while (!error && have < (size_t)st.st_size) {
		ssize_t n = read(fd, bytes + have, (size_t)st.st_size - have);

		if (n < 0)
			error = errno;
		if (n <= 0)
			break;
		have += (size_t)n;
	}
	close(fd);
	if (error) {
		free(bytes);
		errno = error;
		return NULL;
	}
	bytes[have] = '\0';
	*length = have;
	return bytes;
}

/* Writes TEXT in one call, as the files of proc, sysfs and debugfs want it; 0 or errno. */
int boot_write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	size_t length = strlen(text);
	ssize_t n;
	int error;

	if (fd < 0)
		return errno;
	n = write(fd, text, length);
	error = n < 0 ? errno : (size_t)n < length ? EIO : 0;
	close(fd);
	return error;
}

void boot_load_module(const char *name)
{
	char path[LINE_LIMIT + sizeof("/farm/modules/")];
	int fd;

	snprintf(path, sizeof(path), "/farm/modules/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die("open module %s: %s", path, strerror(errno));
	/* EEXIST: a boot module that the job names too. */
	if (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST)
		die("load module %s: %s", path, strerror(errno));
	close(fd);
}

void boot_load_boot_modules(void)
{
	size_t length;
	char *names = boot_read_file(BOOT_MODULES, 65536, &length);
	char *rest = names;

	if (!names && errno == ENOENT)
		return;
	if (!names)
		die("%s: %s", BOOT_MODULES, strerror(errno));
	for (char *name; (name = strsep(&rest, "\n"));)
		if (*name)
			boot_load_module(name);
	free(names);
}

/*
 * Links /dev/diskN to the disk with that serial number. Letters follow the order in which the disks
 * were found, and virtio devices come online side by side (drivers/s390/virtio/virtio_ccw.c,
 * virtio_ccw_auto_online), so that it differs from boot to boot.
 */
void boot_link_disks(void)
{
	DIR *disks = opendir("/sys/block");
	struct dirent *entry;

	if (!disks)
		die("/sys/block: %s", strerror(errno));
	while ((entry = readdir(disks))) {
		char path[sizeof("/sys/block/") + sizeof(entry->d_name) + sizeof("/serial")];
		char serial[21] = ""; /* 20 bytes: VIRTIO_BLK_ID_BYTES of linux/virtio_blk.h */
		char link[sizeof("/dev/") + sizeof(serial)];
		ssize_t n;
		int fd;

		if (strncmp(entry->d_name, "vd", 2))
			continue;
		snprintf(path, sizeof(path), "/sys/block/%s/serial", entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		n = fd < 0 ? -1 : read(fd, serial, sizeof(serial) - 1);
		if (n < 0)
			die("%s: %s", path, strerror(errno));
		close(fd);
		serial[strcspn(serial, "/\n")] = '\0';
		snprintf(link, sizeof(link), "/dev/%s", serial);
		if (symlink(entry->d_name, link))
			die("link %s to %s: %s", link, entry->d_name, strerror(errno));
	}
	closedir(disks);
}

/* Opens the ports that have got their names; the rest of WANT stays -1. */
static void open_named_ports(int *results, int *kmsg)
{
	DIR *class = opendir(PORT_CLASS);
	struct dirent *entry;

	if (!class) {
		/* The class appears with the driver. */
		if (errno != ENOENT)
			die("%s: %s", PORT_CLASS, strerror(errno));
		return;
	}
	while ((entry = readdir(class))) {
		char path[sizeof(PORT_CLASS) + sizeof(entry->d_name) + sizeof("/name")];
		char name[64];
		int *port;
		ssize_t n;
		int fd;

		snprintf(path, sizeof(path), PORT_CLASS "/%s/name", entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue; /* no name yet, or "." */
		n = read(fd, name, sizeof(name) - 1);
		close(fd);
		name[n > 0 ? n : 0] = '\0';
		name[strcspn(name, "\n")] = '\0';
		port = !strcmp(name, "farm.results") ? results :
		       !strcmp(name, "farm.kmsg") ? kmsg : NULL;
		if (!port || *port >= 0)
			continue;
		snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
		*port = open(path, O_WRONLY | O_CLOEXEC);
		if (*port < 0)
			die("%s (%s): %s", path, name, strerror(errno));
	}
	closedir(class);
}

/*
 * A port's name comes from the host after its device node is there
 * (drivers/char/virtio_console.c, handle_control_message); the kernel says so
 * with a uevent, which is what to wait for.
 */
void boot_find_ports(int *results, int *kmsg)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	uint64_t deadline = now_us() + PORT_WAIT_US;
	struct pollfd events = { .fd = -1, .events = POLLIN };
	char ignored[8192];

	*results = -1;
	*kmsg = -1;
	for (;;) {
		uint64_t now = now_us();

		open_named_ports(results, kmsg);
		if (*results >= 0 && *kmsg >= 0)
			break;
		if (now >= deadline)
			die("no virtio-serial port%s%s after %d s",
			    *results < 0 ? " farm.results" : "", *kmsg < 0 ? " farm.kmsg" : "",
			    PORT_WAIT_US / 1000000);
		if (events.fd < 0) {
			events.fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
					   NETLINK_KOBJECT_UEVENT);
			if (events.fd < 0 ||
			    bind(events.fd, (struct sockaddr *)&address, sizeof(address)))
				die("netlink socket for uevents: %s", strerror(errno));
			continue; /* look again: the name may have come before we listened */
		}
		if (poll(&events, 1, (int)((deadline - now) / 1000) + 1) > 0)
			while (recv(events.fd, ignored, sizeof(ignored), 0) >= 0)
				;
	}
	if (events.fd >= 0)
		close(events.fd);
}

/*
 * The ports are blocking: the driver then waits until the host is connected
 * and has room, which poll() cannot do (POLLHUP is up until the host connects).
 */
void port_write(int fd, const char *bytes, size_t length)
{
	while (length) {
		ssize_t n = write(fd, bytes, length < PORT_CHUNK ? length : PORT_CHUNK);

		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0) {
			/* No port is left to say it on. */
			dprintf(STDERR_FILENO, "farm: virtio-serial port: %s\n", strerror(errno));
			power_off();
		}
		bytes += n;
		length -= (size_t)n;
	}
}

/*
 * The kernel goes on with its power-off on the first CPU (kernel/reboot.c,
 * migrate_to_reboot_cpu) and orders the others to stop. One that has just lost
 * its task flushes its TLB, and under TCG the two then wait for each other for
 * ever (SIGP's run_on_cpu and start_exclusive of QEMU). So the move is made
 * early.
 */
static void move_to_first_cpu(void)
{
	cpu_set_t first;

	CPU_ZERO(&first);
	CPU_SET(0, &first);
	/* Without it the power-off is as good, but for QEMU. */
	sched_setaffinity(0, sizeof(first), &first);
}

/* No sync: disks live as long as the guest, and a hung writeback must not keep it alive. */
_Noreturn void power_off(void)
{
	move_to_first_cpu();
	reboot(RB_POWER_OFF);
	dprintf(STDERR_FILENO, "farm: power off: %s\n", strerror(errno));
	for (;;)
		pause();
}
