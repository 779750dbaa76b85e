/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The command line. Included by common.c alone: it defines what common.h declares of the options.
 */
#ifndef FARM_STRESS_OPTIONS_H
#define FARM_STRESS_OPTIONS_H

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common.h"

enum { EXIT_PASSED = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_SKIPPED = 4 };

enum { MAX_ARGS = 16 };

const struct stress_program *stress_program;
struct stress_options stress_options = { .seed = 1, .worker = 1, .dir = "/tmp" };

static uint64_t numbers[MAX_ARGS];
static const char *mode = "all";

static const char *kind_name(enum stress_kind kind)
{
	static const char *const names[] = { "CHOICE", "N", "SIZE", "" };

	return names[kind];
}

static void help(void)
{
	const struct stress_program *p = stress_program;

	printf("usage: %s [OPTION]...\n%s\nstresses %s\n\n", p->name, p->purpose, p->kernel);
	printf("  --seed=N            all random choices follow from it (default 1)\n"
	       "  --worker=N          number of this copy among those that run side by side "
	       "(default 1)\n"
	       "  --for=MILLISECONDS  run this long, shared by all paths\n"
	       "  --ops=N             or until each path has moved and verified data in N calls;\n"
	       "                      without either, and at the latest, until SIGTERM\n"
	       "  --dir=PATH          where files go (default /tmp)\n"
	       "  --secure            be a protected guest: what is moved is made secure again and\n"
	       "                      again, by the module uvsim\n"
	       "  --help              this text\n");
	for (size_t i = 0; i < p->arg_count; i++) {
		const struct stress_arg *arg = &p->args[i];

		printf("  --%s%s%s  %s (", arg->name, arg->kind == STRESS_FLAG ? "" : "=",
		       kind_name(arg->kind), arg->help);
		if (arg->kind == STRESS_CHOICE)
			printf("%s; ", arg->choices);
		else if (arg->kind != STRESS_FLAG)
			printf("%llu to %llu; ", arg->min, arg->max);
		printf("default %s)\n", arg->kind == STRESS_FLAG ? "off" : arg->fallback);
	}
	printf("\nexit status: 0 all passed, 1 a test failed, 2 wrong usage, 4 all skipped\n");
}

static void __attribute__((noreturn, format(printf, 1, 2))) usage(const char *format, ...)
{
	va_list list;

	fprintf(stderr, "%s: ", stress_program->name);
	va_start(list, format);
	vfprintf(stderr, format, list);
	va_end(list);
	fprintf(stderr, "; --help lists the options\n");
	exit(EXIT_USAGE);
}

static uint64_t parse_number(const char *name, const char *text, bool size, uint64_t min,
			     uint64_t max)
{
	static const char suffixes[] = "KMG";
	unsigned long long value;
	const char *suffix;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 10);
	/* strtoull() takes blanks and a minus sign for good. */
	if (*text < '0' || *text > '9' || errno)
		usage("--%s=%s is not a number", name, text);
	if (size && *end && (suffix = strchr(suffixes, *end)) != NULL) {
		unsigned int shift = 10 * (suffix - suffixes + 1);

		if (value > UINT64_MAX >> shift)
			usage("--%s=%s is too large", name, text);
		value <<= shift;
		end++;
	}
	if (*end)
		usage("--%s=%s is not a %s", name, text,
		      size ? "size (bytes, or with K, M, G)" : "number");
	if (value < min || value > max)
		usage("--%s=%s is out of range: %llu to %llu", name, text, (unsigned long long)min,
		      (unsigned long long)max);
	return value;
}

/* The index of text among the choices, which are separated by '|'. */
static uint64_t parse_choice(const struct stress_arg *arg, const char *text)
{
	const char *choice = arg->choices;
	size_t length = strlen(text);

	for (uint64_t index = 0; length; index++) {
		size_t this = strcspn(choice, "|");

		if (this == length && !strncmp(choice, text, length))
			return index;
		if (!choice[this])
			break;
		choice += this + 1;
	}
	usage("--%s=%s is none of %s", arg->name, text, arg->choices);
}

static void set_arg(size_t index, const char *text)
{
	const struct stress_arg *arg = &stress_program->args[index];

	switch (arg->kind) {
	case STRESS_CHOICE:
		numbers[index] = parse_choice(arg, text);
		if (!strcmp(arg->name, "mode"))
			mode = text;
		break;
	case STRESS_NUMBER:
	case STRESS_SIZE:
		numbers[index] =
			parse_number(arg->name, text, arg->kind == STRESS_SIZE, arg->min, arg->max);
		break;
	case STRESS_FLAG:
		numbers[index] = 1;
	}
}

static bool set_common(const char *name, const char *value)
{
	struct stress_options *o = &stress_options;

	if (!strcmp(name, "seed"))
		o->seed = parse_number(name, value, false, 0, UINT64_MAX);
	else if (!strcmp(name, "worker"))
		o->worker = parse_number(name, value, false, 1, UINT32_MAX);
	else if (!strcmp(name, "for"))
		o->for_ms = parse_number(name, value, false, 1, UINT32_MAX);
	else if (!strcmp(name, "ops"))
		o->ops = parse_number(name, value, false, 1, UINT64_MAX);
	else if (!strcmp(name, "dir"))
		o->dir = value;
	else
		return false;
	return true;
}

static void parse(int argc, char **argv)
{
	const struct stress_program *p = stress_program;
	struct stress_options *o = &stress_options;
	struct stat status;
	const char *wrong;

	for (size_t i = 0; i < p->arg_count; i++)
		if (p->args[i].kind != STRESS_FLAG)
			set_arg(i, p->args[i].fallback);

	for (int i = 1; i < argc; i++) {
		char name[32] = "";
		char *value = strchr(argv[i], '=');
		size_t arg;

		if (!strcmp(argv[i], "--help")) {
			help();
			exit(EXIT_PASSED);
		}
		if (sscanf(argv[i], "--%31[a-z-]", name) != 1)
			usage("'%s' is not an option", argv[i]);
		/*
		 * A name must reach to the '=' or to the end, or "--seed1=2" would pass for --seed.
		 */
		if (strlen(name) + 2 != (value ? (size_t)(value - argv[i]) : strlen(argv[i])))
			usage("'%s' is not an option", argv[i]);
		if (value && set_common(name, value + 1))
			continue;
		if (!value && !strcmp(name, "secure")) {
			o->secure = true;
			continue;
		}
		for (arg = 0; arg < p->arg_count && strcmp(p->args[arg].name, name); arg++)
			;
		if (arg == p->arg_count || !value != (p->args[arg].kind == STRESS_FLAG))
			usage("'%s' is not an option", argv[i]);
		set_arg(arg, value ? value + 1 : "");
	}
	if (o->for_ms && o->ops)
		usage("--for and --ops exclude each other");
	if (stat(o->dir, &status))
		usage("--dir=%s: %s", o->dir, strerror(errno));
	if (!S_ISDIR(status.st_mode))
		usage("--dir=%s is not a directory", o->dir);
	wrong = p->check ? p->check() : NULL;
	if (wrong)
		usage("%s", wrong);
}

uint64_t stress_number(size_t arg)
{
	return numbers[arg];
}

void stress_choice(size_t arg, char *text, size_t size)
{
	const char *choice = stress_program->args[arg].choices;

	for (uint64_t index = numbers[arg]; index; index--)
		choice += strcspn(choice, "|") + 1;
	snprintf(text, size, "%.*s", (int)strcspn(choice, "|"), choice);
}

#endif
