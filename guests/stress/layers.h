/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Block devices on top of a file: a loop device (drivers/block/loop.c), and one of the device mapper
 * (drivers/md/dm.c) on top of that.
 *
 * Once it is open, each goes with the last descriptor that it is open by, also when the program is
 * killed: a loop device by LO_FLAGS_AUTOCLEAR, one of the mapper by DM_DEFERRED_REMOVE, which gives
 * back what it stands on. A program that is killed between DM_DEV_CREATE and that leaves a device.
 */
#ifndef FARM_STRESS_LAYERS_H
#define FARM_STRESS_LAYERS_H

#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common.h"

enum {
	LOOP_TRIES = 1000, /* another worker may take the free device first */
	SECTOR = 512,
	MOST_PARTS = 4,
};

struct loop {
	int fd;
	char node[32];
};

struct mapper {
	int control;
	char name[DM_NAME_LEN];
	char node[32];
	bool made;
	bool skips_busy; /* what is below may be somebody else's */
};

#define LOOP_CLOSED { .fd = -1 }
#define MAPPER_CLOSED { .control = -1 }

/* Some sectors of a mapper's device, behind those of the part before. */
struct mapper_part {
	const char *type; /* of target */
	uint64_t sectors;
	char parameters[64];
};

/* What the ioctls take: the head, and for a table the parts. */
struct mapper_call {
	struct dm_ioctl head;
	struct {
		struct dm_target_spec spec;
		char parameters[64];
	} parts[MOST_PARTS];
};

/* One try to have a free device stand on the file; 0 or an errno. */
static inline int loop_try(struct loop *loop, int control, const struct loop_config *config)
{
	int number = ioctl(control, LOOP_CTL_GET_FREE), error = 0;

	if (number < 0)
		return errno;
	snprintf(loop->node, sizeof(loop->node), "/dev/loop%d", number);
	loop->fd = open(loop->node, O_RDWR | O_CLOEXEC);
	if (loop->fd < 0 || ioctl(loop->fd, LOOP_CONFIGURE, config))
		error = errno;
	if (error && loop->fd >= 0)
		close(loop->fd);
	if (error)
		loop->fd = -1;
	return error;
}

/* Has a free loop device stand on the file, with direct I/O on it or through its page cache. */
static inline enum stress_result loop_open(struct stress_path *path, struct loop *loop, int file,
					   bool direct)
{
	const struct loop_config config = {
		.fd = file,
		.info.lo_flags = LO_FLAGS_AUTOCLEAR | (direct ? LO_FLAGS_DIRECT_IO : 0),
	};
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), error;
	struct loop_info64 info;

	if (control < 0 && errno == ENOENT)
		return stress_skip(path, "no /dev/loop-control here (module loop)");
	if (control < 0)
		return stress_error(path, "open /dev/loop-control");
	/* A device is busy when another has taken it, and ENXIO while one gives it back. */
	for (int i = 0; i < LOOP_TRIES; i++) {
		error = loop_try(loop, control, &config);
		if (error != EBUSY && error != ENXIO)
			break;
	}
	close(control);
	errno = error;
	if (error)
		return stress_error(path, "have a loop device stand on a file");
	if (ioctl(loop->fd, LOOP_GET_STATUS64, &info))
		return stress_error(path, "ask for the state of %s", loop->node);
	if (direct && !(info.lo_flags & LO_FLAGS_DIRECT_IO))
		return stress_skip(path, "no direct I/O below %s in %s", loop->node,
				   stress_options.dir);
	return STRESS_OK;
}

static inline void loop_close(struct loop *loop)
{
	if (loop->fd >= 0)
		close(loop->fd);
	loop->fd = -1;
}

static inline int mapper_order(struct mapper *mapper, unsigned long request,
			       struct mapper_call *call)
{
	call->head.version[0] = DM_VERSION_MAJOR;
	call->head.data_size = sizeof(*call);
	call->head.data_start = offsetof(struct mapper_call, parts);
	if (request != DM_GET_TARGET_VERSION)
		memcpy(call->head.name, mapper->name, sizeof(call->head.name));
	return ioctl(mapper->control, request, call);
}

