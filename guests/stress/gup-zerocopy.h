/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * MSG_ZEROCOPY: sockets send from the user's own pages.
 *
 * net/ipv4/tcp.c tcp_sendmsg_locked() and net/ipv4/ip_output.c __ip_append_data() ->
 * net/core/skbuff.c skb_zerocopy_iter_stream(), skb_zerocopy_iter_dgram() -> net/core/datagram.c
 * __zerocopy_sg_from_iter() -> iov_iter_get_pages2(), references with FOLL_GET on 6.1 and 6.12. The
 * notification that the pages are free again comes through the socket's error queue
 * (msg_zerocopy_callback() on 6.1, msg_zerocopy_complete() on 6.12). Loopback delivers no user's
 * pages: skb_orphan_frags_rx() -> skb_copy_ubufs() copies them first, and the notification says so
 * (SO_EE_CODE_ZEROCOPY_COPIED); the references are taken nonetheless.
 *
 * Oracles (Documentation/networking/msg_zerocopy.rst). Each call that sent data is notified exactly
 * once: notifications are ranges of the calls' numbers, and a number that is unknown, comes twice
 * or never is an error. Until then the memory is not written; from then on it may be, so it is
 * overwritten at once, and what arrives must still be what was sent. A lost datagram is legal, a
 * wrong or short one not.
 */
#ifndef FARM_STRESS_GUP_ZEROCOPY_H
#define FARM_STRESS_GUP_ZEROCOPY_H

#include <linux/errqueue.h>
#include <poll.h>

#include "common.h"
#include "memory.h"
#include "peer.h"

enum {
	MAX_SENDS = 64,	      /* in one turn */
	MAX_DATAGRAM = 49152, /* in fewer fragments than a socket buffer takes, at any offset */
	ARRIVAL_MS = 3000,    /* loopback delivers at once or never */
	MAX_LOST = 8,	      /* datagrams in a row */
	SCRIBBLE = 0x5c,
};

struct zerocopy {
	int out, udp_in;
	struct receiver receiver; /* of TCP */
	struct memory memory[MEMORY_KINDS];
	unsigned char *want, *datagram;
	uint32_t first, sends; /* of this turn: the number of the first call, and how many */
	uint64_t notified;     /* a bit for each of them */
	unsigned int lost, lost_in_a_row;
	unsigned long long notifications, copied;
};

static enum stress_result zerocopy_connect(struct stress_path *path, struct zerocopy *zerocopy)
{
	const int on = 1;
	struct sockaddr_in address;
	enum stress_result result = STRESS_OK;
	int sockets[2];

	if (path->variant == SOCK_STREAM) {
		result = tcp_pair(path, sockets);
		zerocopy->out = sockets[0];
		zerocopy->receiver.fd = sockets[1];
		if (result == STRESS_OK)
			result = receiver_start(path, &zerocopy->receiver,
						stress_number(ARG_MAX_LENGTH));
	} else {
		zerocopy->udp_in = net_bind(path, SOCK_DGRAM, &address);
		if (zerocopy->udp_in < 0)
			return net_error(path, "bind UDP");
		zerocopy->out = net_connect(SOCK_DGRAM, &address);
		if (zerocopy->out < 0)
			return net_error(path, "connect UDP");
		zerocopy->datagram = stress_alloc(MAX_DATAGRAM + 1);
	}
	if (result != STRESS_OK)
		return result;
	if (setsockopt(zerocopy->out, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)))
		return stress_error(path, "set SO_ZEROCOPY");
	return STRESS_OK;
}

static enum stress_result zerocopy_set_up(struct stress_path *path)
{
	struct zerocopy *zerocopy = stress_alloc(sizeof(*zerocopy));
	size_t max = stress_number(ARG_MAX_LENGTH);
	enum stress_result result = STRESS_OK;

	path->state = zerocopy;
	*zerocopy = (struct zerocopy){ .out = -1, .udp_in = -1, .receiver.fd = -1 };
	for (int kind = 0; kind < MEMORY_KINDS; kind++)
		zerocopy->memory[kind] = (struct memory)MEMORY_CLOSED;
	zerocopy->want = stress_alloc(max);
	for (int kind = 0; kind < MEMORY_KINDS && result == STRESS_OK; kind++)
		result = memory_open(path, &zerocopy->memory[kind], kind, MAP_SHARED, "memory",
				     max);
	return result == STRESS_OK ? zerocopy_connect(path, zerocopy) : result;
}

