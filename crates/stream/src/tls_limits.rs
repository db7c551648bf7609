//! What `--ssl-protocols` and `--ssl-ciphers` leave of TLS.
//!
//! rustls has TLS 1.2 and 1.3 and no weak cipher suite: what is asked for beyond that is not there, and what is
//! forbidden goes. Cipher lists are OpenSSL's (openssl-ciphers(1)) and concern TLS 1.2 only.

use crate::tls::TlsError;
use rustls::crypto::{CryptoProvider, ring};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, SupportedCipherSuite, SupportedProtocolVersion};
use tracing::{error, warn};

const LOG: &str = "stream_ssl";
/// What Open vSwitch takes as "no wish": everything, versions after these too.
const DEFAULT_PROTOCOLS: &str = "TLSv1,TLSv1.1,TLSv1.2";
/// What separates the elements of a list of ciphers.
const SEPARATORS: [char; 3] = [':', ',', ' '];

/// The protocol versions and the TLS 1.2 cipher suites that connections may use.
#[derive(Clone, Debug)]
pub struct TlsLimits {
    versions: Vec<&'static SupportedProtocolVersion>,
    suites: Vec<SupportedCipherSuite>,
}

impl Default for TlsLimits {
    fn default() -> Self {
        TlsLimits { versions: vec![&TLS13, &TLS12], suites: ring::ALL_CIPHER_SUITES.to_vec() }
    }
}

impl TlsLimits {
    /// From the options' values. A list that cannot be understood is said in the log and changes nothing, as in Open
    /// vSwitch; one that leaves nothing makes every connection fail with the reason.
    pub fn new(protocols: Option<&str>, ciphers: Option<&str>) -> Self {
        let mut limits = TlsLimits::default();
        if let Some(text) = protocols.filter(|text| *text != DEFAULT_PROTOCOLS) {
            match versions(text) {
                Ok(versions) => limits.versions = versions,
                Err(problem) => error!(target: LOG, "{problem}"),
            }
        }
        if let Some(text) = ciphers {
            let is_kept = |s: &SupportedCipherSuite| s.version() == &TLS13;
            let chosen = chosen(text);
            limits.suites.retain(|s| is_kept(s) || chosen.contains(&s.suite()));
            if limits.suites.iter().all(is_kept) {
                warn!(target: LOG, "{text}: no cipher suite of TLS 1.2 is in this list");
            }
        }
        if let Err(problem) = limits.provider() {
            error!(target: LOG, "{problem}");
        }
        limits
    }

    pub(crate) fn versions(&self) -> &[&'static SupportedProtocolVersion] {
        &self.versions
    }

    /// The cryptography that is left.
    pub(crate) fn provider(&self) -> Result<CryptoProvider, TlsError> {
        let suites = self.suites.iter().filter(|s| self.versions.contains(&s.version()));
        let cipher_suites: Vec<_> = suites.copied().collect();
        if cipher_suites.is_empty() {
            return Err(TlsError::NothingLeft);
        }
        Ok(CryptoProvider { cipher_suites, ..ring::default_provider() })
    }
}

/// The versions in a list such as `TLSv1.1,TLSv1.2` that there are here.
fn versions(text: &str) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let words: Vec<&str> = text.split([' ', ',', '\t']).filter(|w| !w.is_empty()).collect();
    if words.is_empty() {
        return Err("SSL protocol settings invalid".to_owned());
    }
    let mut versions = Vec::new();
    for word in words {
        match word.to_ascii_lowercase().as_str() {
            "tlsv1.3" => versions.push(&TLS13),
            "tlsv1.2" => versions.push(&TLS12),
            "tlsv1.1" | "tlsv1" => warn!(target: LOG, "{word}: this SSL protocol is not supported"),
            _ => return Err(format!("{word}: SSL protocol not recognized")),
        }
    }
    Ok(versions)
}

/// A cipher suite of TLS 1.2 and the words that name it or a group that it is in.
struct Named {
    suite: CipherSuite,
    names: [&'static str; 2],
    groups: &'static [&'static str],
}

/// Groups of all suites here: ephemeral keys, authenticated encryption, 128 bits and more.
const COMMON: [&str; 9] = ["ALL", "DEFAULT", "HIGH", "TLSv1.2", "ECDHE", "EECDH", "kECDHE", "kEECDH", "ECDH"];

macro_rules! named {
    ($suite:ident, $openssl:literal, $($group:literal),+) => {
        Named {
            suite: CipherSuite::$suite,
            names: [$openssl, stringify!($suite)],
            groups: &[$($group),+],
        }
    };
}

