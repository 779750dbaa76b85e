// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Moves file data with sendfile(2) to sockets and files and checks what arrives.
 *
 * fs/read_write.c do_sendfile() -> fs/splice.c do_splice_direct() -> splice_direct_to_actor(),
 * which moves page-cache pages by reference through a pipe of the task's own, 16 buffers at a time.
 * From there direct_splice_actor() -> do_splice_from() goes to a file's iter_file_splice_write() or
 * to a socket: 6.1 generic_splice_sendpage() -> tcp_sendpage(), unix_stream_sendpage() or
 * udp_sendpage() -> ip_append_page(); 6.12 splice_to_socket() -> tcp_sendmsg_locked(),
 * unix_stream_sendmsg() or udp_sendmsg() with MSG_SPLICE_PAGES -> skb_splice_from_iter(). The pages
 * of the file stand in socket buffers until the receiver has read them.
 *
 * Path `truncate`: the same to TCP while a second thread shrinks and extends the file, so that
 * mm/truncate.c truncate_inode_pages_range() removes pages, and truncate_inode_partial_folio()
 * zeroes parts of pages, that the pipe and the socket still hold.
 *
 * Oracles. A range of the source gets a new generation, is sent, and is not written again before
 * the receiver has all of it: every byte must be of that generation. In path `truncate` the other
 * thread writes nothing; it cuts at offsets of at least `floor` and each time extends to the full
 * size again. So
 *  - bytes below the floor are sent, and are of this generation: no cut touches them;
 *  - a byte at or above it is of this generation or zero (the hole, or the zeroed rest of a cut
 *    page), byte by byte, since the zeroing may run while the receiver copies; never another
 *    generation's or offset's;
 *  - fewer bytes may be sent than asked, but not fewer than lie below the floor, and exactly as
 *    many arrive as sendfile() returned: what is missing to the asked length is sent as filler, so
 *    that the receiver needs no agreement on the length and a surplus shows as a wrong filler.
 *
 * UDP: one turn is one datagram (UDP_CORK joins the pages), sent without a checksum (SO_NO_CHECK),
 * so that wrong data arrives and is seen here. A lost datagram is legal, a wrong or short one not.
 *
 * --udp-checksums: the kernel sums up corked datagrams in software, page by page, and the receiver
 * drops what does not add up; a datagram that is lost while the system counts a wrong checksum
 * fails the path. That happens
 *  - since 6.5 to datagrams of several pages from odd offsets: net/core/skbuff.c
 *    skb_splice_from_iter() passes skb->len, which it raises only after its loop, as each page's
 *    position, so the pages behind the first enter the sum with their bytes swapped;
 *  - under QEMU 7.2's TCG with a 6.12 kernel, from even offsets too; not under QEMU 10.0, nor
 *    with a 6.1 kernel under 7.2. Presumably the emulator's VECTOR CHECKSUM, which 6.12's s390
 *    csum_partial() uses.
 */
#define _GNU_SOURCE
#include <netinet/udp.h>
#include <poll.h>
#include <sys/sendfile.h>

#include "common.h"
#include "file.h"
#include "peer.h"
#include "sendfile.args.h"
#include "sizes.h"

enum target { TO_TCP, TO_UDP, TO_UNIX, TO_FILE, TO_TCP_TRUNCATED };

enum {
	CUTS = 4, /* truncations in one turn */
	FILLER = 0xf1,
	MAX_DATAGRAM = 61440, /* 16 pages at any offset make 17 fragments, the most a socket buffer
				 takes */
	DATAGRAM_MS = 1000,   /* loopback delivers at once or never */
	MAX_LOST = 8,	      /* datagrams in a row */
};

struct route {
	struct stress_file source, target;
	int out;
	int udp_in;
	unsigned char *datagram;
	unsigned char *zeros, *filler;
	struct receiver receiver;
	struct helper truncator;
	uint64_t cuts[CUTS];
	uint64_t checksum_errors; /* of the system, when the path began */
	int truncate_error;
	unsigned int lost, lost_in_a_row;
	unsigned int truncated, cut_short, with_holes; /* turns */
	unsigned int ops;			       /* calls that moved data in this turn */
};

