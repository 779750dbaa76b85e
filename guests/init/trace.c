// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * What the kernel does around its first complaint: it traces what the job
 * names into its ring buffer (Documentation/trace/ftrace.rst), which then holds
 * the last few thousand events of each CPU, and stops at the first WARN
 * (traceoff_on_warning; an oops stops it anyway, kernel/panic.c, oops_enter).
 * Init notices that when it passes the complaint's records on, and hands the
 * last events out, and so it does when a step has run into its limit. Of a kernel that is dead by then the host gets them
 * otherwise, for which it is told where two of its functions are.
 *
 * It is the global buffer: neither the sysctl nor ftrace_dump() know another
 * one in all kernels. Its clock, "local", is sched_clock(), which on s390 is the
 * same on all CPUs (the TOD clock) and that of the log's times.
 */
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TRACING "/sys/kernel/tracing/"
#define TRACING_ON TRACING "tracing_on"
/* Of each CPU: some three thousand events, which take 60 ms to print under TCG. */
#define RING_BUFFER_KIB "128"
/* What is handed out of each CPU's. */
#define KEPT_EVENTS 256
/* A line is cut here; of most events it has some 120 bytes. */
#define KEPT_BYTES 400

static bool on;
static int on_fd = -1;

static void report_refusal(const char *what, const char *reason)
{
	report("{\"type\":\"untraced\",\"what\":");
	report_json_string(what);
	report(",\"reason\":");
	report_json_string(reason);
	report("}\n");
}

/* An event at the entry of a function, which tells who calls it. */
static void trace_function(const char *function)
{
	char name[SYMBOL_LIMIT + 1], command[2 * SYMBOL_LIMIT + 64], event[SYMBOL_LIMIT + 8];
	int error;

	snprintf(name, sizeof(name), "%s", function);
	for (char *c = name; (c = strchr(c, '.'));)
		*c = '_';
	snprintf(command, sizeof(command), "p:farm/%s %s caller=%%r14:symbol", name, function);
	error = boot_write_file(TRACING "kprobe_events", command);
	if (error) {
		report_refusal(function, count_refusal(command, error));
		return;
	}
	snprintf(event, sizeof(event), "farm:%s", name);
	error = boot_write_file(TRACING "set_event", event);
	if (error)
		report_refusal(function, strerror(error));
}

static void trace_one(const char *what)
{
	int error;

	if (!strchr(what, ':')) {
		trace_function(what);
		return;
	}
	error = boot_write_file(TRACING "set_event", what);
	if (error)
		report_refusal(what, error == EINVAL ? "this kernel has no such event" : strerror(error));
}

/* Where the host finds what it has a dead kernel do; 0 where the kernel does not say. */
static void report_symbols(void)
{
	FILE *symbols = fopen("/proc/kallsyms", "re");
	unsigned long long address, dump = 0, panic = 0;
	char line[SYMBOL_LIMIT + 128], name[SYMBOL_LIMIT + 1];

	while (symbols && !(dump && panic) && fgets(line, sizeof(line), symbols)) {
		if (sscanf(line, "%llx %*c %511s", &address, name) != 2)
			continue;
		if (!strcmp(name, "ftrace_dump"))
			dump = address;
		else if (!strcmp(name, "panic"))
			panic = address;
	}
	if (symbols)
		fclose(symbols);
	report("{\"type\":\"tracing\",\"ftrace_dump\":%llu,\"panic\":%llu}\n", dump, panic);
}

void trace_begin(const struct job *job)
{
	static const char *const settings[][2] = {
		{ "/proc/sys/kernel/traceoff_on_warning", "1" },
		{ TRACING "buffer_size_kb", RING_BUFFER_KIB },
		{ TRACING_ON, "1" },
	};

	if (!job->trace_count)
		return;
	for (size_t i = 0; i < sizeof(settings) / sizeof(*settings); i++) {
		int error = boot_write_file(settings[i][0], settings[i][1]);

		if (error) {
			report_refusal(settings[i][0], strerror(error));
			report_flush();
			return;
		}
	}
	on_fd = open(TRACING_ON, O_RDONLY | O_CLOEXEC);
	on = on_fd >= 0;
	report_symbols();
	for (size_t i = 0; i < job->trace_count; i++)
		trace_one(job->traces[i]);
	report_flush();
}

/* False when there is no such CPU. */
static bool report_cpu(unsigned int cpu)
{
	static char ring[KEPT_EVENTS][KEPT_BYTES];
	char path[64], line[4096];
	size_t count = 0;
	FILE *trace;

	snprintf(path, sizeof(path), TRACING "per_cpu/cpu%u/trace", cpu);
	trace = fopen(path, "re");
	if (!trace)
		return false;
	while (fgets(line, sizeof(line), trace)) {
		if (*line == '#')
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(ring[count++ % KEPT_EVENTS], KEPT_BYTES, "%.*s", KEPT_BYTES - 1, line);
	}
	fclose(trace);
	for (size_t i = count > KEPT_EVENTS ? count - KEPT_EVENTS : 0; i < count; i++) {
		report("{\"type\":\"event\",\"text\":");
		report_json_string(ring[i % KEPT_EVENTS]);
		report("}\n");
	}
	report_flush();
	return true;
}

/* A step took too long, and what it hangs in says nothing: these are the events that matter. */
void trace_stop(void)
{
	if (on && boot_write_file(TRACING_ON, "0") == 0)
		trace_look();
}

/* Hands the last events out if the kernel has stopped to trace. */
void trace_look(void)
{
	char state = '1';

	if (!on || pread(on_fd, &state, 1, 0) != 1 || state != '0')
		return;
	on = false;
	for (unsigned int cpu = 0; report_cpu(cpu); cpu++)
		;
	report("{\"type\":\"traced\"}\n");
	report_flush();
}
