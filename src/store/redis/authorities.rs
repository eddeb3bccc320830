//! Whom TLS to Redis believes.
//!
//! Decides: which certificates are trusted: the system's, or those of one file and no others. Never
//! touches: connections.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// The certificates that a server's must come from.
#[derive(Clone, PartialEq, Eq)]
pub enum Authorities {
    /// What the system trusts.
    System,
    /// These alone.
    Own(Vec<CertificateDer<'static>>),
}

impl Authorities {
    /// Those of a PEM file. Reads it: to be called at start.
    ///
    /// # Errors
    /// Why none could be had, with the file's name.
    pub fn of_file(file: &Path) -> Result<Self, String> {
        let shown = file.display();
        let pem = std::fs::read(file).map_err(|error| format!("{shown} cannot be read: {error}"))?;
        let certificates = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("{shown} is not PEM: {error}"))?;
        if certificates.is_empty() {
            return Err(format!("{shown} has no certificate (\"-----BEGIN CERTIFICATE-----\")"));
        }
        let own = Self::Own(certificates);
        own.roots().map_err(|error| format!("{shown} has a certificate that cannot be used: {error}"))?;
        Ok(own)
    }

    /// How to speak TLS to whoever they vouch for.
    pub(super) fn client_config(&self) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(builder.with_root_certificates(self.roots()?).with_no_client_auth())
    }

    /// As TLS wants them. Of the system's, those that cannot be used are passed over.
    fn roots(&self) -> Result<RootCertStore, rustls::Error> {
        let mut roots = RootCertStore::empty();
        match self {
            Self::System => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
            Self::Own(certificates) => {
                for certificate in certificates {
                    roots.add(certificate.clone())?;
                }
            }
        }
        Ok(roots)
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("System"),
            Self::Own(certificates) => write!(f, "Own({})", certificates.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_of_certificates() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        let said = |content: &[u8]| {
            fs::write(&file, content).unwrap();
            let result = Authorities::of_file(&file).map(|own| own.roots().unwrap().len());
            result.map_err(|error| error.replace(&*file.to_string_lossy(), "FILE"))
        };
        let key = rcgen::KeyPair::generate().unwrap();
        let pem =
            rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
        assert_eq!(said(pem.as_bytes()), Ok(1));
        assert_eq!(said(format!("a comment\n{pem}{}{pem}", key.serialize_pem()).as_bytes()), Ok(2));
        let none = Err("FILE has no certificate (\"-----BEGIN CERTIFICATE-----\")".to_owned());
        assert_eq!(said(b""), none);
        assert_eq!(said(key.serialize_pem().as_bytes()), none);
        let cut = said(&pem.as_bytes()[..pem.len() / 2]).unwrap_err();
        assert!(cut.starts_with("FILE is not PEM: "), "{cut}");
        let text = said(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap_err();
        assert!(text.starts_with("FILE has a certificate that cannot be used: "), "{text}");
        let absent = Authorities::of_file(Path::new("/nowhere/ca.pem")).unwrap_err();
        assert!(absent.starts_with("/nowhere/ca.pem cannot be read: "), "{absent}");
    }
}
