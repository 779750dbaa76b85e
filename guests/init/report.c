// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * The results stream. Init's own JSON lines begin in the first column; what a
 * program printed is indented, so that it cannot forge one.
 */
#define _GNU_SOURCE
#include "init.h"

#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#define LINE_INDENT "    "

static int port = -1;
static char buffer[16384];
static size_t used;

void report_open(int fd)
{
	port = fd;
}

void report_flush(void)
{
	port_write(port, buffer, used);
	used = 0;
}

static void put(const char *bytes, size_t length)
{
	while (length) {
		size_t room = sizeof(buffer) - used;
		size_t n = length < room ? length : room;

		memcpy(buffer + used, bytes, n);
		used += n;
		bytes += n;
		length -= n;
		if (used == sizeof(buffer))
			report_flush();
	}
}

void report(const char *format, ...)
{
	char text[512];
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	put(text, (size_t)length < sizeof(text) ? (size_t)length : sizeof(text) - 1);
}

/*
 * Bytes outside printable ASCII become U+0000 to U+00FF: always valid JSON,
 * never a terminal's escape.
 */
void report_json_string(const char *text)
{
	put("\"", 1);
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < 0x20 || c > 0x7e)
			report("\\u%04x", c);
		else if (c == '"' || c == '\\')
			report("\\%c", c);
		else
			put(text, 1);
	}
	put("\"", 1);
}

static bool is_plain(char c)
{
	return (c >= 0x20 && c <= 0x7e) || c == '\t';
}

static void put_hex(char c)
{
	static const char digits[] = "0123456789abcdef";
	char escape[4] = { '\\', 'x', digits[(unsigned char)c >> 4], digits[c & 15] };

	put(escape, sizeof(escape));
}

/* A test's name: '#' would begin a KTAP directive. */
void report_name(const char *name)
{
	for (; *name; name++) {
		if (*name == '#' || !is_plain(*name))
			put_hex(*name);
		else
			put(name, 1);
	}
}

/* Text of others: each line indented, and every byte that is no text as \xNN. */
void report_escaped(const char *bytes, size_t length)
{
	const char *end = bytes + length;

	while (bytes < end) {
		put(LINE_INDENT, strlen(LINE_INDENT));
		while (bytes < end && *bytes != '\n') {
			const char *plain = bytes;

			while (bytes < end && is_plain(*bytes))
				bytes++;
			put(plain, (size_t)(bytes - plain));
			for (; bytes < end && *bytes != '\n' && !is_plain(*bytes); bytes++)
				put_hex(*bytes);
		}
		put("\n", 1);
		if (bytes < end)
			bytes++;
	}
}

void report_ready(void)
{
	struct utsname uts;
	struct sysinfo info;
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	if (uname(&uts) || sysinfo(&info) || sched_getaffinity(0, sizeof(cpus), &cpus))
		die("uname, sysinfo or sched_getaffinity: %m");
	report("{\"type\":\"ready\",\"protocol\":%d,\"release\":", PROTOCOL_VERSION);
	report_json_string(uts.release);
	report(",\"cpus\":%d,\"memory_kib\":%llu,\"uptime_us\":%llu}\n", CPU_COUNT(&cpus),
	       (unsigned long long)info.totalram * info.mem_unit / 1024,
	       (unsigned long long)now_us());
	report_flush();
}

/* Trouble of init's own: said where the host can read it, and then the end of the guest. */
_Noreturn void die(const char *format, ...)
{
	static bool dying;
	char text[LINE_LIMIT + 512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (port < 0) {
		dprintf(STDERR_FILENO, "farm: %s\n", text);
	} else {
		report("{\"type\":\"error\",\"text\":");
		report_json_string(text);
		report("}\n");
		report_flush();
		/* Why it failed often stands in the kernel's log; trouble with that ends here. */
		if (kmsg_fd() >= 0 && !dying) {
			dying = true;
			kmsg_drain();
		}
	}
	power_off();
}
