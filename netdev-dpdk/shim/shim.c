#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

uint16_t shim_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t n)
{
    return rte_eth_rx_burst(port, queue, frames, n);
}

uint16_t shim_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t n)
{
    return rte_eth_tx_burst(port, queue, frames, n);
}

int shim_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **frames, unsigned int n)
{
    return rte_pktmbuf_alloc_bulk(pool, frames, n);
}

void shim_free(struct rte_mbuf *frame)
{
    rte_pktmbuf_free(frame);
}

void shim_free_bulk(struct rte_mbuf **frames, unsigned int n)
{
    rte_pktmbuf_free_bulk(frames, n);
}

void shim_share_bulk(struct rte_mbuf **frames, unsigned int n)
{
    for (unsigned int i = 0; i < n; i++) {
        rte_pktmbuf_refcnt_update(frames[i], 1);
    }
}

int shim_errno(void)
{
    return rte_errno;
}

void shim_forget_lcore(void)
{
    RTE_PER_LCORE(_lcore_id) = LCORE_ID_ANY;
}

static ssize_t log_write(void *sink, const char *text, size_t len)
{
    ((shim_log_sink) (uintptr_t) sink)(rte_log_cur_msg_loglevel(), text, len);
    return len;
}

int shim_log_to(shim_log_sink sink)
{
    cookie_io_functions_t io = {.write = log_write};
    FILE *stream = fopencookie((void *) (uintptr_t) sink, "w", io);

    if (!stream)
        return errno;
    setbuf(stream, NULL);
    return rte_openlog_stream(stream) ? EINVAL : 0;
}

char *shim_dump(enum shim_dump what, struct rte_mempool *pool)
{
    char *text = NULL;
    size_t len = 0;
    FILE *stream = open_memstream(&text, &len);

    if (!stream)
        return NULL;
    switch (what) {
    case SHIM_LCORES: rte_lcore_dump(stream); break;
    case SHIM_LOG_LEVELS: rte_log_dump(stream); break;
    case SHIM_MALLOC: rte_malloc_dump_stats(stream, NULL); break;
    case SHIM_MEMPOOL: rte_mempool_dump(stream, pool); break;
    case SHIM_MEMPOOLS: rte_mempool_list_dump(stream); break;
    }
    fclose(stream);
    return text;
}

void shim_text_free(char *text)
{
    free(text);
}

int shim_mempool_full(const struct rte_mempool *pool)
{
    return rte_mempool_full(pool);
}