/* Beside the turn. */
static void truncate_source(void *argument)
{
	struct route *route = argument;

	for (int i = 0; i < CUTS; i++) {
		if (!ftruncate(route->source.fd, route->cuts[i]) &&
		    !ftruncate(route->source.fd, route->source.size))
			continue;
		route->truncate_error = errno;
		return;
	}
}

/*
 * InCsumErrors of /proc/net/snmp: the seventh number of the second line that begins with "Udp:"; 0
 * if unknown.
 */
static uint64_t count_checksum_errors(void)
{
	FILE *snmp = fopen("/proc/net/snmp", "re");
	unsigned long long errors = 0;
	char line[1024];

	if (!snmp)
		return 0;
	while (fgets(line, sizeof(line), snmp))
		if (sscanf(line, "Udp: %*u %*u %*u %*u %*u %*u %llu", &errors) == 1)
			break;
	fclose(snmp);
	return errors;
}

static enum stress_result udp_pair(struct stress_path *path, struct route *route)
{
	const int no_checksum = !stress_number(ARG_UDP_CHECKSUMS);
	struct sockaddr_in address;

	route->udp_in = net_bind(path, SOCK_DGRAM, &address);
	if (route->udp_in < 0)
		return net_error(path, "bind UDP");
	route->out = net_connect(SOCK_DGRAM, &address);
	if (route->out < 0)
		return net_error(path, "connect UDP");
	if (setsockopt(route->out, SOL_SOCKET, SO_NO_CHECK, &no_checksum, sizeof(no_checksum)))
		return stress_error(path, "set SO_NO_CHECK");
	route->datagram = stress_alloc(MAX_DATAGRAM + 1);
	route->checksum_errors = count_checksum_errors();
	return STRESS_OK;
}

static enum stress_result stream_pair(struct stress_path *path, struct route *route)
{
	uint64_t max = stress_number(ARG_MAX_LENGTH);
	enum stress_result result;
	int sockets[2];

	result = path->variant == TO_UNIX ? unix_pair(path, sockets) : tcp_pair(path, sockets);
	route->out = sockets[0];
	route->receiver.fd = sockets[1];
	if (result != STRESS_OK)
		return result;
	route->zeros = stress_alloc(max);
	route->filler = memset(stress_alloc(max), FILLER, max);
	return receiver_start(path, &route->receiver, max);
}

static enum stress_result set_up(struct stress_path *path)
{
	static const struct stress_file closed = STRESS_FILE_CLOSED;
	uint64_t size = stress_number(ARG_FILE_SIZE);
	struct route *route = stress_alloc(sizeof(*route));
	enum stress_result result;

	path->state = route;
	*route = (struct route){
		.source = closed, .target = closed, .out = -1, .udp_in = -1, .receiver.fd = -1
	};
	result = file_open(path, &route->source, "source", size);
	if (result != STRESS_OK)
		return result;
	switch (path->variant) {
	case TO_FILE:
		result = file_open(path, &route->target, "target", size);
		route->out = route->target.fd;
		return result;
	case TO_UDP:
		return udp_pair(path, route);
	default:
		result = stream_pair(path, route);
	}
	if (result == STRESS_OK && path->variant == TO_TCP_TRUNCATED)
		result = helper_start(path, &route->truncator, truncate_source, route);
	return result;
}

static void tear_down(struct stress_path *path)
{
	struct route *route = path->state;

	receiver_stop(&route->receiver);
	helper_stop(&route->truncator);
	if (route->out >= 0 && route->out != route->target.fd)
		close(route->out);
	if (route->udp_in >= 0)
		close(route->udp_in);
	file_close(&route->source);
	file_close(&route->target);
	if (route->lost)
		stress_note(path, "%u datagrams were lost", route->lost);
	if (route->truncated)
		stress_note(path, "of %u turns %u were cut short and %u saw a hole",
			    route->truncated, route->cut_short, route->with_holes);
	free(route->datagram);
	free(route->zeros);
	free(route->filler);
	free(route);
}

