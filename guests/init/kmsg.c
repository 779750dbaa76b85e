// SPDX-License-Identifier: MIT OR Apache-2.0
/* The kernel's log: records out to the host, marks of ours into it. */
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define KMSG "/dev/kmsg"
#define CLEAR_WARN_ONCE "/sys/kernel/debug/clear_warn_once"
/* read() gives one record or fails: kernel/printk/printk.c, CONSOLE_EXT_LOG_MAX. */
#define RECORD_MAX 8192
/*
 * The whole ring buffer takes a fraction of this. A kernel that logs without
 * end must not keep a step from ending.
 */
#define DRAIN_LIMIT_US (1000 * 1000)

static int log_fd = -1;
static int log_port = -1;
static uint64_t last_sequence;

void kmsg_open(int port)
{
	/*
	 * Unlimited writes for programs: refused where the kernel's argument
	 * printk.devkmsg= has decided already, which is as good.
	 */
	int error = boot_write_file("/proc/sys/kernel/printk_devkmsg", "on\n");

	if (error && error != EINVAL)
		die("/proc/sys/kernel/printk_devkmsg: %s", strerror(error));
	log_fd = open(KMSG, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (log_fd < 0)
		die("%s: %m", KMSG);
	log_port = port;
}

int kmsg_fd(void)
{
	return log_fd;
}

uint64_t kmsg_last_sequence(void)
{
	return last_sequence;
}

/* A record begins PRIORITY,SEQUENCE, (Documentation/ABI/testing/dev-kmsg). */
static void note_sequence(const char *record, size_t length)
{
	const char *end = record + length;
	const char *c = memchr(record, ',', length);
	uint64_t sequence = 0;

	if (!c)
		return;
	for (c++; c < end && *c >= '0' && *c <= '9'; c++)
		sequence = sequence * 10 + (uint64_t)(*c - '0');
	last_sequence = sequence;
}

/* Passes on one batch of records; true if there may be more. */
bool kmsg_forward(void)
{
	static char batch[4 * RECORD_MAX];
	size_t used = 0;
	bool more = true;

	while (sizeof(batch) - used >= RECORD_MAX) {
		ssize_t n = read(log_fd, batch + used, RECORD_MAX);

		if (n > 0) {
			note_sequence(batch + used, (size_t)n);
			used += (size_t)n;
			continue;
		}
		/* Records were overwritten unread: the next read goes on behind the gap. */
		if (n < 0 && errno == EPIPE)
			continue;
		if (n < 0 && errno != EAGAIN)
			die("%s: %m", KMSG);
		more = false;
		break;
	}
	port_write(log_port, batch, used);
	return more;
}

/* To the end of the log, as it is now. */
void kmsg_drain(void)
{
	uint64_t deadline = now_us() + DRAIN_LIMIT_US;

	while (kmsg_forward() && now_us() < deadline)
		;
}

void kmsg_mark(const char *format, ...)
{
	char text[256];
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (length >= (int)sizeof(text))
		length = sizeof(text) - 1;
	/* Without it the record stays open for more, and no reader gets it before the next one. */
	text[length++] = '\n';
	if (write(log_fd, text, (size_t)length) < 0)
		die("%s: %m", KMSG);
}

/* Lets every WARN_ON_ONCE() fire once more. */
bool kmsg_rearm_warnings(void)
{
	return boot_write_file(CLEAR_WARN_ONCE, "1") == 0;
}
