/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What interference programs share: their pace, settings of the kernel that are put back at the
 * end, and the kernel's own count of what it did.
 *
 * An interference program runs beside the workers of a step and disturbs the kernel paths they are
 * on. It is built like a stress program (guests/stress/common.h) and speaks like one. One op is one
 * act of interference.
 */
#ifndef FARM_INTERFERENCE_H
#define FARM_INTERFERENCE_H

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common.h"

/*
 * Waits until the next act is due: `rate` a second at most. What was missed is not made up for. A
 * program that is told to end waits no longer.
 */
static inline void pace(uint64_t rate)
{
	static uint64_t due;
	uint64_t now = stress_now_ns();

	due += 1000000000ULL / rate;
	if (due < now)
		due = now;
	stress_sleep_until(due);
}

/* Writes to a file of the kernel's, in one write; 0 or an errno. */
static inline int knob_write(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY | O_CLOEXEC);
	int error = 0;

	if (fd < 0)
		return errno;
	if (write(fd, text, strlen(text)) < 0)
		error = errno;
	close(fd);
	return error;
}

/* The same, for an act that must succeed. */
static inline enum stress_result knob_order(struct stress_path *path, const char *name,
					    const char *text)
{
	path->waits_for = name;
	errno = knob_write(name, text);
	return errno ? stress_error(path, "write '%s' to %s", text, name) : STRESS_OK;
}

/* Reads such a file, without the newline at the end; 0 or an errno. */
static inline int knob_read(const char *name, char *text, size_t size)
{
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	int error = 0;
	ssize_t n;

	*text = '\0';
	if (fd < 0)
		return errno;
	n = read(fd, text, size - 1);
	if (n < 0)
		error = errno;
	close(fd);
	if (n > 0 && text[n - 1] == '\n')
		n--;
	text[n > 0 ? n : 0] = '\0';
	return error;
}

/* The number that such a file begins with; 0 if there is none. */
static inline uint64_t knob_number(const char *name)
{
	char text[64];

	return knob_read(name, text, sizeof(text)) ? 0 : strtoull(text, NULL, 10);
}

/* A setting that the program changes, and what it was before. */
struct knob {
	const char *name;
	char before[64];
	bool changed;
};

static inline enum stress_result knob_set(struct stress_path *path, struct knob *knob,
					  const char *text)
{
	if (!knob->changed)
		errno = knob_read(knob->name, knob->before, sizeof(knob->before));
	if (!knob->changed && errno)
		return stress_error(path, "read %s", knob->name);
	knob->changed = true;
	return knob_order(path, knob->name, text);
}

/* For teardowns. */
static inline void knob_restore(struct stress_path *path, struct knob *knob)
{
	if (!knob->changed)
		return;
	if (knob_order(path, knob->name, knob->before) != STRESS_OK)
		path->result = STRESS_FAIL;
	knob->changed = false;
}

/*
 * Counters of /proc/vmstat, and by how much they grew during a path's acts. They are those of the
 * whole system: proof that the kernel did such things, not how much of it was this program's doing.
 */
struct vmstat {
	const char *names; /* eight at most, separated by blanks */
	uint64_t before[8], grown[8];
};

/* A counter that this kernel does not have stays as it is. */
static inline void vmstat_read(const struct vmstat *vmstat, uint64_t *values)
{
	FILE *file = fopen("/proc/vmstat", "re");
	char line[128];

	if (!file)
		return;
	while (fgets(line, sizeof(line), file)) {
		size_t length = strcspn(line, " "), i = 0;

		for (const char *name = vmstat->names; *name; i++) {
			size_t this = strcspn(name, " ");

			if (this == length && !strncmp(line, name, length))
				values[i] = strtoull(line + length, NULL, 10);
			name += this + strspn(name + this, " ");
		}
	}
	fclose(file);
}

static inline void vmstat_begin(struct vmstat *vmstat)
{
	vmstat_read(vmstat, vmstat->before);
}

static inline void vmstat_end(struct vmstat *vmstat)
{
	uint64_t now[8];

	memcpy(now, vmstat->before, sizeof(now));
	vmstat_read(vmstat, now);
	for (size_t i = 0; i < sizeof(now) / sizeof(now[0]); i++)
		vmstat->grown[i] += now[i] - vmstat->before[i];
}

/* For teardowns of paths that may have had turns. */
static inline void vmstat_note(struct stress_path *path, const struct vmstat *vmstat)
{
	char text[256] = "";
	size_t i = 0, used = 0;

	if (path->result == STRESS_SKIP)
		return;
	for (const char *name = vmstat->names; *name && used < sizeof(text); i++) {
		size_t length = strcspn(name, " ");

		used += snprintf(text + used, sizeof(text) - used, " %.*s +%" PRIu64, (int)length,
				 name, vmstat->grown[i]);
		name += length + strspn(name + length, " ");
	}
	stress_note(path, "/proc/vmstat:%s", text);
}

#endif
