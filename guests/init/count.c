// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * How often the kernel calls its functions while the workers of a step run: a
 * kprobe event at the entry of each, and what kprobe_profile says of its hits
 * and misses (Documentation/trace/kprobetrace.rst).
 *
 * A hit is counted before anything else is done with it (kernel/trace/
 * trace_kprobe.c, kprobe_dispatcher), so the ring buffer stays off. A miss is a
 * call too: one that came while this CPU was in the probe of another. Where
 * the job has a trace the ring buffer is that one's, and calls are seen there.
 *
 * An event that has been made stays, and is only armed and disarmed: to remove
 * one waits for RCU, 80 ms under TCG. What a step gets is a difference.
 */
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TRACING "/sys/kernel/tracing/"
#define EVENTS TRACING "kprobe_events"
#define PROFILE TRACING "kprobe_profile"
#define ERROR_LOG TRACING "error_log"
/* Nothing is written to it, and the default of 1.4 MiB a CPU would be the workers' loss. */
#define RING_BUFFER_KIB "4"
#define REASON_LIMIT 512
#define PATH_SIZE 128

struct event {
	struct event *next;
	unsigned int number;		/* its name is farm_NUMBER */
	bool armed;
	uint64_t hits, missed;		/* since it was made, as last read */
	char symbol[];
};

/* What becomes of one `touch` of the step. */
struct tally {
	struct event *event;		/* NULL: not counted, for this reason */
	uint64_t hits, missed;		/* of the event when the workers started */
	char reason[REASON_LIMIT];
};

static struct event *events;		/* the newest first */
static struct tally tallies[TOUCH_LIMIT];

static void add_reason(struct tally *tally, const char *symbol, const char *what)
{
	size_t used = strlen(tally->reason);

	snprintf(tally->reason + used, sizeof(tally->reason) - used, "%s%s: %s",
		 used ? "; " : "", symbol, what);
}

/*
 * Why the kernel did not take COMMAND, in its own words where it has some: since
 * 6.12 every refusal is EINVAL.
 */
const char *count_refusal(const char *command, int error)
{
	static const char mark[] = "error: ";
	static char log[16384];
	char *last = NULL;
	size_t used = 0;
	ssize_t n = 0;
	int fd = open(ERROR_LOG, O_RDONLY | O_CLOEXEC);

	while (fd >= 0 && used < sizeof(log) - 1 &&
	       (n = read(fd, log + used, sizeof(log) - 1 - used)) > 0)
		used += (size_t)n;
	if (fd >= 0)
		close(fd);
	log[used] = '\0';
	for (char *c = log; (c = strstr(c, mark)); c += sizeof(mark) - 1)
		last = c;
	/* Each entry ends with the command that it is about. */
	if (!last || !strstr(last, command))
		return strerror(error);
	last += sizeof(mark) - 1;
	last[strcspn(last, "\n")] = '\0';
	return last;
}

/* The event at the entry of a function, made if it is not there yet; else NULL, and why. */
static struct event *event_at(const char *symbol, struct tally *tally)
{
	unsigned int number = events ? events->number + 1 : 1;
	struct event *event;
	char command[PATH_SIZE + SYMBOL_LIMIT];
	int error;

	for (event = events; event; event = event->next)
		if (!strcmp(event->symbol, symbol))
			return event;
	snprintf(command, sizeof(command), "p:farm/farm_%u %s", number, symbol);
	error = boot_write_file(EVENTS, command);
	if (error) {
		add_reason(tally, symbol, count_refusal(command, error));
		return NULL;
	}
	event = calloc(1, sizeof(*event) + strlen(symbol) + 1);
	if (!event)
		die("out of memory for a kprobe event");
	event->number = number;
	strcpy(event->symbol, symbol);
	event->next = events;
	events = event;
	return event;
}

static int arm(struct event *event, bool on)
{
	char path[PATH_SIZE];
	int error;

	if (event->armed == on)
		return 0;
	snprintf(path, sizeof(path), TRACING "events/farm/farm_%u/enable", event->number);
	error = boot_write_file(path, on ? "1" : "0");
	if (!error)
		event->armed = on;
	return error;
}

