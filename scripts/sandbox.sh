#!/usr/bin/env bash
# The main job: builds ovs-rs, starts an ovsdb-server and our ovs-vswitchd in a sandbox of their own, joins two
# network namespaces and the host by a bridge, and passes traffic through an OpenFlow pipeline.
#
#   scripts/sandbox.sh            start, show, and leave it running to look around
#   scripts/sandbox.sh stop       stop it and clean up
set -euo pipefail
cd "$(dirname "$0")/.."
box=${OVS_RS_SANDBOX:-/tmp/ovs-rs-sandbox}
export OVS_RUNDIR=$box/run OVS_LOGDIR=$box/log OVS_DBDIR=$box/db OVS_SYSCONFDIR=$box/etc
export PATH="$PATH:/usr/share/openvswitch/scripts:$HOME/.cargo/bin"
namespaces=(ovsrs-h1 ovsrs-h2)

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
# Prints a command as the user would type it, then runs it.
try() { printf '$ %s\n' "$*"; "$@"; }

stop() {
    for daemon in ovs-vswitchd ovsdb-server; do
        pid=$(cat "$OVS_RUNDIR/$daemon.pid" 2>/dev/null) || continue
        ovs-appctl -T 5 -t "$OVS_RUNDIR/$daemon.$pid.ctl" exit 2>/dev/null || true
        for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        kill -KILL "$pid" 2>/dev/null || true
    done
    for ns in "${namespaces[@]}"; do ip netns del "$ns" 2>/dev/null || true; done
    for i in 1 2; do ip link del "ovsrs-p$i" 2>/dev/null || true; done
    rm -rf "$box"
}

start_daemons() {
    mkdir -p "$OVS_RUNDIR" "$OVS_LOGDIR" "$OVS_DBDIR" "$OVS_SYSCONFDIR"
    ovsdb-tool create "$OVS_DBDIR/conf.db" /usr/share/openvswitch/vswitch.ovsschema
    ovsdb-server "$OVS_DBDIR/conf.db" --remote="punix:$OVS_RUNDIR/db.sock" \
        --remote=db:Open_vSwitch,Open_vSwitch,manager_options --pidfile --detach --log-file -vconsole:off
    ovs-vsctl --no-wait init
    "${CARGO_TARGET_DIR:-target}/release/ovs-vswitchd" "unix:$OVS_RUNDIR/db.sock" -vconsole:emer -vfile:info \
        --pidfile --detach --log-file
}

# A namespace with one address, on a port of br0.
host() {
    local i=$1 ns=ovsrs-h$1
    ip netns add "$ns"
    ip link add "ovsrs-p$i" type veth peer name eth0 netns "$ns"
    ip -n "$ns" link set lo up
    ip -n "$ns" link set eth0 up
    ip -n "$ns" addr add "10.83.0.$i/24" dev eth0
    ip link set "ovsrs-p$i" up
}

configure() {
    try ovs-vsctl add-br br0 -- set bridge br0 datapath_type=netdev
    try ovs-vsctl add-port br0 ovsrs-p1 -- set interface ovsrs-p1 ofport_request=1
    try ovs-vsctl add-port br0 ovsrs-p2 -- set interface ovsrs-p2 ofport_request=2
    ip addr add 10.83.0.254/24 dev br0
    ip link set br0 up
    # Table 0 admits ARP and IP, table 1 counts by protocol, table 2 forwards.
    cat > "$box/flows" <<'F'
table=0,priority=100,arp,actions=goto_table:2
table=0,priority=100,ip,actions=goto_table:1
table=0,priority=0,actions=drop
table=1,priority=10,icmp,actions=set_field:1->reg0,goto_table:2
table=1,priority=10,tcp,actions=set_field:2->reg0,goto_table:2
table=1,priority=0,actions=goto_table:2
table=2,priority=0,actions=NORMAL
F
    try ovs-ofctl -O OpenFlow13 --bundle replace-flows br0 "$box/flows"
}

traffic() {
    try ip netns exec ovsrs-h1 ping -c 3 -i 0.2 10.83.0.2
    try ip netns exec ovsrs-h2 ping -c 3 -i 0.2 10.83.0.254
}

show() {
    try ovs-vsctl show
    try ovs-ofctl -O OpenFlow13 dump-flows br0
    try ovs-ofctl dump-ports br0
    try ovs-appctl dpctl/dump-flows
    try ovs-appctl fdb/show br0
    try ovs-appctl ofproto/trace br0 in_port=1,icmp,nw_src=10.83.0.1,nw_dst=10.83.0.2
    sleep 5.5 # statistics are written to the database every five seconds
    try ovs-vsctl --columns=name,ofport,statistics list interface ovsrs-p1
}

if [ "${1:-}" = stop ]; then stop; exit 0; fi
[ "$(id -u)" = 0 ] || { echo "must be run as root: it makes network namespaces" >&2; exit 1; }
say "What is needed"; scripts/prepare.sh run
PATH="$HOME/.cargo/bin:$PATH"
say "Build"; cargo build --release -p vswitchd
stop
say "Start ovsdb-server and ovs-vswitchd in $box"; start_daemons
say "Two hosts"; host 1; host 2
say "A bridge with an OpenFlow pipeline"; configure
say "Traffic"; traffic
say "What the switch knows"; show
say "It goes on running. To look around:"
cat <<E2
  export OVS_RUNDIR=$OVS_RUNDIR OVS_DBDIR=$OVS_DBDIR OVS_LOGDIR=$OVS_LOGDIR
  ovs-vsctl show; ovs-ofctl dump-flows br0; ovs-appctl list-commands; less $OVS_LOGDIR/ovs-vswitchd.log
  ip netns exec ovsrs-h1 ping 10.83.0.2
To stop: scripts/sandbox.sh stop
E2