/* SKIP where the kernel has no such target. */
static inline enum stress_result mapper_need(struct stress_path *path, struct mapper *mapper,
					     const char *type)
{
	struct mapper_call call = { 0 };

	snprintf(call.head.name, sizeof(call.head.name), "%s", type);
	if (!mapper_order(mapper, DM_GET_TARGET_VERSION, &call))
		return STRESS_OK;
	if (errno == EINVAL)
		return stress_skip(path, "the device mapper has no target %s here (module dm-%s)",
				   type, type);
	return stress_error(path, "ask for the device mapper's target %s", type);
}

/* The table of the device that is made, which then begins to work. */
static inline enum stress_result mapper_load(struct stress_path *path, struct mapper *mapper,
					     const struct mapper_part *parts, unsigned int count)
{
	struct mapper_call table = { .head.target_count = count }, resume = { 0 };
	enum stress_result result;
	uint64_t first = 0;

	for (unsigned int i = 0; i < count; i++) {
		struct dm_target_spec *spec = &table.parts[i].spec;

		result = mapper_need(path, mapper, parts[i].type);
		if (result != STRESS_OK)
			return result;
		spec->sector_start = first;
		spec->length = parts[i].sectors;
		spec->next = sizeof(table.parts[i]);
		snprintf(spec->target_type, sizeof(spec->target_type), "%s", parts[i].type);
		memcpy(table.parts[i].parameters, parts[i].parameters, sizeof(parts[i].parameters));
		first += parts[i].sectors;
	}
	if (mapper_order(mapper, DM_TABLE_LOAD, &table))
		return errno == EBUSY && mapper->skips_busy
			       ? stress_skip(path, "what is below %s is in use", mapper->name)
			       : stress_error(path, "load a table of the device mapper");
	if (mapper_order(mapper, DM_DEV_SUSPEND, &resume))
		return stress_error(path, "resume a device of the device mapper");
	return STRESS_OK;
}

/* Makes a device of these parts, and opens it for direct I/O. */
static inline enum stress_result mapper_open(struct stress_path *path, struct mapper *mapper,
					     const struct mapper_part *parts, unsigned int count,
					     int *fd)
{
	struct mapper_call create = { 0 }, gone_when_closed = { .head.flags = DM_DEFERRED_REMOVE };
	enum stress_result result;

	mapper->control = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	if (mapper->control < 0 && errno == ENOENT)
		return stress_skip(path, "no /dev/mapper/control here (module dm-mod)");
	if (mapper->control < 0)
		return stress_error(path, "open /dev/mapper/control");
	snprintf(mapper->name, sizeof(mapper->name), "farm-%s-%d-%s", stress_program->name, getpid(),
		 path->name);
	if (mapper_order(mapper, DM_DEV_CREATE, &create))
		return stress_error(path, "make the device %s", mapper->name);
	mapper->made = true;
	snprintf(mapper->node, sizeof(mapper->node), "/dev/dm-%u", minor(create.head.dev));
	result = mapper_load(path, mapper, parts, count);
	if (result != STRESS_OK)
		return result;
	*fd = open(mapper->node, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (*fd < 0)
		return stress_error(path, "open %s", mapper->node);
	if (mapper_order(mapper, DM_DEV_REMOVE, &gone_when_closed))
		return stress_error(path, "have %s go when it is closed", mapper->node);
	return STRESS_OK;
}

/* For teardowns. What is on top of the device is closed. */
static inline void mapper_close(struct stress_path *path, struct mapper *mapper)
{
	struct mapper_call remove = { 0 };

	/* ENXIO: it went by itself. */
	if (mapper->made && mapper_order(mapper, DM_DEV_REMOVE, &remove) && errno != ENXIO) {
		stress_error(path, "remove %s", mapper->node);
		path->result = STRESS_FAIL;
	}
	if (mapper->control >= 0)
		close(mapper->control);
	*mapper = (struct mapper)MAPPER_CLOSED;
}

#endif
