//! TLS as Open vSwitch uses it: both sides show certificates, a CA vouches for them, names do not matter.
//!
//! Limits: certificates are X.509 version 3 (what ovs-pki and OpenSSL's `x509` extensions make); TLS 1.2
//! and 1.3 only ([`TlsLimits`]).

use crate::tls_limits::TlsLimits;
use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error as RustlsError, RootCertStore, ServerConfig, SignatureScheme,
};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use tracing::{error, info};

const LOG: &str = "stream_ssl";

/// The files of `--private-key`, `--certificate`, `--ca-cert`/`--bootstrap-ca-cert`, `--peer-ca-cert`, or
/// of a row of table SSL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    pub private_key: Option<PathBuf>,
    pub certificate: Option<PathBuf>,
    /// The CA that vouches for peers; the word `none` turns checking off.
    pub ca_cert: Option<PathBuf>,
    /// While `ca_cert` does not exist, take the CA from the first server and save it there.
    pub bootstrap_ca_cert: bool,
    /// Further certificates to show to peers, so that they can bootstrap from us.
    pub peer_ca_cert: Option<PathBuf>,
}

#[derive(Debug, Error)]
pub enum TlsError {
    #[error("Private key must be configured to use SSL")]
    NoPrivateKey,
    #[error("Certificate must be configured to use SSL")]
    NoCertificate,
    #[error("CA certificate must be configured to use SSL")]
    NoCaCert,
    #[error("{path}: {source}")]
    Read { path: String, source: io::Error },
    #[error("{0}: no certificate or key in this file")]
    Empty(String),
    #[error("{0}")]
    Rustls(#[from] RustlsError),
    #[error("{0}")]
    Verifier(String),
    #[error("no supported version of TLS or no cipher is left by --ssl-protocols and --ssl-ciphers")]
    NothingLeft,
}

impl From<TlsError> for io::Error {
    fn from(e: TlsError) -> Self {
        io::Error::new(io::ErrorKind::InvalidInput, e)
    }
}

/// The present TLS configuration. Clones share it; [`Tls::set`] is seen by the next connection.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    config: Arc<Mutex<TlsConfig>>,
    limits: Arc<TlsLimits>,
}

/// What an outgoing connection needs.
pub(crate) struct ClientSetup {
    pub config: Arc<ClientConfig>,
    /// Where to save the CA that the server shows, when there is none yet.
    pub bootstrap: Option<PathBuf>,
}

impl Tls {
    pub fn new(config: TlsConfig) -> Self {
        Tls { config: Arc::new(Mutex::new(config)), limits: Arc::default() }
    }

    /// Uses nothing beyond `limits`, whatever the configuration is.
    #[must_use]
    pub fn limited(self, limits: TlsLimits) -> Self {
        Tls { limits: Arc::new(limits), ..self }
    }

    /// Replaces the configuration; connections that exist keep theirs.
    pub fn set(&self, config: TlsConfig) {
        *self.config.lock() = config;
    }

    pub fn get(&self) -> TlsConfig {
        self.config.lock().clone()
    }

    pub(crate) fn client(&self) -> Result<ClientSetup, TlsError> {
        let files = self.get();
        let (chain, key) = files.identity()?;
        let provider = Arc::new(self.limits.provider()?);
        let (roots, bootstrap) = match files.trust()? {
            Trust::Roots(roots) => (Some(roots), None),
            Trust::Anyone => (None, None),
            Trust::Bootstrap(path) => (None, Some(path)),
        };
        let verifier = CaOnly { roots, algorithms: provider.signature_verification_algorithms };
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.limits.versions())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(chain, key)?;
        Ok(ClientSetup { config: Arc::new(config), bootstrap })
    }

    pub(crate) fn server(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let files = self.get();
        let (chain, key) = files.identity()?;
        let provider = Arc::new(self.limits.provider()?);
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(self.limits.versions())?;
        let builder = match files.trust()? {
            Trust::Roots(roots) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|e| TlsError::Verifier(e.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
            Trust::Anyone => builder.with_no_client_auth(),
            // Only a server's CA can be learnt; a client cannot be trusted before.
            Trust::Bootstrap(_) => return Err(TlsError::NoCaCert),
        };
        Ok(Arc::new(builder.with_single_cert(chain, key)?))
    }
}

