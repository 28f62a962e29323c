#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#include <rte_mbuf_pool_ops.h>
#if __has_include(<rte_eth_bond_8023ad.h>)
#include <rte_eth_bond_8023ad.h>
#define HAS_BOND
#endif

#include "shim.h"

int fulcrum_errno(void)
{
	return rte_errno;
}

/* DPDK's log goes through a stdio stream that hands every line to the sink. */
static fulcrum_log_sink log_sink;

static ssize_t write_to_sink(void *cookie, const char *text, size_t length)
{
	int level = rte_log_cur_msg_loglevel();

	(void)cookie;
	log_sink(level < 0 ? RTE_LOG_INFO : (uint32_t)level, text, length);
	return (ssize_t)length;
}

int fulcrum_log_to(fulcrum_log_sink sink)
{
	cookie_io_functions_t functions = { .write = write_to_sink };
	FILE *stream;

	log_sink = sink;
	stream = fopencookie(NULL, "w", functions);
	if (stream == NULL)
		return -1;
	setvbuf(stream, NULL, _IOLBF, 0);
	return rte_openlog_stream(stream);
}

/* The AF_XDP driver's libraries print to stderr on their own; where they are loaded, make them silent. */
static void silence(const char *library, const char *setter)
{
	void *handle = dlopen(library, RTLD_NOW | RTLD_NOLOAD);
	union {
		void *symbol;
		void *(*set)(void *);
	} call;

	if (handle == NULL)
		return;
	call.symbol = dlsym(handle, setter);
	if (call.symbol != NULL)
		call.set(NULL);
	dlclose(handle);
}

void fulcrum_quiet_libbpf(void)
{
	silence("libbpf.so.1", "libbpf_set_print");
	silence("libbpf.so.0", "libbpf_set_print");
	silence("libxdp.so.1", "libxdp_set_print");
}

/* As rte_pktmbuf_pool_create, but objects lie one after the other without gaps where device addresses are virtual
 * ones: the AF_XDP driver reckons with that (its umem ends after count * object size), and without huge pages the
 * gaps at page ends would nearly double the memory. */
struct rte_mempool *fulcrum_pool_create(const char *name, uint32_t count, uint32_t cache, uint16_t data_room,
					int node)
{
	unsigned int flags = rte_eal_iova_mode() == RTE_IOVA_VA ? RTE_MEMPOOL_F_NO_IOVA_CONTIG : 0;
	struct rte_pktmbuf_pool_private private = { .mbuf_data_room_size = data_room };
	struct rte_mempool *pool;

	pool = rte_mempool_create_empty(name, count, sizeof(struct rte_mbuf) + data_room, cache, sizeof(private),
					node, flags);
	if (pool == NULL)
		return NULL;
	if (rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), NULL) != 0)
		goto fail;
	rte_pktmbuf_pool_init(pool, &private);
	if (rte_mempool_populate_default(pool) < 0)
		goto fail;
	rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
	return pool;

fail:
	rte_mempool_free(pool);
	return NULL;
}

bool fulcrum_pool_is_one_piece(const struct rte_mempool *pool)
{
	return pool->nb_mem_chunks == 1;
}

struct rte_mbuf *fulcrum_mbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

