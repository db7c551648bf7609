#!/usr/bin/env bash
# Installs what building and running ovs-rs needs on Debian 12. Usage: scripts/prepare.sh [run|test]
# Must be run as root. Does nothing for what is there already.
set -euo pipefail
what=${1:-run}

packages=(build-essential ca-certificates curl iproute2 iputils-ping procps openvswitch-switch openvswitch-common
    libdpdk-dev pkg-config clang libclang-dev dpdk)
if [ "$what" = test ]; then
    packages+=(ethtool iperf3 netcat-openbsd openvswitch-testcontroller openvswitch-pki openvswitch-switch-dpdk dpdk-dev
        ovn-central ovn-host udhcpc neutron-openvswitch-agent openssl tcpdump tshark jq
        python3 python3-openvswitch python3-os-ken qemu-system-x86 linux-image-cloud-amd64 busybox-static)
fi

missing=()
for p in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
if [ ${#missing[@]} -gt 0 ]; then
    apt-get update -q
    # Debian's packages start their own daemons; ours run beside them in directories of their own.
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
fi

# Debian 12's own rustc is too old for edition 2024.
if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
    PATH="$HOME/.cargo/bin:$PATH"
fi
minor=$(rustc --version 2>/dev/null | sed -n 's/^rustc 1\.\([0-9]*\)\..*/\1/p')
if [ "${minor:-0}" -lt 88 ]; then
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal \
        -c rustfmt -c clippy
fi

# The tests of DPDK ports need hugepages: 1 GiB.
if [ "$what" = test ] && [ "$(cat /proc/sys/vm/nr_hugepages)" -lt 512 ]; then
    echo 512 >/proc/sys/vm/nr_hugepages || echo "no hugepages: tests of DPDK ports will be skipped" >&2
fi
