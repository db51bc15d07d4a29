//! TLS: whom we trust, and who we are. rustls with ring, TLS 1.2 and 1.3.

use std::{io, path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

/// Whose certificates are believed.
#[derive(Debug, Clone, Default)]
pub enum Roots {
    /// Mozilla's list, as compiled in.
    #[default]
    Mozilla,
    /// The system's list (its certificate folder, or `SSL_CERT_FILE`).
    System,
    /// Those in a PEM file, and no others: for a private authority.
    File(PathBuf),
    /// Those in this PEM text, and no others.
    Pem(Vec<u8>),
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file is not readable.
    #[error("cannot read the certificates in {}; check the path and its permissions", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The PEM is malformed, or no certificate in it can be used.
    #[error("no usable certificate found in {place}; give PEM with BEGIN CERTIFICATE blocks")]
    NoCertificates {
        /// Where they were expected.
        place: String,
    },
    /// The PEM holds no private key.
    #[error("no private key found; give PEM with a BEGIN PRIVATE KEY block")]
    NoKey,
    /// Key and certificate do not fit, or are of a kind that is not supported.
    #[error("the certificate or its key cannot be used")]
    Unusable(#[from] rustls::Error),
}

/// The settings of all outward connections; cheap to clone, for every shard.
#[derive(Debug, Clone)]
pub struct ClientTls(pub(crate) Arc<ClientConfig>);

/// The settings of a listener; cheap to clone, for every shard.
#[derive(Debug, Clone)]
pub struct ServerTls(pub(crate) Arc<ServerConfig>);

impl ClientTls {
    /// Reads the roots. May touch the disk: call it before the shards start.
    pub fn new(roots: &Roots) -> Result<Self, TlsError> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(store(roots)?)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }
}

impl ServerTls {
    /// From the certificate chain and the private key, both PEM.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain = certificates(chain, "the chain")?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::NoKey)?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }
}

/// The name that a server's certificate must bear.
pub(crate) fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn store(roots: &Roots) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    let place = match roots {
        Roots::Mozilla => {
            store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            return Ok(store);
        }
        Roots::System => {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "some of the system's certificates cannot be read");
            }
            store.add_parsable_certificates(found.certs);
            "the system's store".to_owned()
        }
        Roots::File(path) => {
            let pem = std::fs::read(path)
                .map_err(|source| TlsError::Read { path: path.clone(), source })?;
            let place = path.display().to_string();
            store.add_parsable_certificates(certificates(&pem, &place)?);
            place
        }
        Roots::Pem(pem) => {
            store.add_parsable_certificates(certificates(pem, "the PEM given")?);
            "the PEM given".to_owned()
        }
    };
    if store.is_empty() { Err(TlsError::NoCertificates { place }) } else { Ok(store) }
}

fn certificates(pem: &[u8], place: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(TlsError::NoCertificates { place: place.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_roots_is_read_or_refused_with_its_place() {
        assert!(ClientTls::new(&Roots::Mozilla).is_ok());
        let missing = ClientTls::new(&Roots::File("/nonexistent/roots.pem".into())).unwrap_err();
        assert!(missing.to_string().contains("/nonexistent/roots.pem"), "{missing}");
        let empty = ClientTls::new(&Roots::Pem(b"nothing here".to_vec())).unwrap_err();
        assert!(matches!(empty, TlsError::NoCertificates { .. }));
    }
}