void fulcrum_mbuf_free(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

/* The first bytes of a frame, wherever its pieces are. */
bool fulcrum_mbuf_copy_out(const struct rte_mbuf *mbuf, void *to, uint32_t length)
{
	const void *from = rte_pktmbuf_read(mbuf, 0, length, to);

	if (from == NULL)
		return false;
	if (from != to)
		memcpy(to, from, length);
	return true;
}

unsigned int fulcrum_mempool_available(const struct rte_mempool *pool)
{
	return rte_mempool_avail_count(pool);
}

int fulcrum_port_info(uint16_t port, struct fulcrum_port_info *info)
{
	struct rte_eth_dev_info dev;
	struct rte_ether_addr mac;
	int error;

	memset(info, 0, sizeof(*info));
	error = rte_eth_dev_info_get(port, &dev);
	if (error != 0)
		return error;
	error = rte_eth_macaddr_get(port, &mac);
	if (error != 0)
		return error;
	if (dev.driver_name != NULL)
		snprintf(info->driver, sizeof(info->driver), "%s", dev.driver_name);
	memcpy(info->mac, mac.addr_bytes, sizeof(info->mac));
	if (rte_eth_dev_get_mtu(port, &info->mtu) != 0)
		info->mtu = RTE_ETHER_MTU;
	info->max_mtu = dev.max_mtu;
	info->max_rx_queues = dev.max_rx_queues;
	info->max_tx_queues = dev.max_tx_queues;
	info->min_rx_desc = dev.rx_desc_lim.nb_min;
	info->max_rx_desc = dev.rx_desc_lim.nb_max;
	info->min_tx_desc = dev.tx_desc_lim.nb_min;
	info->max_tx_desc = dev.tx_desc_lim.nb_max;
	info->max_rx_pktlen = dev.max_rx_pktlen;
	info->rss = dev.flow_type_rss_offloads;
	info->rss_key_len = dev.hash_key_size;
	info->rss_table = dev.reta_size;
	info->rx_offloads = dev.rx_offload_capa;
	info->tx_offloads = dev.tx_offload_capa;
	info->socket = rte_eth_dev_socket_id(port);
	info->if_index = dev.if_index;
	return 0;
}

int fulcrum_port_configure(uint16_t port, uint16_t rx_queues, uint16_t tx_queues, uint16_t mtu,
			   const struct fulcrum_rss *rss, uint64_t rx_offloads, bool interrupts)
{
	struct rte_eth_conf conf;
	uint8_t key[FULCRUM_RSS_KEY];
	struct rte_eth_dev_info dev;
	uint32_t overhead;
	int error;

	memset(&conf, 0, sizeof(conf));
	error = rte_eth_dev_info_get(port, &dev);
	if (error != 0)
		return error;
	/* Drivers that do not know what their device can name small limits; they do not enforce them. */
	overhead = dev.max_mtu != UINT16_MAX && dev.max_rx_pktlen > dev.max_mtu ?
		dev.max_rx_pktlen - dev.max_mtu : RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN;
	if (dev.max_rx_pktlen > overhead && mtu > dev.max_rx_pktlen - overhead)
		mtu = dev.max_rx_pktlen - overhead;
	conf.rxmode.mtu = mtu;
	conf.rxmode.offloads = rx_offloads & dev.rx_offload_capa;
	conf.intr_conf.rxq = interrupts;
	if (rss != NULL) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf = dev.flow_type_rss_offloads & rss->types;
		if (rss->key_len != 0) {
			memcpy(key, rss->key, sizeof(key));
			conf.rx_adv_conf.rss_conf.rss_key = key;
			conf.rx_adv_conf.rss_conf.rss_key_len = rss->key_len;
		}
	}
	return rte_eth_dev_configure(port, rx_queues, tx_queues, &conf);
}

int fulcrum_port_rss(uint16_t port, struct fulcrum_rss *rss)
{
	struct rte_eth_dev_info dev;
	struct rte_eth_rss_conf conf;
	int error;

	memset(rss, 0, sizeof(*rss));
	error = rte_eth_dev_info_get(port, &dev);
	if (error != 0)
		return error;
	/* Some drivers write all of their key, whatever length they are told. */
	if (dev.hash_key_size > FULCRUM_RSS_KEY)
		return -ENOTSUP;
	memset(&conf, 0, sizeof(conf));
	conf.rss_key = rss->key;
	conf.rss_key_len = dev.hash_key_size == 0 ? 40 : dev.hash_key_size;
	error = rte_eth_dev_rss_hash_conf_get(port, &conf);
	if (error != 0)
		return error;
	rss->key_len = conf.rss_key_len;
	rss->types = conf.rss_hf;
	return 0;
}

int fulcrum_port_set_rss(uint16_t port, const struct fulcrum_rss *rss)
{
	uint8_t key[FULCRUM_RSS_KEY];
	struct rte_eth_rss_conf conf = { .rss_key = key, .rss_key_len = rss->key_len };
	struct rte_eth_dev_info dev;
	int error;

	error = rte_eth_dev_info_get(port, &dev);
	if (error != 0)
		return error;
	memcpy(key, rss->key, sizeof(key));
	conf.rss_hf = dev.flow_type_rss_offloads & rss->types;
	return rte_eth_dev_rss_hash_update(port, &conf);
}