const SUITES: [Named; 6] = [
    named!(
        TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "aECDSA",
        "ECDSA",
        "AES",
        "AES256",
        "AESGCM",
        "SHA384"
    ),
    named!(
        TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "aECDSA",
        "ECDSA",
        "AES",
        "AES128",
        "AESGCM",
        "SHA256"
    ),
    named!(
        TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "aECDSA",
        "ECDSA",
        "CHACHA20",
        "SHA256"
    ),
    named!(
        TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-RSA-AES256-GCM-SHA384",
        "aRSA",
        "RSA",
        "AES",
        "AES256",
        "AESGCM",
        "SHA384"
    ),
    named!(
        TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-RSA-AES128-GCM-SHA256",
        "aRSA",
        "RSA",
        "AES",
        "AES128",
        "AESGCM",
        "SHA256"
    ),
    named!(
        TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-RSA-CHACHA20-POLY1305",
        "aRSA",
        "RSA",
        "CHACHA20",
        "SHA256"
    ),
];

impl Named {
    /// Whether `term`, groups joined by `+`, means this suite.
    fn is_meant(&self, term: &str) -> bool {
        term.split('+')
            .all(|word| self.names.contains(&word) || COMMON.contains(&word) || self.groups.contains(&word))
    }
}

/// The suites that a list of ciphers leaves. A word that means none of ours adds none and takes none away.
fn chosen(text: &str) -> Vec<CipherSuite> {
    let (mut chosen, mut killed): (Vec<CipherSuite>, Vec<CipherSuite>) = (Vec::new(), Vec::new());
    for element in text.split(SEPARATORS).filter(|e| !e.is_empty()) {
        let of = |term: &str| SUITES.iter().filter(|s| s.is_meant(term)).map(|s| s.suite).collect::<Vec<_>>();
        match element.split_at_checked(1) {
            Some(("!", term)) => killed.extend(of(term)),
            Some(("-", term)) => {
                let out = of(term);
                chosen.retain(|s| !out.contains(s));
            }
            // Order (`+`) is the peer's affair, strength (`@`) does not differ.
            Some(("+" | "@", _)) => {}
            _ => chosen.extend(of(element)),
        }
    }
    chosen.retain(|s| !killed.contains(s));
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suites(ciphers: &str) -> Vec<CipherSuite> {
        let limits = TlsLimits::new(Some("TLSv1.2"), Some(ciphers));
        limits.provider().map(|p| p.cipher_suites.iter().map(|s| s.suite()).collect()).unwrap_or_default()
    }

    #[test]
    fn protocols_are_those_that_are_named() {
        let has = |text: Option<&str>| {
            let limits = TlsLimits::new(text, None);
            [&TLS12, &TLS13].map(|v| limits.versions().contains(&v))
        };
        assert_eq!(has(None), [true, true]);
        assert_eq!(has(Some(DEFAULT_PROTOCOLS)), [true, true], "the default is no wish");
        assert_eq!(has(Some("TLSv1.1, tlsv1.2")), [true, false]);
        assert_eq!(has(Some("TLSv1.3")), [false, true]);
        assert_eq!(has(Some("SSLv3")), [true, true], "not understood");
        assert_eq!(has(Some(" ")), [true, true], "not understood");
        let old = TlsLimits::new(Some("TLSv1,TLSv1.1"), None);
        assert!(matches!(old.provider(), Err(TlsError::NothingLeft)));
    }

    #[test]
    fn lists_of_ciphers_choose_and_forbid() {
        use CipherSuite as C;
        assert_eq!(suites("HIGH:!aNULL:!MD5").len(), 6, "what Open vSwitch starts with");
        assert_eq!(suites("ECDHE-RSA-AES128-GCM-SHA256"), [C::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]);
        assert_eq!(suites("EECDH+AESGCM+aRSA:!AES128:@STRENGTH"), [C::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]);
        assert_eq!(suites("ALL,-ECDSA,-CHACHA20,+AES").len(), 2);
        assert_eq!(suites("!RSA:ALL").len(), 3, "forbidden for good");
        assert!(suites("RC4:nonsense").is_empty());
        let with_13 = TlsLimits::new(None, Some("nonsense")).provider().map(|p| p.cipher_suites.len());
        assert!(with_13.is_ok_and(|n| n == 3), "suites of TLS 1.3 have another list");
    }

    #[test]
    fn every_suite_of_tls_1_2_has_a_name() {
        for s in ring::ALL_CIPHER_SUITES.iter().filter(|s| s.version() == &TLS12) {
            assert!(SUITES.iter().any(|named| named.suite == s.suite()), "{:?}", s.suite());
        }
    }
}