static void zerocopy_tear_down(struct stress_path *path)
{
	struct zerocopy *zerocopy = path->state;

	receiver_stop(&zerocopy->receiver);
	if (zerocopy->out >= 0)
		close(zerocopy->out);
	if (zerocopy->udp_in >= 0)
		close(zerocopy->udp_in);
	for (int kind = 0; kind < MEMORY_KINDS; kind++)
		memory_close(&zerocopy->memory[kind]);
	if (zerocopy->notifications)
		stress_note(path, "of %llu notifications %llu told of a copy",
			    zerocopy->notifications, zerocopy->copied);
	if (zerocopy->lost)
		stress_note(path, "%u datagrams were lost", zerocopy->lost);
	free(zerocopy->datagram);
	free(zerocopy->want);
	free(zerocopy);
}

/* Takes note that the calls numbered low … high are done with. */
static enum stress_result zerocopy_notify(struct stress_path *path, struct zerocopy *zerocopy,
					  uint32_t low, uint32_t high)
{
	/* The numbers are 32 bits wide and wrap. */
	uint32_t from = low - zerocopy->first, to = high - zerocopy->first;

	if (planted(path, 7) && from == 0) /* a notification that got lost */
		return STRESS_OK;
	if (planted(path, 9)) /* one of another call */
		to = zerocopy->sends;
	if (to >= zerocopy->sends || from > to)
		return stress_wrong_number(path, "notification", 0, zerocopy->sends,
					   (uint64_t)from << 32 | to);
	if (planted(path, 8)) /* one that comes twice */
		zerocopy->notified |= 1ULL << from;
	for (; from <= to; from++) {
		uint64_t bit = 1ULL << from;

		if (zerocopy->notified & bit)
			return stress_wrong_number(path, "notified-twice", 0, 1, from);
		zerocopy->notified |= bit;
	}
	return STRESS_OK;
}

