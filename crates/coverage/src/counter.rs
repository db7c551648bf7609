//! The table of counters: every event that Open vSwitch 3.1's `ovs-vswitchd` counts, by its name there.
//!
//! Monitoring (ovn-kubernetes and others) reads these names out of `coverage/show`, so they are an interface.
//! A counter that nothing adds to stays zero and is one of the "events never hit".

// The statics carry the counters' own names, which are lower case.
#![allow(non_upper_case_globals)]

use crate::Counter;

macro_rules! counters {
    ($($name:ident)*) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)] // only its discriminants are used
        enum Index { $($name,)* }

        $(pub static $name: Counter = Counter::new(Index::$name as usize, stringify!($name));)*

        /// All counters, in the order in which `coverage/show` lists them.
        pub static ALL: &[&Counter] = &[$(&$name),*];
    };
}

counters! {
    afxdp_cq_empty
    afxdp_cq_skip
    afxdp_fq_full
    afxdp_tx_full
    bridge_reconfigure
    ccmap_expand
    ccmap_shrink
    cmap_expand
    cmap_shrink
    conntrack_full
    conntrack_invalid_tcp_flags
    conntrack_l3csum_err
    conntrack_l4csum_err
    conntrack_lookup_natted_miss
    conntrack_tcp_seq_chk_bypass
    conntrack_tcp_seq_chk_failed
    datapath_drop_invalid_bond
    datapath_drop_invalid_port
    datapath_drop_invalid_tnl_port
    datapath_drop_lock_error
    datapath_drop_meter
    datapath_drop_nsh_decap_error
    datapath_drop_recirc_error
    datapath_drop_rx_invalid_packet
    datapath_drop_sample_error
    datapath_drop_tunnel_pop_error
    datapath_drop_tunnel_push_error
    datapath_drop_upcall_error
    datapath_drop_userspace_action_error
    dpif_destroy
    dpif_execute
    dpif_execute_with_help
    dpif_flow_del
    dpif_flow_flush
    dpif_flow_get
    dpif_flow_put
    dpif_meter_del
    dpif_meter_get
    dpif_meter_set
    dpif_port_add
    dpif_port_del
    dpif_purge
    drop_action_bridge_not_found
    drop_action_congestion
    drop_action_forwarding_disabled
    drop_action_invalid_tunnel_metadata
    drop_action_no_recirculation_context
    drop_action_of_pipeline
    drop_action_recirculation_conflict
    drop_action_recursion_too_deep
    drop_action_stack_too_deep
    drop_action_too_many_mpls_labels
    drop_action_too_many_resubmit
    drop_action_unsupported_packet_type
    dumped_duplicate_flow
    dumped_new_flow
    flow_extract
    handler_duplicate_upcall
    hindex_expand
    hindex_pathological
    hindex_reserve
    hindex_shrink
    hmap_expand
    hmap_pathological
    hmap_reserve
    hmap_shrink
    ipf_l3csum_err
    ipf_stuck_frag_list_purged
    lockfile_error
    lockfile_lock
    lockfile_unlock
    mac_learning_evicted
    mac_learning_expired
    mac_learning_learned
    mac_learning_moved
    mac_learning_static_none_move
    mcast_snooping_expired
    mcast_snooping_learned
    miniflow_extract_ipv4_pkt_len_error
    miniflow_extract_ipv4_pkt_too_short
    miniflow_extract_ipv6_pkt_len_error
    miniflow_extract_ipv6_pkt_too_short
    miniflow_malloc
    netdev_add_router
    netdev_arp_lookup
    netdev_get_ethtool
    netdev_get_hwaddr
    netdev_get_ifindex
    netdev_get_stats
    netdev_push_header_drops
    netdev_received
    netdev_send_prepare_drops
    netdev_sent
    netdev_set_ethtool
    netdev_set_hwaddr
    netdev_set_policing
    netlink_overflow
    netlink_received
    netlink_recv_jumbo
    netlink_sent
    nln_changed
    ofmonitor_pause
    ofmonitor_resume
    ofproto_dpif_expired
    ofproto_flush
    ofproto_packet_out
    ofproto_queue_req
    ofproto_recv_openflow
    ofproto_reinit_ports
    ofproto_update_port
    packet_in_overflow
    poll_create_node
    poll_zero_timeout
    process_start
    pstream_open
    rconn_discarded
    rconn_overflow
    rconn_queued
    rconn_sent
    rev_bond
    rev_flow_table
    rev_mac_learning
    rev_mcast_snooping
    rev_port_toggled
    rev_reconfigure
    rev_rstp
    rev_stp
    revalidate_missed_dp_flow
    seq_change
    stream_open
    txn_aborted
    txn_error
    txn_incomplete
    txn_not_locked
    txn_success
    txn_try_again
    txn_unchanged
    txn_uncommitted
    unixctl_received
    unixctl_replied
    upcall_flow_limit_hit
    upcall_flow_limit_kill
    upcall_ukey_contention
    upcall_ukey_replace
    util_xalloc
    vconn_open
    vconn_received
    vconn_sent
    xlate_actions
    xlate_actions_oversize
    xlate_actions_too_many_output
}
