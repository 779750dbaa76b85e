/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * farm's init: PID 1 of a guest. docs/guest-protocol.md is the contract that
 * it keeps with the host.
 *
 *   boot.c     mounts, modules, the two virtio-serial ports, power-off
 *   job.c      the job file, parsed (no system calls: tests/ runs it on any host)
 *   kmsg.c     /dev/kmsg onto its port; markers; re-arming WARN_ONCE
 *   slot.c     the job of a saved guest, which comes by way of its memory
 *   report.c   the results stream: KTAP lines and JSON lines; errors
 *   capture.c  what a worker printed: bounded, escaped
 *   format.c   an empty file system on a disk of the guest's own
 *   cgroup.c   the control group that a step's workers run in
 *   worker.c   one child process: a program, a write to a file, or the shell
 *   count.c    how often the kernel calls the functions that a step is to reach
 *   trace.c    the kernel's own trace, and its last events when it has complained
 *   step.c     the loop: workers, limits, leftovers, heartbeats
 *   init.c     the order of all this
 *
 * One thread, one poll(). Everything that may block for as long as a kernel
 * bug pleases (a program, a step's write to a file) is done in a child.
 */
#ifndef FARM_INIT_H
#define FARM_INIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PROTOCOL_VERSION 1
#define LINE_LIMIT 4096	/* bytes in a line of the job */
#define WORKER_LIMIT 512 /* each holds a pipe, and 1,024 open files are the default */
#define BESIDE_LIMIT 8	/* of a step */
#define TOUCH_LIMIT 16	/* of a step; each slows the kernel down */
#define TOUCH_MOST 1000000000000ULL
#define TRACE_LIMIT 16	/* of a job; each slows the kernel down */
#define SYMBOL_LIMIT 511 /* bytes: the kernel's KSYM_NAME_LEN, without the NUL */

/* job.c */
struct setup {
	enum { SETUP_MODULE, SETUP_FORMAT, SETUP_MOUNT, SETUP_SET } kind;
	char *what;	/* module: file name; format, mount: device; set: text */
	const char *type;	/* mount only */
	const char *where;	/* mount: directory; set: file */
	const char *options;	/* mount: the file system's own, or NULL */
};

struct touch {
	uint64_t least;		/* calls that the host asks for; it judges */
	const char *functions;	/* alternatives, separated by '|' */
};

struct program {
	const char *path;
	const char **args;
	size_t arg_count;
	bool bare;		/* init adds no argument of its own */
};

struct step {
	const char *name;
	struct program run;	/* without a path if it is a `write` */
	const char *path;	/* `write`, or NULL */
	const char *text;
	uint64_t seed;
	uint64_t limit_ms;	/* 0: no limit */
	unsigned int workers;
	struct program *besides;	/* what runs beside the workers */
	size_t beside_count;
	struct touch *touches;
	size_t touch_count;
};

struct job {
	const char *cell;
	uint64_t epoch;		/* 0: leave the clock alone */
	unsigned char entropy[32];
	bool has_entropy;
	uint64_t heartbeat_ms;
	uint64_t delay;		/* loops before each step */
	struct setup *setups;
	size_t setup_count;
	const char **traces;	/* SYSTEM:EVENT, or the name of a function */
	size_t trace_count;
	struct step *steps;
	size_t step_count;
	bool shell;
};

/*
 * Parses LENGTH bytes of TEXT, which are changed and must outlive the job.
 * False, and a sentence in ERROR, when they are not a valid job.
 */
bool job_parse(struct job *job, char *text, size_t length, char *error, size_t error_size);

/* boot.c */
void boot_mount_basics(void);
void boot_load_module(const char *name);
void boot_load_boot_modules(void);
void boot_make_directories(const char *path);
void boot_link_disks(void);
void boot_find_ports(int *results, int *kmsg);
char *boot_read_file(const char *path, size_t limit, size_t *length);
int boot_write_file(const char *path, const char *text);
uint64_t now_us(void);
void port_write(int fd, const char *bytes, size_t length);
_Noreturn void power_off(void);

/* format.c */
void format_disk(char *path);

/* slot.c */
void slot_wait(void);

/* report.c */
void report_open(int fd);
void report(const char *format, ...) __attribute__((format(printf, 1, 2)));
void report_json_string(const char *text);
void report_name(const char *name);
void report_escaped(const char *bytes, size_t length);
void report_flush(void);
void report_ready(void);
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* kmsg.c */
void kmsg_open(int port);
int kmsg_fd(void);
bool kmsg_forward(void);
void kmsg_drain(void);
uint64_t kmsg_last_sequence(void);
void kmsg_mark(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool kmsg_rearm_warnings(void);

/* capture.c */
struct capture {
	char *bytes;
	uint64_t total;		/* bytes seen, kept or not */
};

void capture_add(struct capture *capture, const char *bytes, size_t length);
uint64_t capture_report(struct capture *capture);

/* cgroup.c */
void cgroup_open(void);
int cgroup_renew_workers(void);

/* worker.c */
struct worker {
	pid_t pid;		/* 0 before it starts, and once it has been reaped or given up */
	int pipe;		/* -1 as long as there is no output to take, and once it has been taken */
	struct capture output;
	uint64_t started_us;
	uint64_t told_us;	/* when it was told to end; 0: it was not */
	uint64_t killed_us;	/* when it was killed; 0: it was not */
	int status;		/* as wait(2) gives it; void if stuck */
	uint64_t cpu_us;	/* that it and its children took, those it has waited for */
	bool limit;
	bool stuck;
};

/* What a child is to be. */
struct order {
	const struct step *step;
	const struct program *program;	/* NULL: the step's write */
	unsigned int number;		/* among the step's workers, and what runs beside them behind those */
	int cgroup;			/* the directory of the one to run in, or -1 */
	bool beside;			/* SIGTERM waits until it is ready to take it */
};

void worker_start(struct worker *worker, const struct order *order);
void worker_tell_to_end(struct worker *worker);
void worker_kill(const struct worker *worker);
void worker_read(struct worker *worker);
void worker_read_rest(struct worker *worker);
pid_t worker_start_shell(void);

/* count.c */
void count_begin(const struct step *step, bool hung, bool traced);
void count_end(const struct step *step, size_t number, bool hung);
const char *count_refusal(const char *command, int error);

/* trace.c */
void trace_begin(const struct job *job);
void trace_look(void);
void trace_stop(void);

/* step.c */
void steps_run(const struct job *job);
void shell_run(const struct job *job);

#endif
