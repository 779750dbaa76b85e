/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The check of programs that move up to --max-length bytes of files of --file-size bytes. To be
 * included behind NAME.args.h.
 */
#ifndef FARM_STRESS_SIZES_H
#define FARM_STRESS_SIZES_H

#include "common.h"

static const char *check_sizes(void)
{
	if (stress_number(ARG_FILE_SIZE) / 2 < stress_number(ARG_MAX_LENGTH))
		return "--file-size must be at least twice --max-length";
	return NULL;
}

#endif
