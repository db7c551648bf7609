"""Runs Debian's neutron-openvswitch-agent, unmodified, in one process with a stand-in for its server.

Usage: agent.py WORLD [options of the agent]

WORLD is a JSON file: {"host": ..., "tunnels": [ip, ...], "ports": [{"id", "mac", "ip", "network", "type", "segment",
"physical", "groups": [id, ...]}], "rules": [{"id", "group", "direction", "ethertype", "protocol", "port_min",
"port_max", "remote_ip"}]}. It is read again at every question, and what the agent says of its devices is appended to
WORLD.log.
"""
import json
import sys

# The agent's own entry point does this before anything else.
from neutron.common import eventlet_utils

eventlet_utils.monkey_patch()

import netaddr
import oslo_messaging
from neutron.objects import network, ports, securitygroup, subnet
from neutron.objects.port.extensions import port_security
from neutron_lib import constants, rpc
from neutron_lib.agent import topics
from oslo_config import cfg
import uuid as uuids

WORLD = sys.argv[1]
NAMESPACE = uuids.UUID(int=7)


def world():
    with open(WORLD) as f:
        return json.load(f)


def uuid(name):
    """The identifier of what a test calls by this name."""
    return str(uuids.uuid5(NAMESPACE, name))


def log(what, devices):
    with open(WORLD + ".log", "a") as f:
        for device in devices:
            f.write("%s %s\n" % (what, device if isinstance(device, str) else device["device"]))


def port(p, host):
    pid = p["id"]
    segment = network.NetworkSegment(
        id=uuid("segment" + p["network"]), network_id=uuid(p["network"]), network_type=p["type"],
        physical_network=p.get("physical"), segmentation_id=p["segment"], is_dynamic=False)
    level = ports.PortBindingLevel(
        port_id=pid, host=host, level=0, driver="openvswitch", segment_id=segment.id, segment=segment)
    binding = ports.PortBinding(
        port_id=pid, host=host, status=constants.ACTIVE, vif_type="ovs", vnic_type="normal", profile={},
        vif_details={})
    address = ports.IPAllocation(
        port_id=pid, network_id=uuid(p["network"]), subnet_id=uuid("subnet" + p["network"]),
        ip_address=netaddr.IPAddress(p["ip"]))
    return ports.Port(
        id=pid, project_id="test", name=pid, network_id=uuid(p["network"]), admin_state_up=True,
        mac_address=netaddr.EUI(p["mac"], dialect=netaddr.mac_unix_expanded), device_id=pid,
        device_owner="compute:nova", status="ACTIVE", allowed_address_pairs=[], binding_levels=[level],
        bindings=[binding], fixed_ips=[address], qos_policy_id=None,
        security=port_security.PortSecurity(id=pid, port_security_enabled=True),
        security_group_ids=set(uuid(g) for g in p.get("groups", [])))


def rule(r):
    return securitygroup.SecurityGroupRule(
        id=uuid(r["id"]), project_id="test", security_group_id=uuid(r["group"]), direction=r["direction"],
        ethertype=r.get("ethertype", "IPv4"), protocol=r.get("protocol"), port_range_min=r.get("port_min"),
        port_range_max=r.get("port_max"), remote_group_id=uuid(r["remote_group"]) if "remote_group" in r else None,
        remote_address_group_id=None,
        remote_ip_prefix=netaddr.IPNetwork(r["remote_ip"]) if "remote_ip" in r else None)


def objects(kind):
    w = world()
    if kind == "Port":
        return [port(p, w["host"]) for p in w["ports"]]
    if kind == "SecurityGroupRule":
        return [rule(r) for r in w["rules"]]
    if kind == "SecurityGroup":
        groups = {g for p in w["ports"] for g in p.get("groups", [])}
        return [securitygroup.SecurityGroup(
            id=uuid(g), project_id="test", name=g, is_default=False, stateful=True, rules=[])
            for g in groups]
    if kind == "Network":
        return [network.Network(
            id=uuid(n), project_id="test", name=n, admin_state_up=True, status="ACTIVE", shared=False, mtu=1450,
            qos_policy_id=None, segments=[]) for n in {p["network"] for p in w["ports"]}]
    if kind == "Subnet":
        return [subnet.Subnet(
            id=uuid("subnet" + n), network_id=uuid(n), ip_version=4, cidr=netaddr.IPNetwork(c), enable_dhcp=False,
            gateway_ip=None, name=n, project_id="test", shared=False)
            for n, c in {p["network"]: str(netaddr.IPNetwork(p["ip"] + "/24").cidr) for p in w["ports"]}.items()]
    return []


class Resources:
    target = oslo_messaging.Target(version="1.1", namespace=constants.RPC_NAMESPACE_RESOURCES)

    def pull(self, context, resource_type, version, resource_id):
        return next((o.obj_to_primitive(version) for o in objects(resource_type) if o.id == resource_id), None)

    def bulk_pull(self, context, resource_type, version, filter_kwargs=None):
        wanted = filter_kwargs or {}

        def fits(o):
            return all(str(getattr(o, k)) in [str(x) for x in v] for k, v in wanted.items() if k != "fields")

        return [o.obj_to_primitive(version) for o in objects(resource_type) if fits(o)]


class Plugin:
    target = oslo_messaging.Target(version="1.9")

    def update_device_list(self, context, devices_up, devices_down, **kwargs):
        log("up", devices_up)
        log("down", devices_down)
        return {"devices_up": devices_up, "failed_devices_up": [], "devices_down": devices_down,
                "failed_devices_down": []}

    def update_device_up(self, context, device, **kwargs):
        log("up", [device])

    def update_device_down(self, context, device, **kwargs):
        log("down", [device])
        return {"device": device, "exists": True}

    def tunnel_sync(self, context, tunnel_type=None, **kwargs):
        return {"tunnels": [{"ip_address": ip, "tunnel_type": tunnel_type} for ip in world().get("tunnels", [])]}

    def get_ports_by_vnic_type_and_host(self, context, **kwargs):
        return []


class Reports:
    target = oslo_messaging.Target(version="1.2")

    def report_state(self, context, agent_state, time=None):
        return "new" if agent_state["agent_state"].get("start_flag") else "alive"

    def has_alive_neutron_server(self, context, **kwargs):
        return True


class Versions:
    target = oslo_messaging.Target(version="1.0", namespace=constants.RPC_NAMESPACE_RESOURCES)

    def report_agent_resource_versions(self, context, **kwargs):
        pass


def serve(conf, init=rpc.init):
    """Starts the stand-in as soon as the agent has its transport."""
    init(conf)
    served = [(topics.PLUGIN, [Plugin(), Resources()]), (topics.REPORTS, [Reports()]),
              (topics.SERVER_RESOURCE_VERSIONS, [Versions()])]
    for topic, endpoints in served:
        servers.append(rpc.get_server(oslo_messaging.Target(topic=topic, server="server"), endpoints))
    for server in servers:
        server.start()


servers = []
rpc.init = serve
sys.argv = ["neutron-openvswitch-agent"] + sys.argv[2:]

from neutron.cmd.eventlet.plugins import ovs_neutron_agent

if __name__ == "__main__":
    ovs_neutron_agent.main()
