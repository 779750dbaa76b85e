// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * The job of a saved guest. A guest that boots without a job waits here, and is
 * saved while it does; whoever starts a copy of it has written the job into
 * pages of the copy's memory before it runs on. The pages are found by what
 * they begin with.
 *
 * What stands in the pages' data, one behind the other, is an archive as it
 * would have stood behind the image: its files are laid out below /.
 */
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SLOT_PAGES 512
#define SLOT_PAGE 4096

struct slot_page {
	unsigned char mark[24];
	uint32_t index;
	/* Of the first page: bytes in all. The host writes it; 0 is to wait. */
	uint32_t length;
	char data[SLOT_PAGE - 32];
};

_Static_assert(sizeof(struct slot_page) == SLOT_PAGE, "a page");

/* The mark stands nowhere else in memory: it is complemented when it is written. */
static const unsigned char complement[] = "farm job slot 9f1c6a52e0";

static struct slot_page *slot_open(void)
{
	struct slot_page *pages = mmap(NULL, SLOT_PAGES * sizeof(*pages), PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (pages == MAP_FAILED)
		die("map the job slot: %m");
	for (uint32_t i = 0; i < SLOT_PAGES; i++) {
		for (size_t j = 0; j < sizeof(pages[i].mark); j++)
			pages[i].mark[j] = (unsigned char)~complement[j];
		pages[i].index = i;
	}
	return pages;
}

static char *slot_take(struct slot_page *pages, size_t length)
{
	const size_t room = sizeof(pages->data);
	char *bytes = malloc(length);

	if (!bytes)
		die("no memory for a job of %zu bytes", length);
	for (size_t have = 0; have < length; have += room) {
		size_t rest = length - have;

		memcpy(bytes + have, pages[have / room].data, rest < room ? rest : room);
	}
	return bytes;
}

/* The number in a field of a header: 8 hexadecimal digits. */
static size_t field(const char *header, unsigned int number)
{
	char digits[9] = "";

	memcpy(digits, header + 6 + number * 8, 8);
	return strtoul(digits, NULL, 16);
}

static void lay_out_file(const char *path, size_t mode, const char *content, size_t length)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode & 07777);

	if (fd < 0)
		die("make %s: %m", path);
	while (length) {
		ssize_t n = write(fd, content, length);

		if (n < 0)
			die("write %s: %m", path);
		content += n;
		length -= (size_t)n;
	}
	close(fd);
}

/*
 * An archive in the format "newc" (Documentation/driver-api/early-userspace/
 * buffer-format.rst): a header of 110 bytes, the name, the content, each filled
 * up to a multiple of four. Directories and plain files only.
 */
static void lay_out(const char *archive, size_t length)
{
	enum { HEADER = 110, MODE = 1, SIZE = 6, NAME_SIZE = 11 };
	size_t at = 0;

	while (at < length && length - at >= HEADER && !memcmp(archive + at, "070701", 6)) {
		const char *header = archive + at, *name = header + HEADER;
		size_t name_size = field(header, NAME_SIZE), size = field(header, SIZE);
		size_t content = (at + HEADER + name_size + 3) & ~(size_t)3;
		char path[LINE_LIMIT];

		if (name_size > sizeof(path) - 1 || content > length || size > length - content ||
		    !name_size || name[name_size - 1])
			break;
		if (!strcmp(name, "TRAILER!!!"))
			return;
		snprintf(path, sizeof(path), "/%s", name);
		if (S_ISDIR(field(header, MODE)))
			boot_make_directories(path);
		else
			lay_out_file(path, field(header, MODE), archive + content, size);
		at = (content + size + 3) & ~(size_t)3;
	}
	die("the job's archive is cut or damaged at byte %zu of %zu", at, length);
}

/* How many tasks the scheduler has to run, this one among them; 0 if it does not say. */
static unsigned int runnable(void)
{
	unsigned int count = 0;
	FILE *file = fopen("/proc/loadavg", "re");

	if (!file)
		return 0;
	if (fscanf(file, "%*f %*f %*f %u/", &count) != 1)
		count = 0;
	fclose(file);
	return count;
}

/*
 * What a kernel goes on with after its start, such as the self-tests of its
 * crypto, would go on in each copy. Waits until nothing of it was seen for a
 * while, but not for ever: up to two minutes of the guest's clock, which under
 * QEMU's icount passes many times faster than such work gets done.
 */
static void wait_until_idle(void)
{
	enum { LOOKS = 10, MOST_LOOKS = 12000, PAUSE_US = 10000 };
	int alone = 0;

	for (int looks = 0; alone < LOOKS && looks < MOST_LOOKS; looks++) {
		alone = runnable() <= 1 ? alone + 1 : 0;
		usleep(PAUSE_US);
	}
}

void slot_wait(void)
{
	struct slot_page *pages = slot_open();
	volatile uint32_t *length = &pages->length;
	char *archive;

	wait_until_idle();
	report("{\"type\":\"waiting\"}\n");
	report_flush();
	/* It is stopped and saved at once: a sleep would only delay each of its copies. */
	while (!*length)
		;
	if (*length > SLOT_PAGES * sizeof(pages->data))
		die("a job of %u bytes does not fit into the slot", *length);
	archive = slot_take(pages, *length);
	lay_out(archive, *length);
	free(archive);
	munmap(pages, SLOT_PAGES * sizeof(*pages));
}