#define RETA_GROUPS (FULCRUM_RSS_TABLE / RTE_ETH_RETA_GROUP_SIZE)

int fulcrum_port_rss_table(uint16_t port, uint16_t *queues, uint16_t count)
{
	struct rte_eth_rss_reta_entry64 groups[RETA_GROUPS];
	uint16_t entry;
	int error;

	if (count > FULCRUM_RSS_TABLE)
		return -ENOTSUP;
	memset(groups, 0, sizeof(groups));
	for (entry = 0; entry < count; entry++)
		groups[entry / RTE_ETH_RETA_GROUP_SIZE].mask |= UINT64_C(1) << entry % RTE_ETH_RETA_GROUP_SIZE;
	error = rte_eth_dev_rss_reta_query(port, groups, count);
	if (error != 0)
		return error;
	for (entry = 0; entry < count; entry++)
		queues[entry] = groups[entry / RTE_ETH_RETA_GROUP_SIZE].reta[entry % RTE_ETH_RETA_GROUP_SIZE];
	return 0;
}

int fulcrum_port_set_rss_table(uint16_t port, const uint16_t *queues, uint16_t count)
{
	struct rte_eth_rss_reta_entry64 groups[RETA_GROUPS];
	uint16_t entry;

	if (count > FULCRUM_RSS_TABLE)
		return -ENOTSUP;
	memset(groups, 0, sizeof(groups));
	for (entry = 0; entry < count; entry++) {
		struct rte_eth_rss_reta_entry64 *group = &groups[entry / RTE_ETH_RETA_GROUP_SIZE];

		group->mask |= UINT64_C(1) << entry % RTE_ETH_RETA_GROUP_SIZE;
		group->reta[entry % RTE_ETH_RETA_GROUP_SIZE] = queues[entry];
	}
	return rte_eth_dev_rss_reta_update(port, groups, count);
}

int fulcrum_port_adjust_desc(uint16_t port, uint16_t *rx_desc, uint16_t *tx_desc)
{
	return rte_eth_dev_adjust_nb_rx_tx_desc(port, rx_desc, tx_desc);
}

int fulcrum_port_rx_queue(uint16_t port, uint16_t queue, uint16_t desc, int socket, struct rte_mempool *pool)
{
	return rte_eth_rx_queue_setup(port, queue, desc, (unsigned int)socket, NULL, pool);
}

int fulcrum_port_tx_queue(uint16_t port, uint16_t queue, uint16_t desc, int socket)
{
	return rte_eth_tx_queue_setup(port, queue, desc, (unsigned int)socket, NULL);
}

int fulcrum_port_stats(uint16_t port, struct fulcrum_port_stats *stats)
{
	struct rte_eth_stats all;
	int error = rte_eth_stats_get(port, &all);

	if (error != 0)
		return error;
	stats->rx_packets = all.ipackets;
	stats->rx_bytes = all.ibytes;
	stats->tx_packets = all.opackets;
	stats->tx_bytes = all.obytes;
	stats->rx_missed = all.imissed;
	stats->rx_errors = all.ierrors;
	stats->tx_errors = all.oerrors;
	stats->rx_nombuf = all.rx_nombuf;
	return 0;
}

int fulcrum_port_link(uint16_t port, struct fulcrum_port_link *out)
{
	struct rte_eth_link link;
	int error;

	memset(&link, 0, sizeof(link));
	error = rte_eth_link_get_nowait(port, &link);
	if (error != 0)
		return error;
	out->up = link.link_status == RTE_ETH_LINK_UP;
	out->speed_mbps = link.link_speed == RTE_ETH_SPEED_NUM_UNKNOWN ? 0 : link.link_speed;
	return 0;
}

int fulcrum_port_set_mac(uint16_t port, const uint8_t mac[6])
{
	struct rte_ether_addr address;

	memcpy(address.addr_bytes, mac, sizeof(address.addr_bytes));
	return rte_eth_dev_default_mac_addr_set(port, &address);
}

#ifdef HAS_BOND
/* DPDK 23.11 gave them other names. */
#if RTE_VERSION >= RTE_VERSION_NUM(23, 11, 0, 0)
#define MEMBER "member"
typedef struct rte_eth_bond_8023ad_member_info lacp_info;
#else
#define MEMBER "slave"
typedef struct rte_eth_bond_8023ad_slave_info lacp_info;
#endif

