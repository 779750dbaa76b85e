/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Helper threads, and the sockets at whose far end one receives.
 *
 * A helper does one job each time it is ordered, beside the main thread's turn, and only in its own
 * buffers; the main thread waits for it before it looks. What a job could block on for ever is
 * ended from outside (a socket is shut down), so a helper can always be stopped and joined.
 */
#ifndef FARM_STRESS_PEER_H
#define FARM_STRESS_PEER_H

#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common.h"
#include "secure.h"

struct helper {
	pthread_t thread;
	sem_t order, report;
	void (*job)(void *argument);
	void *argument;
	bool running, ordered, stop;
};

static inline void helper_sleep(sem_t *semaphore)
{
	while (sem_wait(semaphore) && errno == EINTR)
		;
}

static inline void *helper_main(void *argument)
{
	struct helper *helper = argument;

	for (;;) {
		helper_sleep(&helper->order);
		if (helper->stop)
			return NULL;
		helper->job(helper->argument);
		sem_post(&helper->report);
	}
}

static inline enum stress_result helper_start(struct stress_path *path, struct helper *helper,
					      void (*job)(void *argument), void *argument)
{
	int error;

	helper->job = job;
	helper->argument = argument;
	sem_init(&helper->order, 0, 0);
	sem_init(&helper->report, 0, 0);
	error = pthread_create(&helper->thread, NULL, helper_main, helper);
	if (error) {
		errno = error;
		return stress_error(path, "start a thread");
	}
	helper->running = true;
	return STRESS_OK;
}

static inline void helper_order(struct helper *helper)
{
	helper->ordered = true;
	sem_post(&helper->order);
}

/* Waits for the job if one was ordered. */
static inline void helper_wait(struct helper *helper)
{
	if (helper->ordered)
		helper_sleep(&helper->report);
	helper->ordered = false;
}

static inline void helper_stop(struct helper *helper)
{
	if (!helper->running)
		return;
	helper->stop = true;
	sem_post(&helper->order);
	pthread_join(helper->thread, NULL);
	helper->running = false;
}

/* The receiving end of a stream socket. */
struct receiver {
	struct helper helper;
	int fd;
	unsigned char *got;
	size_t length; /* to be received by the job */
	size_t received;
	int error; /* an errno, or 0 */
};

static inline void receiver_job(void *argument)
{
	struct receiver *receiver = argument;

	while (receiver->received < receiver->length) {
		ssize_t n = recv(receiver->fd, receiver->got + receiver->received,
				 receiver->length - receiver->received, 0);

		if (n <= 0) {
			/* The sender's end stays open while a job is under way. */
			receiver->error = n ? errno : ECONNRESET;
			return;
		}
		receiver->received += n;
	}
}

static inline void receiver_order(struct receiver *receiver, size_t length)
{
	receiver->length = length;
	receiver->received = 0;
	receiver->error = 0;
	helper_order(&receiver->helper);
}

static inline enum stress_result receiver_wait(struct stress_path *path, struct receiver *receiver)
{
	path->waits_for = "the receiver of the socket's data";
	helper_wait(&receiver->helper);
	if (!receiver->error)
		return STRESS_OK;
	errno = receiver->error;
	return stress_error(path, "receive byte %zu of %zu", receiver->received + 1,
			    receiver->length);
}

static inline enum stress_result receiver_start(struct stress_path *path, struct receiver *receiver,
						size_t max)
{
	receiver->got = stress_alloc(max);
	return helper_start(path, &receiver->helper, receiver_job, receiver);
}

static inline void receiver_stop(struct receiver *receiver)
{
	if (receiver->fd >= 0)
		shutdown(receiver->fd, SHUT_RDWR);
	helper_stop(&receiver->helper);
	if (receiver->fd >= 0)
		close(receiver->fd);
	receiver->fd = -1;
	free(receiver->got);
}

/*
 * An initramfs leaves the loopback device down; 0 or -1 with errno. The device says that it is up
 * before it has its routes; who raises it, even once more, waits for another worker that is at it
 * (net/core/dev_ioctl.c dev_ioctl() takes the RTNL lock).
 */
static inline int loopback_up(int socket)
{
	struct ifreq request = { .ifr_name = "lo" };
	bool up;

	if (ioctl(socket, SIOCGIFFLAGS, &request))
		return -1;
	up = request.ifr_flags & IFF_UP;
	request.ifr_flags |= IFF_UP;
	if (!ioctl(socket, SIOCSIFFLAGS, &request))
		return 0;
	return up && errno == EPERM ? 0 : -1;
}

/*
 * A socket bound to a free port of 127.0.0.1, or with --secure of the far NIC, whose address is
 * returned; -1 with errno.
 */
static inline int net_bind(struct stress_path *path, int type, struct sockaddr_in *address)
{
	socklen_t length = sizeof(*address);
	int fd = -1;

	*address = (struct sockaddr_in){ .sin_family = AF_INET,
					 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	if (stress_options.secure)
		address->sin_addr = secure_far_address();
	if (secure_far(path, true) == STRESS_OK)
		fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
	if (fd >= 0 && (loopback_up(fd) || bind(fd, (struct sockaddr *)address, length) ||
			getsockname(fd, (struct sockaddr *)address, &length))) {
		close(fd);
		fd = -1;
	}
	return secure_far(path, false) == STRESS_OK ? fd : -1;
}

/* A socket connected to address; -1 with errno. */
static inline int net_connect(int type, const struct sockaddr_in *address)
{
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	if (fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address))) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Why there is no connection: a missing network is no fault of the kernel's. */
static inline enum stress_result net_error(struct stress_path *path, const char *what)
{
	const char *by = stress_options.secure ? "the module's NICs" : "loopback";

	if (errno == EAFNOSUPPORT || errno == ENODEV || errno == ENETUNREACH ||
	    errno == EADDRNOTAVAIL || errno == EPERM)
		return stress_skip(path, "%s over %s: %m", what, by);
	return stress_error(path, "%s over %s", what, by);
}

/* TCP: sockets[0] sends, sockets[1] receives. */
static inline enum stress_result tcp_pair(struct stress_path *path, int sockets[2])
{
	struct sockaddr_in address;
	int listener = net_bind(path, SOCK_STREAM, &address);
	const int on = 1;

	sockets[0] = sockets[1] = -1;
	if (listener < 0)
		return net_error(path, "bind TCP");
	if (listen(listener, 1) == 0)
		sockets[0] = net_connect(SOCK_STREAM, &address);
	if (sockets[0] >= 0)
		sockets[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (sockets[1] < 0) {
		enum stress_result result = net_error(path, "connect TCP");

		close(listener);
		return result;
	}
	close(listener);
	/* Else the last, small segment of a turn waits for a delayed acknowledgement. */
	if (setsockopt(sockets[0], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
		return stress_error(path, "set TCP_NODELAY");
	return STRESS_OK;
}

/* sockets[0] sends, sockets[1] receives. */
static inline enum stress_result unix_pair(struct stress_path *path, int sockets[2])
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets)) {
		sockets[0] = sockets[1] = -1;
		return stress_error(path, "make a unix socket pair");
	}
	return STRESS_OK;
}

#endif