/* Sends [from, from + length) of the source until all is sent or the source ends. */
static enum stress_result send_range(struct stress_path *path, uint64_t from, size_t length,
				     size_t *sent)
{
	struct route *route = path->state;
	uint64_t shift = planted(path, 5) ? (from >= CELL ? -(uint64_t)CELL : CELL) : 0;

	route->ops = 0;
	*sent = 0;
	path->waits_for = "sendfile";
	while (*sent < length) {
		off_t offset = from + *sent + shift, before = offset;
		ssize_t n = sendfile(route->out, route->source.fd, &offset, length - *sent);

		if (n < 0)
			return stress_error(path, "send %zu bytes at %lld", length - *sent,
					    (long long)before);
		if (offset - before != n)
			return stress_wrong_number(path, "length", before, n, offset - before);
		if (n == 0)
			break;
		route->ops++;
		*sent += n;
	}
	return STRESS_OK;
}

static enum stress_result send_to_file(struct stress_path *path, uint64_t from, size_t length)
{
	struct route *route = path->state;
	uint64_t to = rng_offset(&path->rng, route->target.size, length, 1);
	size_t asked = planted(path, 4) && length > 1
			       ? length / 2
			       : length; /* a short transfer taken for full */
	enum stress_result result;
	size_t sent;

	if (lseek(route->out, to, SEEK_SET) < 0)
		return stress_error(path, "seek in the target file");
	result = send_range(path, from, asked, &sent);
	if (result != STRESS_OK)
		return result;
	if (sent != asked)
		return stress_wrong_number(path, "length", from, asked, sent);
	return file_verify_moved(path, &route->target, "pattern", route->source.model + from, to,
				 length);
}

static enum stress_result set_cork(struct stress_path *path, int on)
{
	struct route *route = path->state;

	if (setsockopt(route->out, IPPROTO_UDP, UDP_CORK, &on, sizeof(on)))
		return stress_error(path, on ? "cork the UDP socket" : "send the corked datagram");
	return STRESS_OK;
}

static enum stress_result lose_datagram(struct stress_path *path, uint64_t from, size_t *length)
{
	struct route *route = path->state;
	uint64_t errors = count_checksum_errors();

	stress_note(path, "lost a datagram of %zu bytes from offset %llu", *length,
		    (unsigned long long)from);
	if (errors != route->checksum_errors)
		return stress_wrong_number(path, "checksum", from, route->checksum_errors, errors);
	route->lost++;
	*length = route->ops = 0;
	if (++route->lost_in_a_row < MAX_LOST)
		return STRESS_OK;
	errno = ETIMEDOUT;
	return stress_error(path, "receive one of %d datagrams", MAX_LOST);
}

static enum stress_result send_datagram(struct stress_path *path, uint64_t from, size_t *length)
{
	struct route *route = path->state;
	struct pollfd readable = { .fd = route->udp_in, .events = POLLIN };
	/* What lies in one page makes one datagram by itself. */
	bool cork = from / 4096 != (from + *length - 1) / 4096 || rng_one_in(&path->rng, 2);
	enum stress_result result = cork ? set_cork(path, 1) : STRESS_OK;
	size_t sent;
	ssize_t n;

	if (result == STRESS_OK)
		result = send_range(path, from, *length, &sent);
	if (result == STRESS_OK && cork)
		result = set_cork(path, 0);
	if (result != STRESS_OK)
		return result;
	if (sent != *length)
		return stress_wrong_number(path, "length", from, *length, sent);

	path->waits_for = "the datagram";
	n = poll(&readable, 1, DATAGRAM_MS);
	if (n < 0)
		return stress_error(path, "poll the receiving UDP socket");
	if (n == 0)
		return lose_datagram(path, from, length);
	route->lost_in_a_row = 0;
	n = recv(route->udp_in, route->datagram, MAX_DATAGRAM + 1, 0);
	if (n < 0)
		return stress_error(path, "receive a datagram");
	if (planted(path, 1))
		route->datagram[*length / 2] ^= 0x10;
	if (planted(path, 4))
		n /= 2;
	if ((size_t)n != *length)
		return stress_wrong_number(path, "length", from, *length, n);
	return stress_compare(path, "pattern", route->datagram, route->source.model + from, NULL, n,
			      from);
}

/* The filler makes up for what the source's end has left unsent. */
static enum stress_result send_filler(struct stress_path *path, size_t length)
{
	struct route *route = path->state;