/* The driver is loaded by EAL from its folder, if at all: its functions are looked up there. */
static struct {
	int (*primary_get)(uint16_t bond);
	int (*members_get)(uint16_t bond, uint16_t *members, uint16_t count);
	int (*active_get)(uint16_t bond, uint16_t *members, uint16_t count);
	int (*lacp_info)(uint16_t bond, uint16_t member, lacp_info *info);
} bond_calls;

static int is_bonding(struct dl_phdr_info *info, size_t size, void *name)
{
	(void)size;
	if (info->dlpi_name == NULL || strstr(info->dlpi_name, "librte_net_bond.so") == NULL)
		return 0;
	snprintf(name, PATH_MAX, "%s", info->dlpi_name);
	return 1;
}

int fulcrum_bond_find(void)
{
	char name[PATH_MAX];
	void *library = NULL;

	if (bond_calls.primary_get != NULL)
		return 0;
	if (dl_iterate_phdr(is_bonding, name) == 1)
		library = dlopen(name, RTLD_NOW | RTLD_NOLOAD);
	if (library == NULL)
		return -ENOTSUP;
	*(void **)&bond_calls.members_get = dlsym(library, "rte_eth_bond_" MEMBER "s_get");
	*(void **)&bond_calls.active_get = dlsym(library, "rte_eth_bond_active_" MEMBER "s_get");
	*(void **)&bond_calls.lacp_info = dlsym(library, "rte_eth_bond_8023ad_" MEMBER "_info");
	if (bond_calls.members_get == NULL || bond_calls.active_get == NULL || bond_calls.lacp_info == NULL)
		return -ENOTSUP;
	*(void **)&bond_calls.primary_get = dlsym(library, "rte_eth_bond_primary_get");
	return bond_calls.primary_get == NULL ? -ENOTSUP : 0;
}

int fulcrum_bond_active(uint16_t bond)
{
	return bond_calls.primary_get == NULL ? -ENOTSUP : bond_calls.primary_get(bond);
}

int fulcrum_bond_has_up(uint16_t bond, uint16_t member)
{
	uint16_t members[RTE_MAX_ETHPORTS];
	int count, each;

	if (bond_calls.primary_get == NULL)
		return -ENOTSUP;
	count = bond_calls.active_get(bond, members, RTE_MAX_ETHPORTS);
	if (count < 0)
		return count;
	for (each = 0; each < count; each++)
		if (members[each] == member)
			return 1;
	return 0;
}

int fulcrum_bond_members(uint16_t bond)
{
	uint16_t members[RTE_MAX_ETHPORTS];

	return bond_calls.primary_get == NULL ? -ENOTSUP : bond_calls.members_get(bond, members, RTE_MAX_ETHPORTS);
}

int fulcrum_bond_lacp(uint16_t bond, uint16_t member, struct fulcrum_lacp *lacp)
{
	lacp_info info;
	int error;

	if (bond_calls.primary_get == NULL)
		return -ENOTSUP;
	memset(&info, 0, sizeof(info));
	error = bond_calls.lacp_info(bond, member, &info);
	if (error != 0)
		return error;
	lacp->selected = info.selected == SELECTED;
	lacp->actor = info.actor_state;
	lacp->partner = info.partner_state;
	memcpy(lacp->partner_system, info.partner.system.addr_bytes, sizeof(lacp->partner_system));
	lacp->aggregator = info.agg_port_id;
	return 0;
}
#else
int fulcrum_bond_find(void)
{
	return -ENOTSUP;
}

int fulcrum_bond_active(uint16_t bond)
{
	(void)bond;
	return -ENOTSUP;
}

int fulcrum_bond_has_up(uint16_t bond, uint16_t member)
{
	(void)bond;
	(void)member;
	return -ENOTSUP;
}

int fulcrum_bond_members(uint16_t bond)
{
	(void)bond;
	return -ENOTSUP;
}

int fulcrum_bond_lacp(uint16_t bond, uint16_t member, struct fulcrum_lacp *lacp)
{
	(void)bond;
	(void)member;
	(void)lacp;
	return -ENOTSUP;
}
#endif

