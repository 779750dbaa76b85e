// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Writes an empty ext4 file system, without a journal, onto a disk of the guest's own, as mke2fs(8)
 * would. The host formats the disks that it brings; those that a kernel module makes it never sees.
 *
 * There is one block group, which ends with the disk or after 128 MiB. Its first blocks:
 *   0 superblock (at byte 1,024), 1 group descriptor, 2 map of used blocks, 3 map of used inodes,
 *   4 inodes, ROOT content of the root directory.
 * Documentation/filesystems/ext4 has the layout; all numbers are little-endian.
 */
#include "init.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	BLOCK = 4096,
	BLOCKS_IN_GROUP = 8 * BLOCK, /* what one block of bits can tell of */
	INODE = 256,
	INODES = 256,
	FIRST_FREE_INODE = 11, /* those before it are reserved */
	ROOT_INODE = 2,
	SUPER_OFFSET = 1024,

	DESCRIPTOR = 1,
	BLOCK_MAP = 2,
	INODE_MAP = 3,
	INODE_TABLE = 4,
	ROOT = INODE_TABLE + INODES * INODE / BLOCK,
	USED = ROOT + 1,

	MAGIC = 0xef53,
	CLEAN = 1,
	CONTINUE_ON_ERRORS = 1,
	DYNAMIC_REVISION = 1,
	HAS_FILE_TYPES = 0x2, /* in directories */
	HAS_EXTENTS = 0x40,
	HAS_LARGE_FILES = 0x2,
	TYPE_DIRECTORY = 2,
};

/* struct ext4_super_block, as far as it says something here. */
struct superblock {
	uint32_t inodes, blocks, reserved_blocks, free_blocks, free_inodes, first_block;
	uint32_t log_block_size, log_cluster_size, blocks_per_group, clusters_per_group;
	uint32_t inodes_per_group, mounted_at, written_at;
	uint16_t mounts, most_mounts, magic, state, on_errors, minor_revision;
	uint32_t checked_at, check_interval, creator_os, revision;
	uint16_t reserved_uid, reserved_gid;
	uint32_t first_free_inode;
	uint16_t inode_size, group;
	uint32_t compatible, incompatible, read_only_compatible;
};

_Static_assert(sizeof(struct superblock) == 104, "features end at byte 104");

/* struct ext4_group_desc of 32 bytes, its beginning. */
struct descriptor {
	uint32_t block_map, inode_map, inode_table;
	uint16_t free_blocks, free_inodes, directories, flags;
};

/* struct ext4_inode, its beginning. */
struct inode {
	uint16_t mode, uid;
	uint32_t size, accessed_at, changed_at, modified_at, deleted_at;
	uint16_t gid, links;
	uint32_t sectors, flags, version, block[15];
};

/* struct ext4_dir_entry_2. */
struct entry {
	uint32_t inode;
	uint16_t length; /* up to the next */
	unsigned char name_length, type;
	char name[4];
};

static bool write_block(int fd, uint32_t number, const void *block)
{
	ssize_t n = pwrite(fd, block, BLOCK, (off_t)number * BLOCK);

	if (n >= 0 && n != BLOCK)
		errno = EIO;
	return n == BLOCK;
}

static void mark(unsigned char *map, uint32_t from, uint32_t to)
{
	for (uint32_t bit = from; bit < to; bit++)
		map[bit / 8] |= (unsigned char)(1 << bit % 8);
}