/* Reads one notification; *none if there is none now. */
static enum stress_result zerocopy_read(struct stress_path *path, struct zerocopy *zerocopy,
					bool *none)
{
	union {
		struct cmsghdr header;
		char bytes[256];
	} control;
	struct msghdr message = { .msg_control = &control, .msg_controllen = sizeof(control) };
	struct sock_extended_err error;
	struct cmsghdr *header;

	*none = recvmsg(zerocopy->out, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0;
	if (*none)
		return errno == EAGAIN ? STRESS_OK : stress_error(path, "read the error queue");
	header = CMSG_FIRSTHDR(&message);
	if (!header || header->cmsg_level != SOL_IP || header->cmsg_type != IP_RECVERR ||
	    header->cmsg_len < CMSG_LEN(sizeof(error))) {
		stress_note(path, "the error queue holds something without a cause");
		return STRESS_FAIL;
	}
	memcpy(&error, CMSG_DATA(header), sizeof(error));
	if (error.ee_origin != SO_EE_ORIGIN_ZEROCOPY || error.ee_errno) {
		errno = error.ee_errno;
		return stress_error(path, "send: origin %u", error.ee_origin);
	}
	zerocopy->notifications++;
	zerocopy->copied += error.ee_code == SO_EE_CODE_ZEROCOPY_COPIED;
	return zerocopy_notify(path, zerocopy, error.ee_info, error.ee_data);
}

/* Reads notifications until there are at least `count` of this turn's calls. */
static enum stress_result zerocopy_reap(struct stress_path *path, struct zerocopy *zerocopy,
					uint32_t count)
{
	/* POLLERR is always asked for. */
	struct pollfd failed = { .fd = zerocopy->out };

	while ((uint32_t)__builtin_popcountll(zerocopy->notified) < count) {
		bool none;
		enum stress_result result = zerocopy_read(path, zerocopy, &none);
		int n;

		if (result != STRESS_OK)
			return result;
		if (!none)
			continue;
		path->waits_for = "a notification of the error queue";
		n = poll(&failed, 1, ARRIVAL_MS);
		if (n < 0)
			return stress_error(path, "poll the sending socket");
		if (n == 0)
			return stress_wrong_number(path, "unnotified", 0, count,
						   __builtin_popcountll(zerocopy->notified));
	}
	return STRESS_OK;
}

/* Sends the range; TCP takes it in pieces. */
static enum stress_result zerocopy_send(struct stress_path *path, struct zerocopy *zerocopy,
					unsigned char *from, size_t length)
{
	size_t sent = 0;

	while (sent < length) {
		size_t piece = length - sent;
		struct iovec iov[MAX_PIECES];
		struct msghdr message = { .msg_iov = iov };
		ssize_t n;

		if (path->variant == SOCK_STREAM && zerocopy->sends < MAX_SENDS - 1 &&
		    rng_one_in(&path->rng, 2))
			piece = rng_length(&path->rng, piece, 1);
		message.msg_iovlen = split_range(path, iov, from + sent, piece, 1);
		path->waits_for = "a zero-copy send";
		n = sendmsg(zerocopy->out, &message, MSG_ZEROCOPY);
		/* Notifications that wait to be read use up the socket's share of memory. */
		if (n < 0 && errno == ENOBUFS && zerocopy->sends) {
			enum stress_result result =
				zerocopy_reap(path, zerocopy, zerocopy->sends);

			if (result != STRESS_OK)
				return result;
			continue;
		}
		if (n < 0)
			return stress_error(path, "send %zu bytes", piece);
		if (n == 0 || (size_t)n > piece ||
		    (path->variant == SOCK_DGRAM && (size_t)n != piece))
			return stress_wrong_number(path, "length", sent, piece, n);
		if (zerocopy->sends == MAX_SENDS)
			return stress_wrong_number(path, "length", sent, length, sent + n);
		zerocopy->sends++;
		sent += n;
	}
	return STRESS_OK;
}

static enum stress_result zerocopy_receive_datagram(struct stress_path *path,
						    struct zerocopy *zerocopy, size_t *length)
{
	struct pollfd readable = { .fd = zerocopy->udp_in, .events = POLLIN };
	ssize_t n;

	path->waits_for = "the datagram";
	n = poll(&readable, 1, ARRIVAL_MS);
	if (n < 0)
		return stress_error(path, "poll the receiving socket");
	if (n == 0) {
		stress_note(path, "lost a datagram of %zu bytes", *length);
		*length = 0;
		zerocopy->lost++;
		errno = ETIMEDOUT;
		return ++zerocopy->lost_in_a_row < MAX_LOST
			       ? STRESS_OK
			       : stress_error(path, "receive one of %d datagrams", MAX_LOST);
	}
	zerocopy->lost_in_a_row = 0;
	n = recv(zerocopy->udp_in, zerocopy->datagram, MAX_DATAGRAM + 1, 0);
	if (n < 0)
		return stress_error(path, "receive a datagram");
	if (planted(path, 5)) /* cut short */
		n /= 2;
	return (size_t)n == *length ? STRESS_OK
				    : stress_wrong_number(path, "length", 0, *length, n);
}

static enum stress_result zerocopy_turn(struct stress_path *path)
{
	struct zerocopy *zerocopy = path->state;
	size_t max = stress_number(ARG_MAX_LENGTH);
	struct memory *memory = &zerocopy->memory[memory_choose(path, stress_number(ARG_MEMORY))];
	bool tcp = path->variant == SOCK_STREAM;
	size_t length = rng_length(&path->rng, !tcp && max > MAX_DATAGRAM ? MAX_DATAGRAM : max, 1);
	size_t start = memory_room(path, memory, length, 1), asked = length;
	unsigned char *from = memory->bytes + start, *got;
	enum stress_result result;

	path->generation++;
	pattern_fill(path->key, path->generation, zerocopy->want, length, start);
	path->waits_for = "a store to the memory";
	if (!planted(path, 4)) /* else stale data */
		memcpy(from, zerocopy->want, length);
	result = memory_prepare(path, memory, from, length);
	if (result != STRESS_OK)
		return result;

	zerocopy->first += zerocopy->sends;
	zerocopy->sends = 0;
	zerocopy->notified = 0;
	if (tcp)
		receiver_order(&zerocopy->receiver, length);
	result = zerocopy_send(path, zerocopy, from, length);
	if (result == STRESS_OK)
		result = zerocopy_reap(path, zerocopy, zerocopy->sends);
	if (result != STRESS_OK)
		return result;
	memset(from, SCRIBBLE, length);
	result = tcp ? receiver_wait(path, &zerocopy->receiver)
		     : zerocopy_receive_datagram(path, zerocopy, &length);
	if (result != STRESS_OK)
		return result;
	got = tcp ? zerocopy->receiver.got : zerocopy->datagram;
	if (planted(path, 1)) /* a flipped bit */
		got[length / 2] ^= 0x10;
	if (planted(path, 6)) /* the pages were sent after the notification */
		memset(got, SCRIBBLE, length);
	result = stress_compare(path, "pattern", got, zerocopy->want, NULL, length, start);
	if (result == STRESS_FAIL)
		stress_note(path, "%s memory at %zu, %zu bytes", memory_name(memory->kind), start,
			    asked);
	/* What was lost has moved nowhere. */
	if (result == STRESS_OK && length)
		stress_credit(path, zerocopy->sends, length);
	return result;
}

#endif
