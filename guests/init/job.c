// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * The job: lines of KEY VALUE, checked to the end before any of it is done.
 * Strings are unescaped in place and point into the text that was given.
 */
#include "init.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_HEARTBEAT_MS 1000
#define MAX_MS (7ULL * 24 * 3600 * 1000)
#define MAX_EPOCH 0xffffffffffULL
#define MAX_DELAY 0xffffffffULL

struct parser {
	struct job *job;
	struct step *step;	/* the open step, or NULL */
	size_t line;
	char *error;
	size_t error_size;
};

static bool fail(struct parser *p, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static bool fail(struct parser *p, const char *format, ...)
{
	char what[256];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	snprintf(p->error, p->error_size, "job line %zu: %s", p->line, what);
	return false;
}

/* One more zeroed element at the end of an array, or NULL. */
static void *append(void *array, size_t *count, size_t size)
{
	char **slot = array;
	char *grown = realloc(*slot, (*count + 1) * size);

	if (!grown)
		return NULL;
	*slot = grown;
	memset(grown + *count * size, 0, size);
	return grown + (*count)++ * size;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static bool unescape(struct parser *p, char *word)
{
	char *out = word;

	for (char *in = word; *in; in++) {
		if (*in != '%') {
			*out++ = *in;
			continue;
		}
		int high = hex_digit(in[1]);
		int low = high < 0 ? -1 : hex_digit(in[2]);

		if (low < 0)
			return fail(p, "%% is not followed by two hexadecimal digits");
		if (high == 0 && low == 0)
			return fail(p, "%%00 cannot stand in a value");
		*out++ = (char)(high << 4 | low);
		in += 2;
	}
	*out = '\0';
	return true;
}

/* Splits VALUE into exactly COUNT words, none of them empty, and unescapes each. */
static bool words(struct parser *p, const char *key, char *value, char **word, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (!value || *value == '\0' || *value == ' ')
			return fail(p, "word %zu of %s is missing", i + 1, key);
		word[i] = value;
		value = strchr(value, ' ');
		if (value)
			*value++ = '\0';
		if (!unescape(p, word[i]))
			return false;
	}
	if (value)
		return fail(p, "too many words after %s", key);
	return true;
}

static bool number(struct parser *p, const char *key, const char *word, uint64_t min,
		   uint64_t max, uint64_t *out)
{
	uint64_t value = 0;

	for (const char *c = word; *c; c++) {
		uint64_t digit = (uint64_t)(*c - '0');

		if (*c < '0' || *c > '9')
			return fail(p, "%s is not a decimal number", key);
		if (value > (max - digit) / 10)
			return fail(p, "%s is above %llu", key, (unsigned long long)max);
		value = value * 10 + digit;
	}
	if (value < min)
		return fail(p, "%s is below %llu", key, (unsigned long long)min);
	*out = value;
	return true;
}

static bool end_step(struct parser *p)
{
	struct step *step = p->step;

	if (!step->run.path && !step->path)
		return fail(p, "step %.64s has neither run nor write", step->name);
	if (step->path && (step->run.arg_count || step->run.bare || step->seed || step->workers ||
			   step->beside_count || step->touch_count))
		return fail(p, "arg, beside, bare, seed, touch and workers go with run only");
	if (!step->workers)
		step->workers = 1;
	p->step = NULL;
	return true;
}

/* One or more names of functions, separated by '|'. */
static bool are_functions(const char *text)
{
	for (;; text++) {
		size_t length = strcspn(text, "|");

		if (length == 0 || length > SYMBOL_LIMIT)
			return false;
		for (size_t i = 0; i < length; i++)
			if (!isalnum((unsigned char)text[i]) && !strchr("_.", text[i]))
				return false;
		text += length;
		if (*text == '\0')
			return true;
	}
}

/* A tracepoint as SYSTEM:EVENT or SYSTEM:*, or the name of a function; the checker of scenarios knows it more closely. */
static bool is_traceable(const char *text)
{
	size_t length = strlen(text);

	if (!strchr(text, ':'))
		return !strchr(text, '|') && are_functions(text);
	for (size_t i = 0; i < length; i++)
		if (!isalnum((unsigned char)text[i]) && !strchr("_-:*", text[i]))
			return false;
	return length <= SYMBOL_LIMIT && *text != ':' && text[length - 1] != ':';
}

static bool arg_line(struct parser *p, const char *key, char *value, struct program *program)
{
	const char **arg = append(&program->args, &program->arg_count, sizeof(*arg));
	char *word[1];

	if (!arg)
		return fail(p, "out of memory");
	/* The empty string is an argument too, and the only empty value there is. */
	if (value && *value == '\0') {
		*arg = value;
		return true;
	}
	if (!words(p, key, value, word, 1))
		return false;
	*arg = word[0];
	return true;
}

static bool beside_line(struct parser *p, const char *key, char *value)
{
	struct step *step = p->step;
	struct program *program;
	char *word[1];

	if (step->beside_count == BESIDE_LIMIT)
		return fail(p, "more than %d programs beside a step", BESIDE_LIMIT);
	if (!words(p, key, value, word, 1))
		return false;
	program = append(&step->besides, &step->beside_count, sizeof(*program));
	if (!program)
		return fail(p, "out of memory");
	program->path = word[0];
	return true;
}

static bool touch_line(struct parser *p, const char *key, char *value)
{
	struct step *step = p->step;
	struct touch *touch;
	char *word[2];

	if (step->touch_count == TOUCH_LIMIT)
		return fail(p, "more than %d touches in a step", TOUCH_LIMIT);
	touch = append(&step->touches, &step->touch_count, sizeof(*touch));
	if (!touch)
		return fail(p, "out of memory");
	if (!words(p, key, value, word, 2) ||
	    !number(p, key, word[0], 1, TOUCH_MOST, &touch->least))
		return false;
	if (!are_functions(word[1]))
		return fail(p, "\"%.64s\" does not name functions", word[1]);
	touch->functions = word[1];
	return true;
}

/* Keys that stand inside a step. */
static bool step_line(struct parser *p, const char *key, char *value)
{
	struct step *step = p->step;
	uint64_t workers;
	char *word[2];

	if (!strcmp(key, "end"))
		return words(p, key, value, NULL, 0) && end_step(p);
	if (!strcmp(key, "bare")) {
		step->run.bare = true;
		return words(p, key, value, NULL, 0);
	}
	if (!strcmp(key, "write")) {
		if (step->run.path || step->path)
			return fail(p, "a step has one run or one write");
		if (!words(p, key, value, word, 2))
			return false;
		step->path = word[0];
		step->text = word[1];
		return true;
	}
	if (!strcmp(key, "run")) {
		if (step->run.path || step->path)
			return fail(p, "a step has one run or one write");
		if (!words(p, key, value, word, 1))
			return false;
		step->run.path = word[0];
		return true;
	}
	if (!strcmp(key, "arg"))
		return arg_line(p, key, value, &step->run);
	if (!strcmp(key, "beside"))
		return beside_line(p, key, value);
	if (!strcmp(key, "beside-arg")) {
		if (!step->beside_count)
			return fail(p, "beside-arg without a beside");
		return arg_line(p, key, value, &step->besides[step->beside_count - 1]);
	}
	if (!strcmp(key, "touch"))
		return touch_line(p, key, value);
	if (!strcmp(key, "seed"))
		return words(p, key, value, word, 1) &&
		       number(p, key, word[0], 0, UINT64_MAX, &step->seed);
	if (!strcmp(key, "limit"))
		return words(p, key, value, word, 1) &&
		       number(p, key, word[0], 1, MAX_MS, &step->limit_ms);
	if (!strcmp(key, "workers")) {
		if (!words(p, key, value, word, 1) ||
		    !number(p, key, word[0], 1, WORKER_LIMIT, &workers))
			return false;
		step->workers = (unsigned int)workers;
		return true;
	}
	return fail(p, "unknown key \"%.64s\" in a step", key);
}

static bool entropy_line(struct parser *p, const char *key, char *value)
{
	struct job *job = p->job;
	char *word[1];

	if (!words(p, key, value, word, 1))
		return false;
	if (strlen(word[0]) != 2 * sizeof(job->entropy))
		return fail(p, "%s is not %zu bytes in hexadecimal", key, sizeof(job->entropy));
	for (size_t i = 0; i < sizeof(job->entropy); i++) {
		int high = hex_digit(word[0][2 * i]), low = hex_digit(word[0][2 * i + 1]);

		if (high < 0 || low < 0)
			return fail(p, "%s is not hexadecimal", key);
		job->entropy[i] = (unsigned char)(high << 4 | low);
	}
	job->has_entropy = true;
	return true;
}

static size_t blanks(const char *text)
{
	size_t count = 0;

	while (text && (text = strchr(text, ' '))) {
		count++;
		text++;
	}
	return count;
}

/* Modules, file systems, mounts and writes are done in their order, before the first step. */
static bool setup_line(struct parser *p, const char *key, char *value)
{
	struct job *job = p->job;
	struct setup *setup = append(&job->setups, &job->setup_count, sizeof(*setup));
	char *word[4] = { NULL };

	if (!setup)
		return fail(p, "out of memory");
	if (!strcmp(key, "module")) {
		if (!words(p, key, value, word, 1))
			return false;
		*setup = (struct setup){ .kind = SETUP_MODULE, .what = word[0] };
		return true;
	}
	if (!strcmp(key, "format")) {
		if (!words(p, key, value, word, 1))
			return false;
		*setup = (struct setup){ .kind = SETUP_FORMAT, .what = word[0] };
		return true;
	}
	if (!strcmp(key, "mount")) {
		if (!words(p, key, value, word, blanks(value) == 3 ? 4 : 3))
			return false;
		*setup = (struct setup){
			.kind = SETUP_MOUNT, .type = word[0], .what = word[1], .where = word[2],
			.options = word[3]
		};
		return true;
	}
	if (!words(p, key, value, word, 2))
		return false;
	*setup = (struct setup){ .kind = SETUP_SET, .where = word[0], .what = word[1] };
	return true;
}

/* Keys that stand outside the steps. */
static bool job_line(struct parser *p, const char *key, char *value)
{
	struct job *job = p->job;
	char *word[1];

	if (!strcmp(key, "cell")) {
		if (!words(p, key, value, word, 1))
			return false;
		job->cell = word[0];
		return true;
	}
	if (!strcmp(key, "epoch"))
		return words(p, key, value, word, 1) &&
		       number(p, key, word[0], 1, MAX_EPOCH, &job->epoch);
	if (!strcmp(key, "delay"))
		return words(p, key, value, word, 1) &&
		       number(p, key, word[0], 0, MAX_DELAY, &job->delay);
	if (!strcmp(key, "entropy"))
		return entropy_line(p, key, value);
	if (!strcmp(key, "heartbeat"))
		return words(p, key, value, word, 1) &&
		       number(p, key, word[0], 1, MAX_MS, &job->heartbeat_ms);
	if (!strcmp(key, "module") || !strcmp(key, "format") || !strcmp(key, "mount") ||
	    !strcmp(key, "set"))
		return setup_line(p, key, value);
	if (!strcmp(key, "trace")) {
		const char **trace;

		if (job->trace_count == TRACE_LIMIT)
			return fail(p, "more than %d traces", TRACE_LIMIT);
		if (!words(p, key, value, word, 1))
			return false;
		if (!is_traceable(word[0]))
			return fail(p, "\"%.64s\" cannot be traced", word[0]);
		trace = append(&job->traces, &job->trace_count, sizeof(*trace));
		if (!trace)
			return fail(p, "out of memory");
		*trace = word[0];
		return true;
	}
	if (!strcmp(key, "step")) {
		if (job->shell)
			return fail(p, "a job has steps or a shell, not both");
		if (!words(p, key, value, word, 1))
			return false;
		p->step = append(&job->steps, &job->step_count, sizeof(*p->step));
		if (!p->step)
			return fail(p, "out of memory");
		p->step->name = word[0];
		return true;
	}
	if (!strcmp(key, "shell")) {
		if (job->step_count)
			return fail(p, "a job has steps or a shell, not both");
		job->shell = true;
		return words(p, key, value, NULL, 0);
	}
	return fail(p, "unknown key \"%.64s\"", key);
}

static bool first_line(struct parser *p, const char *key, char *value)
{
	char *word[1];
	uint64_t version;

	if (strcmp(key, "farm-job"))
		return fail(p, "\"farm-job %d\" is missing", PROTOCOL_VERSION);
	if (!words(p, key, value, word, 1) ||
	    !number(p, key, word[0], 0, UINT32_MAX, &version))
		return false;
	if (version != PROTOCOL_VERSION)
		return fail(p, "version %llu, and this init speaks %d",
			    (unsigned long long)version, PROTOCOL_VERSION);
	return true;
}

static bool parse_line(struct parser *p, char *line, size_t length)
{
	char *value;

	if (length > LINE_LIMIT)
		return fail(p, "longer than %d bytes", LINE_LIMIT);
	for (size_t i = 0; i < length; i++)
		if (line[i] < 0x20 || line[i] > 0x7e)
			return fail(p, "byte 0x%02x is not escaped", (unsigned char)line[i]);
	line[length] = '\0';
	value = strchr(line, ' ');
	if (value)
		*value++ = '\0';
	if (p->line == 1)
		return first_line(p, line, value);
	return p->step ? step_line(p, line, value) : job_line(p, line, value);
}

bool job_parse(struct job *job, char *text, size_t length, char *error, size_t error_size)
{
	struct parser p = { .job = job, .error = error, .error_size = error_size };

	*job = (struct job){ .cell = "", .heartbeat_ms = DEFAULT_HEARTBEAT_MS };
	for (char *line = text, *end = text + length; line < end;) {
		char *stop = memchr(line, '\n', (size_t)(end - line));

		p.line++;
		if (!stop)
			return fail(&p, "the last line has no end");
		if (!parse_line(&p, line, (size_t)(stop - line)))
			return false;
		line = stop + 1;
	}
	if (p.line == 0)
		return fail(&p, "the job is empty");
	if (p.step)
		return fail(&p, "step %.64s has no end", p.step->name);
	return true;
}
