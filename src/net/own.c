/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * own - which addresses are this host's. The kernel is asked for all of them (getifaddrs()), and not again for
 * some seconds: a listener that many connect to would ask for each.
 */
#include <ifaddrs.h>
#include <netinet/in.h>
#include <pthread.h>

#include "net/net_int.h"

#define KEEP_NS (5 * NSEC_PER_SEC)

static struct {
	pthread_mutex_t lock;
	struct ifaddrs *list; /* NULL: not known */
	uint64_t until_ns;
} own = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool same_v4(const void *a, const struct sockaddr *if_addr)
{
	return if_addr->sa_family == AF_INET &&
	       memcmp(a, &((const struct sockaddr_in *)(const void *)if_addr)->sin_addr, 4) == 0;
}

static bool same_host(const struct net_addr *addr, const struct sockaddr *if_addr)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)&addr->sa;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&addr->sa;

	if (!if_addr)
		return false;
	if (addr->sa.ss_family == AF_INET)
		return same_v4(&in->sin_addr, if_addr);
	if (addr->sa.ss_family != AF_INET6)
		return false;
	if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
		return same_v4(&in6->sin6_addr.s6_addr[12], if_addr);
	return if_addr->sa_family == AF_INET6 &&
	       memcmp(&in6->sin6_addr,
	              &((const struct sockaddr_in6 *)(const void *)if_addr)->sin6_addr, 16) == 0;
}

bool net_addr_is_own(const struct net_addr *addr)
{
	bool found = net_addr_is_loopback(addr);
	uint64_t now = clock_mono_ns();

	if (found)
		return true;
	pthread_mutex_lock(&own.lock);
	if (!own.list || now >= own.until_ns) {
		if (own.list)
			freeifaddrs(own.list);
		if (getifaddrs(&own.list) < 0)
			own.list = NULL;
		own.until_ns = now + KEEP_NS;
	}
	for (const struct ifaddrs *i = own.list; i && !found; i = i->ifa_next)
		found = same_host(addr, i->ifa_addr);
	pthread_mutex_unlock(&own.lock);
	return found;
}
