//! OXM and NXM entries, whole matches and the fixed matches of OpenFlow 1.0 and 1.1: any bytes decode or
//! fail, and what decodes encodes to bytes that decode to the same.
#![no_main]

use flow::oxm::{self, Options};
use flow::{legacy, ofp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((flags, bytes)) = data.split_first() else { return };
    let opts = Options { loose: flags & 1 != 0, allow_cookie: flags & 2 != 0, ..Options::default() };
    if let Ok(d) = oxm::decode(bytes, opts) {
        let mut nxm = Vec::new();
        oxm::encode_with_cookie(&mut nxm, &d.matched, ofp::NXM, None, d.cookie, d.cookie_mask);
        let strict = Options { allow_cookie: true, ..Options::default() };
        if let Ok(again) = oxm::decode(&nxm, strict) {
            let mut nxm2 = Vec::new();
            oxm::encode_with_cookie(
                &mut nxm2,
                &again.matched,
                ofp::NXM,
                None,
                again.cookie,
                again.cookie_mask,
            );
            assert_eq!(nxm, nxm2);
        }
    }
    let _ = oxm::pull_field_array(bytes);
    let _ = oxm::pull_entry(&mut &*bytes, None, true);
    let _ = legacy::pull_ofp11_match(&mut &*bytes, opts);
    if let Some((first, _)) = bytes.split_first_chunk() {
        let m = legacy::decode_ofp10(first);
        assert_eq!(legacy::decode_ofp10(&legacy::encode_ofp10(&m)), m);
    }
});