/* Each thread has an epoll instance of its own in EAL. */
int fulcrum_rx_interrupt_add(uint16_t port, uint16_t queue)
{
	return rte_eth_dev_rx_intr_ctl_q(port, queue, RTE_EPOLL_PER_THREAD, RTE_INTR_EVENT_ADD, NULL);
}

int fulcrum_rx_interrupt_wait(int milliseconds)
{
	struct rte_epoll_event events[16];

	return rte_epoll_wait(RTE_EPOLL_PER_THREAD, events, 16, milliseconds);
}

int fulcrum_port_flow(uint16_t port, const struct fulcrum_flow *flow, struct rte_flow **made, char *why, size_t size)
{
	struct rte_flow_attr attributes = { .ingress = 1 };
	struct rte_flow_item_ipv4 ipv4, ipv4_mask;
	struct rte_flow_item_ipv6 ipv6, ipv6_mask;
	struct rte_flow_item_tcp tcp, tcp_mask;
	struct rte_flow_item_udp udp, udp_mask;
	struct rte_flow_action_queue queue = { .index = flow->queue };
	struct rte_flow_item items[] = {
		{ .type = RTE_FLOW_ITEM_TYPE_ETH },
		{ .type = RTE_FLOW_ITEM_TYPE_IPV4, .spec = &ipv4, .mask = &ipv4_mask },
		{ .type = RTE_FLOW_ITEM_TYPE_TCP, .spec = &tcp, .mask = &tcp_mask },
		{ .type = RTE_FLOW_ITEM_TYPE_END },
	};
	struct rte_flow_action actions[] = {
		{ .type = RTE_FLOW_ACTION_TYPE_QUEUE, .conf = &queue },
		{ .type = RTE_FLOW_ACTION_TYPE_END },
	};
	struct rte_flow_error error = { .message = NULL };
	int status;

	memset(&ipv4, 0, sizeof(ipv4));
	memset(&ipv4_mask, 0, sizeof(ipv4_mask));
	memcpy(&ipv4.hdr.dst_addr, flow->address, sizeof(ipv4.hdr.dst_addr));
	memset(&ipv4_mask.hdr.dst_addr, 0xff, sizeof(ipv4_mask.hdr.dst_addr));
	memset(&ipv6, 0, sizeof(ipv6));
	memset(&ipv6_mask, 0, sizeof(ipv6_mask));
	memcpy(&ipv6.hdr.dst_addr, flow->address, sizeof(ipv6.hdr.dst_addr));
	memset(&ipv6_mask.hdr.dst_addr, 0xff, sizeof(ipv6_mask.hdr.dst_addr));
	if (flow->v6)
		items[1] = (struct rte_flow_item){
			.type = RTE_FLOW_ITEM_TYPE_IPV6, .spec = &ipv6, .mask = &ipv6_mask };
	memset(&tcp, 0, sizeof(tcp));
	memset(&tcp_mask, 0, sizeof(tcp_mask));
	tcp.hdr.dst_port = rte_cpu_to_be_16(flow->port);
	tcp_mask.hdr.dst_port = rte_cpu_to_be_16(flow->port_mask);
	memset(&udp, 0, sizeof(udp));
	memset(&udp_mask, 0, sizeof(udp_mask));
	udp.hdr.dst_port = tcp.hdr.dst_port;
	udp_mask.hdr.dst_port = tcp_mask.hdr.dst_port;
	if (flow->protocol == IPPROTO_UDP)
		items[2] = (struct rte_flow_item){
			.type = RTE_FLOW_ITEM_TYPE_UDP, .spec = &udp, .mask = &udp_mask };

	if (made == NULL) {
		status = rte_flow_validate(port, &attributes, items, actions, &error);
	} else {
		*made = rte_flow_create(port, &attributes, items, actions, &error);
		status = *made != NULL ? 0 : rte_errno != 0 ? -rte_errno : -EINVAL;
	}
	snprintf(why, size, "%s", status != 0 && error.message != NULL ? error.message : "");
	return status;
}

int fulcrum_port_unflow(uint16_t port, struct rte_flow *flow)
{
	struct rte_flow_error error;

	return rte_flow_destroy(port, flow, &error);
}

uint16_t fulcrum_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, frames, count);
}

uint16_t fulcrum_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, frames, count);
}
