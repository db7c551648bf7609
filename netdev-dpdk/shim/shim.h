/* What Rust cannot call by itself: inline functions, per-thread variables, and streams of the C library. */
#ifndef OVS_RS_DPDK_SHIM_H
#define OVS_RS_DPDK_SHIM_H

#include <stddef.h>
#include <stdint.h>

#include <rte_config.h>
#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_version.h>

/* Flags of a received packet, as numbers. */
static const uint64_t SHIM_RX_RSS_HASH = RTE_MBUF_F_RX_RSS_HASH;
static const uint64_t SHIM_RX_L4_CKSUM_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK;
static const uint64_t SHIM_RX_L4_CKSUM_GOOD = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
static const uint64_t SHIM_INDIRECT = RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL;
static const uint64_t SHIM_RX_CHECKSUM =
    RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
static const uint64_t SHIM_RX_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t SHIM_RX_KEEP_CRC = RTE_ETH_RX_OFFLOAD_KEEP_CRC;
static const uint32_t SHIM_DEV_REPRESENTOR = RTE_ETH_DEV_REPRESENTOR;
static const uint64_t SHIM_RSS_IP_UDP_TCP = RTE_ETH_RSS_IP | RTE_ETH_RSS_UDP | RTE_ETH_RSS_TCP;

/* Byte offset of an element's private area, and so of its buffer if there is none. */
static const size_t SHIM_MBUF_SIZE = sizeof(struct rte_mbuf);
static const uint16_t SHIM_NO_PORT = RTE_MAX_ETHPORTS;

uint16_t shim_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t n);
uint16_t shim_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t n);
int shim_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **frames, unsigned int n);
void shim_free(struct rte_mbuf *frame);
void shim_free_bulk(struct rte_mbuf **frames, unsigned int n);
/* Each has one owner more. */
void shim_share_bulk(struct rte_mbuf **frames, unsigned int n);

int shim_errno(void);
/* Makes the calling thread one that EAL did not start and that has no number. */
void shim_forget_lcore(void);

/* Each message goes to `sink` with its level (RTE_LOG_*). 0, or an errno. */
typedef void (*shim_log_sink)(uint32_t level, const char *text, size_t len);
int shim_log_to(shim_log_sink sink);

enum shim_dump { SHIM_LCORES, SHIM_LOG_LEVELS, SHIM_MALLOC, SHIM_MEMPOOL, SHIM_MEMPOOLS };
/* The text of one of EAL's dumps, to be freed with shim_text_free; NULL if there is no memory. */
char *shim_dump(enum shim_dump what, struct rte_mempool *pool);
void shim_text_free(char *text);

int shim_mempool_full(const struct rte_mempool *pool);

#endif
