/* What Rust sees of DPDK: the installed headers, plus functions for what they only offer inline or as macros,
 * plus the places of the few mbuf fields that are read on the packet path. Nothing else lives here. */
#ifndef FULCRUM_DPDK_SHIM_H
#define FULCRUM_DPDK_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_flow.h>
#include <rte_interrupts.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_version.h>

/* Offsets of mbuf fields: the struct's nesting differs between versions, these names do not. */
enum fulcrum_mbuf_layout {
	FULCRUM_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
	FULCRUM_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off),
	FULCRUM_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
	FULCRUM_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags),
	FULCRUM_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
	FULCRUM_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len),
	FULCRUM_MBUF_VLAN_TCI = offsetof(struct rte_mbuf, vlan_tci),
	FULCRUM_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len),
	FULCRUM_MBUF_RSS_HASH = offsetof(struct rte_mbuf, hash.rss),
};

/* Bits of ol_flags: the driver took a VLAN tag off the frame, tells its hash, what it found of IPv4 headers' checksums
 * (in a tunnel the first bits are about the inner one; that of a bad outer one is beside them), what they are when all
 * are right; how the buffer is held. */
enum fulcrum_mbuf_flag {
	FULCRUM_MBUF_VLAN_STRIPPED = RTE_MBUF_F_RX_VLAN_STRIPPED,
	FULCRUM_MBUF_RSS_HASHED = RTE_MBUF_F_RX_RSS_HASH,
	FULCRUM_MBUF_IP_CHECKSUM = RTE_MBUF_F_RX_IP_CKSUM_MASK | RTE_MBUF_F_RX_OUTER_IP_CKSUM_BAD,
	FULCRUM_MBUF_IP_CHECKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD,
	FULCRUM_MBUF_HELD = RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL,
};

/* What a device does for received frames. */
enum fulcrum_rx_offload {
	FULCRUM_RX_IPV4_CHECKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM,
	FULCRUM_RX_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER,
	FULCRUM_RX_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH,
};

/* What a device spreads frames over its queues by: kinds of packets, and which end of them (neither bit: both). */
enum fulcrum_rss_type {
	FULCRUM_RSS_ALL = RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP,
	FULCRUM_RSS_TCP4 = RTE_ETH_RSS_NONFRAG_IPV4_TCP,
	FULCRUM_RSS_UDP4 = RTE_ETH_RSS_NONFRAG_IPV4_UDP,
	FULCRUM_RSS_TCP6 = RTE_ETH_RSS_NONFRAG_IPV6_TCP,
	FULCRUM_RSS_UDP6 = RTE_ETH_RSS_NONFRAG_IPV6_UDP,
	FULCRUM_RSS_SOURCE = RTE_ETH_RSS_L3_SRC_ONLY | RTE_ETH_RSS_L4_SRC_ONLY,
	FULCRUM_RSS_DESTINATION = RTE_ETH_RSS_L3_DST_ONLY | RTE_ETH_RSS_L4_DST_ONLY,
};

enum fulcrum_rss_limit {
	FULCRUM_RSS_KEY = 64, /* bytes of a key at most */
	FULCRUM_RSS_TABLE = 4096, /* entries of a redirection table at most */
};

struct fulcrum_rss {
	uint8_t key[FULCRUM_RSS_KEY];
	uint8_t key_len; /* 0 = the device's own key */
	uint64_t types;
};

struct fulcrum_port_info {
	char driver[64];
	uint8_t mac[6];
	uint16_t mtu;
	uint16_t max_mtu;
	uint16_t max_rx_queues;
	uint16_t max_tx_queues;
	uint16_t min_rx_desc, max_rx_desc;
	uint16_t min_tx_desc, max_tx_desc;
	uint32_t max_rx_pktlen;
	uint64_t rss; /* flow types the device can spread by, 0 = none */
	uint8_t rss_key_len;
	uint16_t rss_table; /* entries of its redirection table */
	uint64_t rx_offloads;
	uint64_t tx_offloads;
	int socket;
	uint32_t if_index; /* Linux interface behind the device, 0 = none */
};

/* Frames of a protocol to an address, whose destination port has some bits, go to a queue. */
struct fulcrum_flow {
	bool v6;
	uint8_t address[16]; /* the first 4 of IPv4 */
	uint8_t protocol;
	uint16_t port, port_mask;
	uint16_t queue;
};

