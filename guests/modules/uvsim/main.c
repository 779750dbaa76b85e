// SPDX-License-Identifier: GPL-2.0-only
#include <linux/init.h>
#include <linux/module.h>
#include <asm/facility.h>

#include "uvsim.h"

/* The machine has the ultravisor call facility: UVC would not be trapped. */
enum { FACILITY_ULTRAVISOR = 158 };

static const struct part {
	int (*init)(void);
	void (*exit)(void);
} parts[] = {
	{ uvsim_state_init, uvsim_state_exit },
	{ uvsim_uvc_init, uvsim_uvc_exit },
	{ uvsim_sink_init, uvsim_sink_exit },
	{ uvsim_fix_init, uvsim_fix_exit },
	{ uvsim_disk_init, uvsim_disk_exit },
	{ uvsim_knobs_init, uvsim_knobs_exit },
	/* Last: what uses all of the above. */
	{ uvsim_drive_init, uvsim_drive_exit },
};

static int __init uvsim_init(void)
{
	if (test_facility(FACILITY_ULTRAVISOR)) {
		pr_err("uvsim: this machine has an ultravisor\n");
		return -EBUSY;
	}
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		int error = parts[i].init();

		if (!error)
			continue;
		while (i--)
			parts[i].exit();
		return error;
	}
	uvsim_watch_init();
	uvsim_touch_init();
	return 0;
}

static void __exit uvsim_exit(void)
{
	uvsim_watch_exit();
	for (size_t i = ARRAY_SIZE(parts); i--;)
		parts[i].exit();
}

module_init(uvsim_init);
module_exit(uvsim_exit);
MODULE_DESCRIPTION("Emulated ultravisor: do devices get protected guests' pages?");
MODULE_LICENSE("GPL");
