//! ethtool's link modes as OpenFlow 1.1 port features (`ofp_port_features`).

use crate::sys::ethtool::LinkSettings;

/// `ofp_port_features` bits.
pub mod feature {
    pub const RATE_10MB_HD: u32 = 1 << 0;
    pub const RATE_10MB_FD: u32 = 1 << 1;
    pub const RATE_100MB_HD: u32 = 1 << 2;
    pub const RATE_100MB_FD: u32 = 1 << 3;
    pub const RATE_1GB_HD: u32 = 1 << 4;
    pub const RATE_1GB_FD: u32 = 1 << 5;
    pub const RATE_10GB_FD: u32 = 1 << 6;
    pub const RATE_40GB_FD: u32 = 1 << 7;
    pub const RATE_100GB_FD: u32 = 1 << 8;
    pub const RATE_1TB_FD: u32 = 1 << 9;
    pub const RATE_OTHER: u32 = 1 << 10;
    pub const COPPER: u32 = 1 << 11;
    pub const FIBER: u32 = 1 << 12;
    pub const AUTONEG: u32 = 1 << 13;
    pub const PAUSE: u32 = 1 << 14;
    pub const PAUSE_ASYM: u32 = 1 << 15;
}
use feature::*;

/// Bits that say "full duplex".
pub const FULL_DUPLEX: u32 =
    RATE_10MB_FD | RATE_100MB_FD | RATE_1GB_FD | RATE_10GB_FD | RATE_40GB_FD | RATE_100GB_FD | RATE_1TB_FD;

/// Link mode bits of linux/ethtool.h (`SUPPORTED_*`, `ADVERTISED_*`) and the feature each set stands for.
const MODES: [(u32, u32); 13] = [
    (1 << 0, RATE_10MB_HD),
    (1 << 1, RATE_10MB_FD),
    (1 << 2, RATE_100MB_HD),
    (1 << 3, RATE_100MB_FD),
    (1 << 4, RATE_1GB_HD),
    (1 << 5 | 1 << 17, RATE_1GB_FD),
    (1 << 12 | 1 << 18 | 1 << 19 | 1 << 20, RATE_10GB_FD),
    (1 << 23 | 1 << 24 | 1 << 25 | 1 << 26, RATE_40GB_FD),
    (1 << 7, COPPER),
    (1 << 10, FIBER),
    (1 << 6, AUTONEG),
    (1 << 13, PAUSE),
    (1 << 14, PAUSE_ASYM),
];

/// Megabits per second, and the feature at half and at full duplex.
const SPEEDS: [(u32, u32, u32); 7] = [
    (10, RATE_10MB_HD, RATE_10MB_FD),
    (100, RATE_100MB_HD, RATE_100MB_FD),
    (1_000, RATE_1GB_HD, RATE_1GB_FD),
    (10_000, RATE_10GB_FD, RATE_10GB_FD),
    (40_000, RATE_40GB_FD, RATE_40GB_FD),
    (100_000, RATE_100GB_FD, RATE_100GB_FD),
    (1_000_000, RATE_1TB_FD, RATE_1TB_FD),
];

const PORT_TP: u8 = 0;
const PORT_FIBRE: u8 = 3;

fn of_modes(modes: u32) -> u32 {
    MODES.iter().filter(|(bits, _)| modes & bits != 0).fold(0, |all, (_, feature)| all | feature)
}

/// Current, advertised, supported and peer features. The peer's are never known.
pub fn of_settings(settings: &LinkSettings) -> [u32; 4] {
    let mut current = SPEEDS
        .iter()
        .find(|(mbps, ..)| settings.speed_mbps() == Some(*mbps))
        .map_or(0, |(_, half, full)| if settings.duplex != 0 { *full } else { *half });
    current |= match settings.port {
        PORT_TP => COPPER,
        PORT_FIBRE => FIBER,
        _ => 0,
    };
    if settings.autoneg != 0 {
        current |= AUTONEG;
    }
    [current, of_modes(settings.advertising), of_modes(settings.supported), 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_speeds() {
        assert_eq!(of_modes(0x3f), 0x3f);
        assert_eq!(of_modes(1 << 17 | 1 << 7), RATE_1GB_FD | COPPER);
        assert_eq!(of_modes(1 << 15), 0, "2.5 Gb/s has no bit");
        let mut s = LinkSettings::default();
        (s.duplex, s.autoneg, s.supported) = (1, 1, 1 << 12);
        assert_eq!(of_settings(&s), [COPPER | AUTONEG, 0, RATE_10GB_FD, 0]);
    }
}
