//! Internal ports take the smallest MTU among the other ports of their bridge, unless they ask for one.

use super::Layers;

impl Layers {
    /// Gives internal ports the MTU that fits their bridge.
    pub(super) fn level_mtu(&mut self, bridge: &str) {
        let Some(b) = self.bridges.get(bridge) else { return };
        let follows = |p: &super::LayerPort| p.kind == "internal" && !p.mtu_requested;
        let others = b.ports.values().filter(|p| !follows(p));
        let Some(smallest) = others.map(|p| p.device.link().mtu).filter(|mtu| *mtu != 0).min() else {
            return;
        };
        let behind = |p: &super::LayerPort| follows(p) && p.device.link().mtu != smallest;
        let names: Vec<String> = b.ports.iter().filter(|(_, p)| behind(p)).map(|(n, _)| n.clone()).collect();
        for name in names {
            let set = self.port(bridge, &name).map(|p| p.device.set_mtu(smallest));
            if let Some(Err(e)) = set {
                tracing::debug!(target: "ofproto", "{name}: cannot set MTU to {smallest}: {e}");
            }
            self.refresh_link(bridge, &name);
        }
    }
}
