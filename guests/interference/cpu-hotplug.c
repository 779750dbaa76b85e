// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Takes CPUs away and gives them back.
 *
 * A write to /sys/devices/system/cpu/cpuN/online runs kernel/cpu.c cpu_down() and cpu_up(); on
 * s390 the CPU stops itself and is started again by SIGP (arch/s390/kernel/smp.c). What that does
 * to references: pages wait in lists of each CPU, with a reference held: mm/swap.c
 * lru_add_drain_cpu() and mm/page_alloc.c page_alloc_cpu_dead() empty those of the CPU that went,
 * so that counts drop on another CPU than the one that raised them; its tasks move in the midst of
 * what they do, and stop_machine() halts all others meanwhile.
 */
#define _GNU_SOURCE
#include "interference.h"
#include "cpu-hotplug.args.h"

enum { MAX_CPU = 512 };

struct cpus {
	unsigned int numbers[MAX_CPU]; /* those that can go */
	unsigned int count;
	char online[64]; /* the file of the CPU that is away, else empty */
};

static void online_file(char *name, size_t size, unsigned int cpu)
{
	snprintf(name, size, "/sys/devices/system/cpu/cpu%u/online", cpu);
}

/* CPU 0 stays: not every machine lets it go, and one must. */
static enum stress_result set_up(struct stress_path *path)
{
	struct cpus *cpus = stress_alloc(sizeof(*cpus));
	char name[64];

	path->state = cpus;
	for (unsigned int cpu = 1; cpu < MAX_CPU; cpu++) {
		online_file(name, sizeof(name), cpu);
		if (!access(name, W_OK) && knob_number(name) == 1)
			cpus->numbers[cpus->count++] = cpu;
	}
	return cpus->count ? STRESS_OK
			   : stress_skip(path, "no CPU but CPU 0 that can be taken offline");
}

static enum stress_result bring_back(struct stress_path *path)
{
	struct cpus *cpus = path->state;
	enum stress_result result = knob_order(path, cpus->online, "1");

	*cpus->online = '\0';
	return result;
}

static void tear_down(struct stress_path *path)
{
	struct cpus *cpus = path->state;

	if (*cpus->online && bring_back(path) != STRESS_OK)
		path->result = STRESS_FAIL;
	free(cpus);
}

static enum stress_result turn(struct stress_path *path)
{
	struct cpus *cpus = path->state;
	unsigned int cpu = cpus->numbers[rng_below(&path->rng, cpus->count)];
	enum stress_result result;

	pace(stress_number(ARG_RATE));
	online_file(cpus->online, sizeof(cpus->online), cpu);
	path->generation++;
	result = knob_order(path, cpus->online, planted(path, 1) /* it stays */ ? "1" : "0");
	if (result != STRESS_OK) {
		*cpus->online = '\0';
		return result;
	}
	if (knob_number(cpus->online) != 0)
		return stress_wrong_number(path, "offline", cpu, 0, 1);
	stress_sleep_until(stress_now_ns() + stress_number(ARG_HOLD) * 1000000);
	result = bring_back(path);
	if (result == STRESS_OK)
		stress_credit(path, 1, 0);
	return result;
}

STRESS_MAIN("cpu-hotplug", NULL, STRESS_PATH("cpu-hotplug", 0))