/// Whom to believe.
enum Trust {
    Roots(RootCertStore),
    Anyone,
    Bootstrap(PathBuf),
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl TlsConfig {
    /// Our certificate chain and private key.
    fn identity(&self) -> Result<Identity, TlsError> {
        let key_path = self.private_key.as_deref().ok_or(TlsError::NoPrivateKey)?;
        let mut chain = certificates(self.certificate.as_deref().ok_or(TlsError::NoCertificate)?)?;
        if let Some(path) = &self.peer_ca_cert {
            chain.extend(certificates(path)?);
        }
        let pem = read(key_path)?;
        let key = rustls_pemfile::private_key(&mut pem.as_slice())
            .map_err(|source| TlsError::Read { path: key_path.display().to_string(), source })?
            .ok_or_else(|| TlsError::Empty(key_path.display().to_string()))?;
        Ok((chain, key))
    }

    fn trust(&self) -> Result<Trust, TlsError> {
        let path = self.ca_cert.as_deref().ok_or(TlsError::NoCaCert)?;
        if path == Path::new("none") {
            return Ok(Trust::Anyone);
        }
        if self.bootstrap_ca_cert && !path.exists() {
            return Ok(Trust::Bootstrap(path.to_owned()));
        }
        let mut roots = RootCertStore::empty();
        for cert in certificates(path)? {
            roots.add(cert)?;
        }
        Ok(Trust::Roots(roots))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { path: path.display().to_string(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let certs: Vec<_> = rustls_pemfile::certs(&mut pem.as_slice())
        .collect::<Result<_, _>>()
        .map_err(|source| TlsError::Read { path: path.display().to_string(), source })?;
    if certs.is_empty() {
        return Err(TlsError::Empty(path.display().to_string()));
    }
    Ok(certs)
}

/// Checks that a server's chain leads to one of `roots` (any chain, without roots); never its name.
#[derive(Debug)]
struct CaOnly {
    roots: Option<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for CaOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        if let Some(roots) = &self.roots {
            let cert = ParsedCertificate::try_from(end_entity)?;
            rustls::client::verify_server_cert_signed_by_trust_anchor(
                &cert,
                roots,
                intermediates,
                now,
                self.algorithms.all,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Saves the last certificate of `chain`, which must be self-signed, as the CA at `path`. The file is
/// created with mode 0444 and never overwritten.
pub(crate) fn save_bootstrap_ca(path: &Path, chain: Option<&[CertificateDer<'_>]>) -> io::Result<()> {
    let bad = |text: &str| {
        error!(target: LOG, "could not bootstrap CA cert: {text}");
        io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
    };
    let ca = chain.and_then(<[_]>::last).ok_or_else(|| bad("no certificate presented by peer"))?;
    let parsed = webpki::EndEntityCert::try_from(ca).map_err(|e| bad(&e.to_string()))?;
    if parsed.issuer() != parsed.subject() {
        return Err(bad("obtained certificate is not self-signed"));
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o444).open(path)?;
    if let Err(e) = file.write_all(pem(ca).as_bytes()).and_then(|()| file.sync_all()) {
        error!(target: LOG, "could not bootstrap CA cert: writing {} failed: {e}", path.display());
        let _ = fs::remove_file(path);
        return Err(e);
    }
    info!(target: LOG, "successfully bootstrapped CA cert to {}", path.display());
    Ok(())
}

/// The PEM form of a certificate.
fn pem(der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |bits: u32, shift: u32| char::from(ALPHABET[(bits >> shift & 63) as usize]);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            text.push(digit(bits, 18));
            text.push(digit(bits, 12));
            text.push(if group.len() > 1 { digit(bits, 6) } else { '=' });
            text.push(if group.len() > 2 { digit(bits, 0) } else { '=' });
        }
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn missing_files_are_named() {
        let tls = Tls::default();
        assert!(matches!(tls.server(), Err(TlsError::NoPrivateKey)));
        tls.set(TlsConfig { private_key: Some("/nonexistent".into()), ..Default::default() });
        assert!(matches!(tls.server(), Err(TlsError::NoCertificate)));
    }

    proptest! {
        #[test]
        fn pem_round_trip(der in proptest::collection::vec(any::<u8>(), 1..200)) {
            let text = pem(&der);
            let back: Vec<_> = rustls_pemfile::certs(&mut text.as_bytes()).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(back[0].as_ref(), &der[..]);
        }
    }
}
