/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Random choices and the data that the programs move.
 *
 * Both hang on the seed and the name of the path alone, so that a path repeats itself exactly
 * however the paths are interleaved.
 *
 * A cell is 8 bytes of a file at an offset divisible by 8. Its content is a bijection of
 * (generation, cell number), scrambled with a key: every byte of a cell depends on everything, so a
 * stale page, a shifted copy or a flipped bit differs almost everywhere, and a found cell can be
 * traced back to where it came from. Cells are big-endian in the file: a failure reads the same on
 * every host.
 */
#ifndef FARM_STRESS_PATTERN_H
#define FARM_STRESS_PATTERN_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { CELL = 8 };

/*
 * The finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
 * generators", 2014).
 */
static inline uint64_t mix64(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

/* The inverse of mix64(): its multipliers' inverses modulo 2^64, in reverse order. */
static inline uint64_t unmix64(uint64_t x)
{
	x = (x ^ (x >> 31) ^ (x >> 62)) * 0x319642b2d24d8ec3ULL;
	x = (x ^ (x >> 27) ^ (x >> 54)) * 0x96de1b173f119089ULL;
	return x ^ (x >> 30) ^ (x >> 60);
}

struct rng {
	uint64_t state;
};

static inline uint64_t rng_next(struct rng *rng)
{
	rng->state += 0x9e3779b97f4a7c15ULL;
	return mix64(rng->state);
}

/* A number in 0 … bound - 1; the bias of the modulo does not matter for bounds far below 2^64. */
static inline uint64_t rng_below(struct rng *rng, uint64_t bound)
{
	return rng_next(rng) % bound;
}

static inline bool rng_one_in(struct rng *rng, uint64_t n)
{
	return rng_below(rng, n) == 0;
}

static inline uint64_t round_down(uint64_t value, uint64_t align)
{
	return value - value % align;
}

/*
 * A length of 1 … max in steps of align. Uniform lengths hardly ever meet a page's border, so a
 * third of them are a few bytes and a third lie right beside a multiple of the page size.
 */
static inline size_t rng_length(struct rng *rng, size_t max, size_t align)
{
	const size_t page = 4096;
	size_t length;

	switch (rng_below(rng, 3)) {
	case 0:
		length = 1 + rng_below(rng, 64);
		break;
	case 1:
		length = page * (1 + rng_below(rng, 1 + max / page)) + rng_below(rng, 17);
		length -= 8;
		break;
	default:
		length = 1 + rng_below(rng, max);
	}
	if (length > max)
		length = max;
	length = round_down(length, align);
	return length ? length : align;
}

/* An offset, in steps of align, at which length bytes fit into size. */
static inline uint64_t rng_offset(struct rng *rng, uint64_t size, size_t length, size_t align)
{
	return round_down(rng_below(rng, size - length + 1), align);
}

static inline uint64_t pattern_cell(uint64_t key, uint32_t generation, uint64_t cell)
{
	return htobe64(mix64(key ^ ((uint64_t)generation << 32 | cell)));
}

/*
 * The generation (upper 32 bits) and cell number (lower 32 bits) that some 8 bytes would have come
 * from.
 */
static inline uint64_t pattern_origin(uint64_t key, const void *bytes)
{
	uint64_t value;

	memcpy(&value, bytes, sizeof(value));
	return unmix64(be64toh(value)) ^ key;
}

/* What [offset, offset + length) of a file holds in the given generation. */
static inline void pattern_fill(uint64_t key, uint32_t generation, void *buffer, size_t length,
				uint64_t offset)
{
	unsigned char *to = buffer;

	while (length) {
		uint64_t value = pattern_cell(key, generation, offset / CELL);
		size_t skip = offset % CELL;
		size_t take = CELL - skip < length ? CELL - skip : length;

		if (take == CELL)
			memcpy(to, &value, CELL);
		else
			memcpy(to, (unsigned char *)&value + skip, take);
		to += take;
		offset += take;
		length -= take;
	}
}

#endif
