// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * What a worker printed, in bounded memory: the first half of the limit as it
 * came, the last half in a ring behind it.
 */
#define _GNU_SOURCE
#include "init.h"

#include <stdlib.h>
#include <string.h>

#define HALF (32 * 1024)

void capture_add(struct capture *capture, const char *bytes, size_t length)
{
	if (!capture->bytes) {
		capture->bytes = malloc(2 * HALF);
		if (!capture->bytes)
			die("out of memory for the output of a worker");
	}
	if (capture->total < HALF) {
		size_t room = HALF - (size_t)capture->total;
		size_t n = length < room ? length : room;

		memcpy(capture->bytes + capture->total, bytes, n);
		capture->total += n;
		bytes += n;
		length -= n;
	}
	if (length > HALF) {
		capture->total += length - HALF;
		bytes += length - HALF;
		length = HALF;
	}
	while (length) {
		size_t at = (size_t)(capture->total % HALF);
		size_t n = length < HALF - at ? length : HALF - at;

		memcpy(capture->bytes + HALF + at, bytes, n);
		capture->total += n;
		bytes += n;
		length -= n;
	}
}

/*
 * Writes out what was kept and frees it; returns how many bytes were dropped.
 *
 * The line that the gap cuts is dropped on both sides of it: half of
 * "not ok 3 a" could read as "ok 3 a".
 */
uint64_t capture_report(struct capture *capture)
{
	static char tail[HALF];
	uint64_t total = capture->total;
	uint64_t dropped = 0;

	if (total <= 2 * HALF) {
		report_escaped(capture->bytes, (size_t)total);
	} else {
		const char *ring = capture->bytes + HALF;
		size_t oldest = (size_t)(total % HALF);
		const char *cut = memrchr(capture->bytes, '\n', HALF);
		size_t head = cut ? (size_t)(cut + 1 - capture->bytes) : HALF;
		size_t skip;

		memcpy(tail, ring + oldest, HALF - oldest);
		memcpy(tail + HALF - oldest, ring, oldest);
		cut = memchr(tail, '\n', HALF);
		skip = cut ? (size_t)(cut + 1 - tail) : 0;
		report_escaped(capture->bytes, head);
		report_escaped(tail + skip, HALF - skip);
		dropped = total - head - (HALF - skip);
	}
	free(capture->bytes);
	*capture = (struct capture){ 0 };
	return dropped;
}
