//! Finds libdpdk by pkg-config, compiles the shim and makes the bindings.
//!
//! Only the libraries whose functions are called are linked; drivers are shared objects that the environment
//! abstraction layer (EAL) loads when it starts.

use std::env;
use std::error::Error;
use std::path::PathBuf;

/// What is bound. Everything inline goes through the shim.
const FUNCTIONS: &str = "shim_.*|rte_eal_(init|cleanup)|rte_mp_disable|rte_version|rte_strerror|rte_log_set_level_pattern|\
     rte_thread_(un)?register|rte_socket_(count|id_by_idx)|rte_dev_(probe|remove|bus_info|name|bus)|rte_bus_name|\
     rte_eth_dev_(info_get|configure|start|stop|close|is_valid_port|socket_id|set_mtu|get_mtu|set_link_up|set_link_down|\
     flow_ctrl_get|flow_ctrl_set|default_mac_addr_set|reset|count_avail)|rte_eth_(rx|tx)_queue_setup|\
     rte_eth_promiscuous_enable|rte_eth_allmulticast_enable|rte_eth_macaddr_get|rte_eth_link_get_nowait|\
     rte_eth_stats_get|rte_eth_xstats_get(_names|_by_id)?|rte_eth_iterator_(init|next|cleanup)|\
     rte_eth_find_next(_owned_by|_sibling)?|rte_eth_dev_callback_(un)?register|rte_pktmbuf_pool_create|\
     rte_mempool_(free|lookup|avail_count|in_use_count)";
const TYPES: &str = "rte_mbuf|rte_eth_(event_type|conf|dev_info|stats|xstat|xstat_name|link|fc_conf|fc_mode)|rte_dev_iterator";
const VARS: &str = "RTE_ETH_RX_OFFLOAD_.*|RTE_ETH_TX_OFFLOAD_.*|RTE_ETH_LINK_.*|RTE_ETH_SPEED_NUM_.*|RTE_MAX_ETHPORTS|\
     RTE_ETH_NAME_MAX_LEN|RTE_MEMPOOL_.*|RTE_PKTMBUF_HEADROOM|RTE_LOG_.*|RTE_ETH_ALL|SHIM_.*";
const LIBRARIES: [&str; 5] = ["rte_ethdev", "rte_mbuf", "rte_mempool", "rte_ring", "rte_eal"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=shim/shim.h");
    println!("cargo:rerun-if-changed=shim/shim.c");
    let dpdk = pkg_config::Config::new().atleast_version("22.11").cargo_metadata(false).probe("libdpdk")?;
    for path in &dpdk.link_paths {
        println!("cargo:rustc-link-search=native={}", path.display());
    }
    // The headers want the instruction set that the libraries were built for.
    let machine = dpdk.include_paths.iter().map(|p| format!("-I{}", p.display()));
    let flags: Vec<String> =
        machine.chain(["-march=corei7", "-include", "rte_config.h"].map(str::to_owned)).collect();

    let mut shim = cc::Build::new();
    shim.file("shim/shim.c").opt_level(3).warnings(true).define("ALLOW_EXPERIMENTAL_API", None);
    flags.iter().for_each(|f| {
        shim.flag(f);
    });
    shim.try_compile("dpdk_shim")?;
    for library in LIBRARIES {
        println!("cargo:rustc-link-lib=dylib={library}");
    }

    let bindings = bindgen::Builder::default()
        .header("shim/shim.h")
        .clang_args(&flags)
        .clang_arg("-DALLOW_EXPERIMENTAL_API")
        .allowlist_function(FUNCTIONS)
        .allowlist_type(TYPES)
        .allowlist_var(VARS)
        .derive_default(false)
        .layout_tests(false)
        .generate_comments(false)
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .generate()?;
    bindings.write_to_file(PathBuf::from(env::var("OUT_DIR")?).join("bindings.rs"))?;
    Ok(())
}
