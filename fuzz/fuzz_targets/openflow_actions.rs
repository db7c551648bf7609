//! Actions and instructions of every version: any bytes decode or fail; what decodes has a text, goes to
//! every version, and comes back the same in its own.
#![no_main]

use flow::Match;
use libfuzzer_sys::fuzz_target;
use openflow::action::{CheckParams, Decoder, Encoder, Text, check, set};
use openflow::{PortNo, Version};

fuzz_target!(|data: &[u8]| {
    let Some((&[version, instructions], bytes)) = data.split_first_chunk() else { return };
    let version = Version::ALL[usize::from(version) % 6];
    let instructions = instructions & 1 != 0;
    let decode = |version, bytes: &[u8]| {
        let mut d = Decoder::new(version);
        if instructions { d.instructions(bytes) } else { d.actions(bytes) }
    };
    let encode = |version, actions: &_| {
        let mut out = Vec::new();
        let mut e = Encoder::new(version, &mut out);
        if instructions {
            e.instructions(actions)
        } else {
            e.actions(actions)
        }
        out
    };
    let Ok(mut actions) = decode(version, bytes) else { return };
    let again = encode(version, &actions);
    // Some actions of old versions turn into ones that are stricter; all others come back.
    if let Ok(back) = decode(version, &again) {
        assert_eq!(encode(version, &back), again);
    }
    for other in Version::ALL {
        let _ = decode(other, &encode(other, &actions));
    }
    let mut text = String::new();
    Text::new(&mut text).actions(&actions);
    let _ = set::execution_order(&actions);
    let any = Match::catchall();
    let params = CheckParams {
        flow: &any.flow,
        mask: &any.mask,
        ports_max: PortNo::MAX,
        table_id: Some(0),
        n_tables: 255,
    };
    let _ = check(&mut actions, &params);
});
