// SPDX-License-Identifier: GPL-2.0-only
/*
 * uvsink0 and uvsink1: two NICs with a wire between them, for guests without any of the host's.
 *
 * They gather fragments and sum up packets themselves, as hardware does, so that the network stack
 * hands them the very pages that were sent. Each fragment is checked as a DMA engine would touch
 * it; then the other end receives a copy, and the sender's pages are free again.
 */
#include <linux/etherdevice.h>
#include <linux/netdevice.h>
#include <linux/rcupdate.h>
#include <linux/rtnetlink.h>
#include <linux/skbuff.h>

#include "uvsim.h"

enum { USUAL_MTU = 9000, MOST_MTU = 16000 };

struct nic {
	struct net_device __rcu *peer;
};

static void check_packet(struct sk_buff *skb, const char *device)
{
	struct sk_buff *part;

	uvsim_check(virt_to_page(skb->data), offset_in_page(skb->data), skb_headlen(skb), "dma",
		    device);
	for (int i = 0; i < skb_shinfo(skb)->nr_frags; i++) {
		const skb_frag_t *fragment = &skb_shinfo(skb)->frags[i];

		uvsim_check(skb_frag_page(fragment), skb_frag_off(fragment),
			    skb_frag_size(fragment), "dma", device);
	}
	skb_walk_frags(skb, part)
		check_packet(part, device);
}

/* With the queue's lock held and softirqs disabled. */
static netdev_tx_t nic_transmit(struct sk_buff *skb, struct net_device *device)
{
	struct nic *nic = netdev_priv(device);
	struct net_device *peer;
	struct sk_buff *copy;

	check_packet(skb, device->name);
	rcu_read_lock();
	peer = rcu_dereference(nic->peer);
	copy = peer && netif_running(peer) ? skb_copy(skb, GFP_ATOMIC) : NULL;
	if (copy) {
		device->stats.tx_packets++;
		device->stats.tx_bytes += skb->len;
		/* It comes from elsewhere: no socket, route or mark of the sender's goes along. */
		skb_scrub_packet(copy, true);
		copy->protocol = eth_type_trans(copy, peer);
		netif_rx(copy);
	} else {
		device->stats.tx_dropped++;
	}
	rcu_read_unlock();
	consume_skb(skb);
	return NETDEV_TX_OK;
}

static const struct net_device_ops nic_operations = {
	.ndo_start_xmit = nic_transmit,
	.ndo_validate_addr = eth_validate_addr,
	.ndo_set_mac_address = eth_mac_addr,
};

static void nic_setup(struct net_device *device)
{
	const netdev_features_t features = NETIF_F_SG | NETIF_F_FRAGLIST | NETIF_F_HW_CSUM |
					   NETIF_F_HIGHDMA;

	ether_setup(device);
	device->netdev_ops = &nic_operations;
	device->features |= features;
	device->hw_features |= features;
	device->mtu = USUAL_MTU;
	device->max_mtu = MOST_MTU;
}

int uvsim_nic_add(struct uvsim_nics *nics, struct net *net)
{
	unsigned int end = nics->ends[0] ? 1 : 0;
	/* Locally administered, and the same in each life. */
	const u8 address[ETH_ALEN] = { 0x02, 'u', 'v', 's', 'i', end };
	char name[IFNAMSIZ];
	struct net_device *device;
	struct nic *one, *other;
	int error;

	if (nics->ends[end])
		return -EBUSY;
	snprintf(name, sizeof(name), "uvsink%u", end);
	device = alloc_netdev(sizeof(struct nic), name, NET_NAME_ENUM, nic_setup);
	if (!device)
		return -ENOMEM;
	dev_net_set(device, net);
	eth_hw_addr_set(device, address);
	error = register_netdev(device);
	if (error) {
		free_netdev(device);
		return error;
	}
	nics->ends[end] = device;
	if (end) {
		one = netdev_priv(nics->ends[0]);
		other = netdev_priv(nics->ends[1]);
		rcu_assign_pointer(one->peer, nics->ends[1]);
		rcu_assign_pointer(other->peer, nics->ends[0]);
	}
	return 0;
}

void uvsim_nics_remove(struct uvsim_nics *nics)
{
	for (int i = 0; i < 2; i++) {
		struct nic *nic = nics->ends[i] ? netdev_priv(nics->ends[i]) : NULL;

		if (nic)
			RCU_INIT_POINTER(nic->peer, NULL);
	}
	/* Waits for those that transmit. */
	for (int i = 0; i < 2; i++)
		if (nics->ends[i])
			unregister_netdev(nics->ends[i]);
	for (int i = 0; i < 2; i++)
		if (nics->ends[i])
			free_netdev(nics->ends[i]);
}
