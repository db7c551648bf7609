//! Entry for the fuzzer.

use crate::session::{Remote, Session, SessionConfig};

/// The server's answers that bring a session online; ids count from 0 in the order of requests.
const GREETING: [&str; 3] = [
    r#"{"id":0,"error":null,"result":{"name":"Open_vSwitch","version":"8.3.1","tables":{
        "Open_vSwitch":{"columns":{"next_cfg":{"type":"integer"},
          "other_config":{"type":{"key":"string","value":"string","min":0,"max":"unlimited"}}}},
        "Bridge":{"columns":{"name":{"type":"string"},
          "ports":{"type":{"key":{"type":"uuid"},"min":0,"max":"unlimited"}},
          "fail_mode":{"type":{"key":"string","min":0,"max":1}}}}}}}"#,
    r#"{"id":1,"error":null,"result":{"locked":true}}"#,
    r#"{"id":2,"error":null,"result":[false,"00000000-0000-0000-0000-000000000001",{}]}"#,
];

/// Feeds `data` to a session as what its server sends: in the first connection before its greeting,
/// in the second after it. Total: any input is fine.
pub fn fuzz_message(data: &[u8]) {
    let remote = Remote { name: "tcp:127.0.0.1:6640".to_owned(), needs_probes: true };
    for greeting in [&GREETING[..0], &GREETING[..]] {
        let mut session = Session::new(SessionConfig::vswitchd(), vec![remote.clone()], 0);
        session.connected(0);
        for text in greeting {
            session.received(text.as_bytes(), 1);
        }
        session.received(data, 2);
        while session.poll_action(3).is_some() {}
        while session.poll_event().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn greeting_is_understood() {
        let mut session = Session::new(SessionConfig::vswitchd(), vec![], 0);
        session.connected(0);
        for text in GREETING {
            session.received(text.as_bytes(), 1);
        }
        assert!(session.is_online());
    }

    proptest! {
        #[test]
        fn total(data in r#"(\{"method":"(update3|update|locked|echo)","id":null,"params":)?[\[\]{}":,a-z0-9]{0,40}\}?"#) {
            fuzz_message(data.as_bytes());
        }
    }
}