struct fulcrum_port_stats {
	uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes;
	uint64_t rx_missed, rx_errors, tx_errors, rx_nombuf;
};

struct fulcrum_port_link {
	bool up;
	uint32_t speed_mbps; /* 0 = unknown */
};

/* What LACP has agreed on for a member of a bond; states as in IEEE 802.1AX. */
struct fulcrum_lacp {
	bool selected;
	uint8_t actor, partner;
	uint8_t partner_system[6];
	uint16_t aggregator; /* the member whose aggregate it belongs to */
};

enum fulcrum_lacp_state {
	FULCRUM_LACP_COLLECTING = 0x10,
	FULCRUM_LACP_DISTRIBUTING = 0x20,
};

/* Takes one message of DPDK's log; level as in rte_log.h. */
typedef void (*fulcrum_log_sink)(uint32_t level, const char *text, size_t length);

int fulcrum_errno(void);
int fulcrum_log_to(fulcrum_log_sink sink);
void fulcrum_quiet_libbpf(void);

/* On a NUMA node, or on any: -1. */
struct rte_mempool *fulcrum_pool_create(const char *name, uint32_t count, uint32_t cache, uint16_t data_room,
					int node);
bool fulcrum_pool_is_one_piece(const struct rte_mempool *pool);
struct rte_mbuf *fulcrum_mbuf_alloc(struct rte_mempool *pool);
void fulcrum_mbuf_free(struct rte_mbuf *mbuf);
bool fulcrum_mbuf_copy_out(const struct rte_mbuf *mbuf, void *to, uint32_t length);
unsigned int fulcrum_mempool_available(const struct rte_mempool *pool);

int fulcrum_port_info(uint16_t port, struct fulcrum_port_info *info);
int fulcrum_port_configure(uint16_t port, uint16_t rx_queues, uint16_t tx_queues, uint16_t mtu,
			   const struct fulcrum_rss *rss, uint64_t rx_offloads, bool interrupts);
int fulcrum_port_rss(uint16_t port, struct fulcrum_rss *rss);
int fulcrum_port_set_rss(uint16_t port, const struct fulcrum_rss *rss);
int fulcrum_port_rss_table(uint16_t port, uint16_t *queues, uint16_t count);
int fulcrum_port_set_rss_table(uint16_t port, const uint16_t *queues, uint16_t count);
int fulcrum_port_rx_queue(uint16_t port, uint16_t queue, uint16_t desc, int socket, struct rte_mempool *pool);
int fulcrum_port_tx_queue(uint16_t port, uint16_t queue, uint16_t desc, int socket);
int fulcrum_port_adjust_desc(uint16_t port, uint16_t *rx_desc, uint16_t *tx_desc);
int fulcrum_port_stats(uint16_t port, struct fulcrum_port_stats *stats);
int fulcrum_port_link(uint16_t port, struct fulcrum_port_link *link);
int fulcrum_port_set_mac(uint16_t port, const uint8_t mac[6]);

/* Looks for the bonding driver, which nobody links; -ENOTSUP where it does not tell what is asked below. */
int fulcrum_bond_find(void);
/* The member that an active-backup bond uses, negative when there is none. */
int fulcrum_bond_active(uint16_t bond);
/* Whether the bond has taken in that a member's link is up; negative when it does not tell. */
int fulcrum_bond_has_up(uint16_t bond, uint16_t member);
int fulcrum_bond_members(uint16_t bond);
int fulcrum_bond_lacp(uint16_t bond, uint16_t member, struct fulcrum_lacp *lacp);

int fulcrum_rx_interrupt_add(uint16_t port, uint16_t queue);
int fulcrum_rx_interrupt_wait(int milliseconds);

/* Validates the rule where `made` is NULL, else makes it. `why` takes the driver's words on a refusal. */
int fulcrum_port_flow(uint16_t port, const struct fulcrum_flow *flow, struct rte_flow **made, char *why, size_t size);
int fulcrum_port_unflow(uint16_t port, struct rte_flow *flow);

uint16_t fulcrum_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t count);
uint16_t fulcrum_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t count);

#endif