static bool write_super(int fd, uint32_t blocks)
{
	unsigned char block[BLOCK] = { 0 };
	const struct superblock super = {
		.inodes = htole32(INODES),
		.blocks = htole32(blocks),
		.free_blocks = htole32(blocks - USED),
		.free_inodes = htole32(INODES - FIRST_FREE_INODE + 1),
		.log_block_size = htole32(2), /* of 1,024 bytes */
		.log_cluster_size = htole32(2),
		.blocks_per_group = htole32(BLOCKS_IN_GROUP),
		.clusters_per_group = htole32(BLOCKS_IN_GROUP),
		.inodes_per_group = htole32(INODES),
		.most_mounts = htole16(0xffff),
		.magic = htole16(MAGIC),
		.state = htole16(CLEAN),
		.on_errors = htole16(CONTINUE_ON_ERRORS),
		.revision = htole32(DYNAMIC_REVISION),
		.first_free_inode = htole32(FIRST_FREE_INODE),
		.inode_size = htole16(INODE),
		.incompatible = htole32(HAS_FILE_TYPES | HAS_EXTENTS),
		.read_only_compatible = htole32(HAS_LARGE_FILES),
	};

	memcpy(block + SUPER_OFFSET, &super, sizeof(super));
	return write_block(fd, 0, block);
}

static bool write_descriptor(int fd, uint32_t blocks)
{
	unsigned char block[BLOCK] = { 0 };
	const struct descriptor descriptor = {
		.block_map = htole32(BLOCK_MAP),
		.inode_map = htole32(INODE_MAP),
		.inode_table = htole32(INODE_TABLE),
		.free_blocks = htole16((uint16_t)(blocks - USED)),
		.free_inodes = htole16(INODES - FIRST_FREE_INODE + 1),
		.directories = htole16(1),
	};

	memcpy(block, &descriptor, sizeof(descriptor));
	return write_block(fd, DESCRIPTOR, block);
}

/* What does not exist counts as used. */
static bool write_maps(int fd, uint32_t blocks)
{
	unsigned char block_map[BLOCK] = { 0 }, inode_map[BLOCK] = { 0 };

	mark(block_map, 0, USED);
	mark(block_map, blocks, BLOCKS_IN_GROUP);
	mark(inode_map, 0, FIRST_FREE_INODE - 1); /* inodes count from 1 */
	mark(inode_map, INODES, BLOCKS_IN_GROUP);
	return write_block(fd, BLOCK_MAP, block_map) && write_block(fd, INODE_MAP, inode_map);
}

static bool write_inodes(int fd)
{
	unsigned char block[BLOCK] = { 0 };
	const struct inode root = {
		.mode = htole16(S_IFDIR | 0755),
		.size = htole32(BLOCK),
		.links = htole16(2),
		.sectors = htole32(BLOCK / 512),
		.block = { htole32(ROOT) },
	};

	for (uint32_t number = INODE_TABLE + 1; number < ROOT; number++)
		if (!write_block(fd, number, block))
			return false;
	memcpy(block + (ROOT_INODE - 1) * INODE, &root, sizeof(root));
	return write_block(fd, INODE_TABLE, block);
}

static bool write_root(int fd)
{
	unsigned char block[BLOCK] = { 0 };
	const struct entry entries[] = {
		{ htole32(ROOT_INODE), htole16(sizeof(struct entry)), 1, TYPE_DIRECTORY, "." },
		{ htole32(ROOT_INODE), htole16(BLOCK - sizeof(struct entry)), 2, TYPE_DIRECTORY, ".." },
	};

	memcpy(block, entries, sizeof(entries));
	return write_block(fd, ROOT, block);
}

int format_disk(const char *path)
{
	int fd = open(path, O_RDWR | O_EXCL | O_CLOEXEC), error;
	uint32_t blocks;
	off_t size;
	bool done;

	if (fd < 0)
		return errno;
	size = lseek(fd, 0, SEEK_END); /* of a disk too */
	blocks = size / BLOCK < BLOCKS_IN_GROUP ? (uint32_t)(size / BLOCK) : BLOCKS_IN_GROUP;
	errno = ENOSPC;
	done = blocks > USED && write_super(fd, blocks) && write_descriptor(fd, blocks) &&
	       write_maps(fd, blocks) && write_inodes(fd) && write_root(fd) && !fsync(fd);
	error = done ? 0 : errno;
	close(fd);
	return error;
}