/* Takes the first of the alternatives that the kernel has and lets itself be probed. */
static void choose(struct tally *tally, const char *functions)
{
	for (const char *from = functions; !tally->event; from++) {
		char symbol[SYMBOL_LIMIT + 1];
		size_t length = strcspn(from, "|");
		struct event *event;
		int error;

		memcpy(symbol, from, length);
		symbol[length] = '\0';
		event = event_at(symbol, tally);
		error = event ? arm(event, true) : 0;
		if (error)
			add_reason(tally, symbol, strerror(error));
		else
			tally->event = event;
		from += length;
		if (*from == '\0')
			break;
	}
}

static int read_profile(void)
{
	FILE *profile = fopen(PROFILE, "re");
	char line[256];

	if (!profile)
		return errno;
	while (fgets(line, sizeof(line), profile)) {
		unsigned long long hits, missed;
		unsigned int number;

		/* A program may have made events of its own. */
		if (sscanf(line, " farm_%u %llu %llu", &number, &hits, &missed) != 3)
			continue;
		for (struct event *event = events; event; event = event->next)
			if (event->number == number) {
				event->hits = hits;
				event->missed = missed;
			}
	}
	fclose(profile);
	return 0;
}

static void give_up(const struct step *step, const char *what, const char *why)
{
	for (size_t i = 0; i < step->touch_count; i++) {
		tallies[i] = (struct tally){ 0 };
		add_reason(&tallies[i], what, why);
	}
}

/* HUNG: some process cannot be killed, and who knows what locks it holds. TRACED: the ring buffer is in use. */
void count_begin(const struct step *step, bool hung, bool traced)
{
	static const char *const settings[][2] = {
		{ TRACING "tracing_on", "0" },
		{ TRACING "buffer_size_kb", RING_BUFFER_KIB },
	};
	int error;

	if (!step->touch_count)
		return;
	if (hung) {
		give_up(step, "not counted", "a process of an earlier step hangs in the kernel");
		return;
	}
	for (size_t i = 0; !traced && i < sizeof(settings) / sizeof(*settings); i++) {
		error = boot_write_file(settings[i][0], settings[i][1]);
		if (error) {
			give_up(step, settings[i][0], strerror(error));
			return;
		}
	}
	for (size_t i = 0; i < step->touch_count; i++) {
		tallies[i] = (struct tally){ 0 };
		choose(&tallies[i], step->touches[i].functions);
	}
	error = read_profile();
	if (error) {
		give_up(step, PROFILE, strerror(error));
		return;
	}
	for (size_t i = 0; i < step->touch_count; i++)
		if (tallies[i].event) {
			tallies[i].hits = tallies[i].event->hits;
			tallies[i].missed = tallies[i].event->missed;
		}
}

static void report_touch(const struct touch *touch, const struct tally *tally, size_t step)
{
	const struct event *event = tally->event;

	report("{\"type\":\"touch\",\"step\":%zu,\"functions\":", step);
	report_json_string(touch->functions);
	report(",\"symbol\":");
	if (event)
		report_json_string(event->symbol);
	else
		report("null");
	report(",\"count\":%llu,\"missed\":%llu,\"reason\":",
	       event ? (unsigned long long)(event->hits - tally->hits) : 0,
	       event ? (unsigned long long)(event->missed - tally->missed) : 0);
	if (event)
		report("null");
	else
		report_json_string(tally->reason);
	report("}\n");
}

/* Reports what was counted. What hangs may hang us too, if its code is to be changed: then all stays armed. */
void count_end(const struct step *step, size_t number, bool hung)
{
	int error;

	if (!step->touch_count)
		return;
	error = read_profile();
	if (error)
		give_up(step, PROFILE, strerror(error));
	for (size_t i = 0; i < step->touch_count; i++)
		report_touch(&step->touches[i], &tallies[i], number);
	report_flush();
	for (struct event *event = events; event && !hung; event = event->next) {
		error = arm(event, false);
		if (error)
			die("disarm the kprobe event at %s: %s", event->symbol, strerror(error));
	}
}