	path->waits_for = "send of the filler";
	while (length) {
		ssize_t n = send(route->out, route->filler, length, 0);

		if (n < 0)
			return stress_error(path, "send %zu bytes of filler", length);
		length -= n;
	}
	return STRESS_OK;
}

/* Orders the cuts and returns their lowest offset. */
static uint64_t order_cuts(struct stress_path *path, uint64_t from, size_t length)
{
	struct route *route = path->state;
	uint64_t floor = from + length;

	for (int i = 0; i < CUTS; i++) {
		route->cuts[i] = from + rng_below(&path->rng, length + 1);
		if (route->cuts[i] < floor)
			floor = route->cuts[i];
	}
	helper_order(&route->truncator);
	return floor;
}

static enum stress_result await_cuts(struct stress_path *path)
{
	struct route *route = path->state;

	path->waits_for = "the truncations";
	helper_wait(&route->truncator);
	if (!route->truncate_error)
		return STRESS_OK;
	errno = route->truncate_error;
	return stress_error(path, "truncate the source file");
}

static enum stress_result send_to_stream(struct stress_path *path, uint64_t from, size_t *length)
{
	struct route *route = path->state;
	struct receiver *receiver = &route->receiver;
	const unsigned char *want = route->source.model + from;
	bool truncated = path->variant == TO_TCP_TRUNCATED;
	uint64_t floor = from + *length;
	enum stress_result result, cut = STRESS_OK;
	size_t sent, sure;

	receiver_order(receiver, *length);
	if (truncated)
		floor = order_cuts(path, from, *length);
	result = send_range(path, from, *length, &sent);
	if (result == STRESS_OK)
		result = send_filler(path, *length - sent);
	if (truncated)
		cut = await_cuts(path);
	if (result == STRESS_OK)
		result = receiver_wait(path, receiver);
	if (result != STRESS_OK || cut != STRESS_OK)
		return result != STRESS_OK ? result : cut;

	if (planted(path, 1))
		receiver->got[0] ^= 0x10;
	if (planted(path, 4) && sent) /* the end did not arrive though it was counted */
		receiver->got[sent - 1] ^= 0xff;
	sure = floor - from;
	if (sent < sure)
		return stress_wrong_number(path, "length", from, sure, sent);
	if (stress_compare(path, "pattern", receiver->got, want, NULL, sure, from) |
	    stress_compare(path, "hole", receiver->got + sure, want + sure, route->zeros,
			   sent - sure, floor) |
	    stress_compare(path, "filler", receiver->got + sent, route->filler, NULL,
			   *length - sent, from + sent))
		return STRESS_FAIL;
	if (truncated) {
		route->truncated++;
		route->cut_short += sent < *length;
		route->with_holes += !!memcmp(receiver->got, want, sent);
	}
	*length = sent;
	return STRESS_OK;
}

static enum stress_result turn(struct stress_path *path)
{
	struct route *route = path->state;
	size_t max = stress_number(ARG_MAX_LENGTH);
	size_t length = rng_length(
		&path->rng, path->variant == TO_UDP && max > MAX_DATAGRAM ? MAX_DATAGRAM : max, 1);
	uint64_t from = rng_offset(&path->rng, route->source.size, length, 1);
	enum stress_result result;

	file_renew_model(path, &route->source, from, length);
	if (!planted(path, 3)) { /* else a stale source */
		result = file_write(path, &route->source, from, length);
		if (result != STRESS_OK)
			return result;
	}
	result = file_prepare(path, &route->source, from, length);
	if (result != STRESS_OK)
		return result;

	switch (path->variant) {
	case TO_FILE:
		result = send_to_file(path, from, length);
		break;
	case TO_UDP:
		result = send_datagram(path, from, &length);
		break;
	default:
		result = send_to_stream(path, from, &length);
	}
	if (result == STRESS_OK)
		stress_credit(path, route->ops, length);
	return result;
}

STRESS_MAIN("sendfile", check_sizes,
	    STRESS_PATH("file-tcp", TO_TCP),
	    STRESS_PATH("file-udp", TO_UDP),
	    STRESS_PATH("file-unix", TO_UNIX),
	    STRESS_PATH("file-file", TO_FILE),
	    STRESS_PATH("truncate", TO_TCP_TRUNCATED))
