use super::*;

fn identified(hex: &str) -> Result<Form, OfError> {
    identify(&crate::hex::bytes(hex)).map(|i| i.form)
}

#[test]
fn every_form_is_found_by_the_headers_it_writes() {
    for &form in Form::ALL {
        for version in Version::ALL.into_iter().filter(|v| form.is_in(*v)) {
            let mut out = vec![0xee; 3];
            form.put(version, 0x0102_0304, &mut out, |out| out.put_zeros(form.body_min()));
            let message = out.get(3..).unwrap();
            let incoming = identify(message).unwrap();
            assert_eq!((incoming.form, incoming.version), (form, version));
            assert_eq!(incoming.header.xid, 0x0102_0304);
            assert_eq!(usize::from(incoming.header.length), message.len());
            assert_eq!(incoming.body().len(), form.body_min());
        }
    }
}

#[test]
fn no_two_forms_share_headers() {
    for (i, a) in Form::TABLE.iter().enumerate() {
        for b in &Form::TABLE[..i] {
            let same_key = a.kind == b.kind && a.number == b.number;
            assert!(!(same_key && (0..=255).any(|v| a.has_version(v) && b.has_version(v))), "{a:?} {b:?}");
        }
    }
}

#[test]
fn every_multipart_request_has_a_reply() {
    for &form in Form::ALL {
        for version in Version::ALL.into_iter().filter(|v| form.is_in(*v)) {
            let reply = form.reply(version);
            assert_eq!(reply.is_some(), form.is_multipart_request(), "{form:?} {version}");
        }
    }
    assert_eq!(Form::NxstFlowRequest.reply(Version::Of10), Some(Form::NxstFlowReply));
    assert_eq!(Form::Ofpst11FlowRequest.reply(Version::Of13), Some(Form::Ofpst13FlowReply));
}

#[test]
fn unknown_messages() {
    // Type 99 of OpenFlow 1.0; multipart type 99; Nicira subtype 9999; vendor 0xdead.
    assert_eq!(identified("01 63 0008 00000000"), Err(OfError::OfpbrcBadType));
    assert_eq!(identified("04 12 0010 00000000 0063 0000 00000000"), Err(OfError::OfpbrcBadStat));
    assert_eq!(identified("01 04 0010 00000000 00002320 0000270f"), Err(OfError::OfpbrcBadSubtype));
    assert_eq!(identified("01 04 0010 00000000 0000dead 00000001"), Err(OfError::OfpbrcBadVendor));
    assert_eq!(
        identified("04 12 0018 00000000 ffff 0000 00000000 0000dead 00000001"),
        Err(OfError::OfpbrcBadVendor)
    );
    // ONF multipart messages do not exist in OpenFlow 1.0.
    assert_eq!(
        identified("01 10 0018 00000000 ffff 0000 4f4e4600 0000074e 00000000"),
        Err(OfError::OfpbrcBadVendor)
    );
    // A message of a later version than any known, and the multipart type of one.
    assert_eq!(identified("09 05 0008 00000000"), Err(OfError::OfpbrcBadType));
    assert_eq!(identified("09 12 0010 00000000 0000 0000 00000000"), Err(OfError::OfpbrcBadType));
}

#[test]
fn hello_of_any_version() {
    for version in 0..=255u8 {
        let hello = [version, 0, 0, 8, 0, 0, 0, 0];
        let incoming = identify(&hello).unwrap();
        assert_eq!(incoming.form, Form::OfptHello);
        assert_eq!(incoming.header.version, version);
    }
}

#[test]
fn lengths_are_checked() {
    // Features request with a byte too many; headers cut off; an instruction that is not 8 bytes long.
    assert_eq!(identified("01 05 0009 00000000 00"), Err(OfError::OfpbrcBadLen));
    assert_eq!(identified("01 04 000c 00000000 00002320"), Err(OfError::OfpbrcBadLen));
    assert_eq!(identified("04 12 000a 00000000 0000"), Err(OfError::OfpbrcBadLen));
    assert_eq!(identified("01 10 0010 00000000 ffff 0000 00002320"), Err(OfError::OfpbrcBadLen));
    let mut flow_mod = vec![4, 14, 0, 0, 0, 0, 0, 0];
    flow_mod.resize(8 + 40 + 4, 0);
    assert_eq!(identify(&flow_mod).map(|i| i.form), Err(OfError::OfpbrcBadLen));
    flow_mod.resize(8 + 40 + 8, 0);
    assert_eq!(identify(&flow_mod).map(|i| i.form), Ok(Form::Ofpt11FlowMod));
}
