//! A certificate that lives as long as the server.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use futures_rustls::TlsAcceptor;
use futures_rustls::pki_types::PrivateKeyDer;
use futures_rustls::rustls::ServerConfig;
use futures_rustls::rustls::crypto::ring;

use crate::serving::Failure;

const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// What takes TLS connections, with a new certificate, which is also written to `file`.
pub(crate) fn acceptor(file: Option<&Path>) -> Result<TlsAcceptor, Failure> {
    let made = rcgen::generate_simple_self_signed(NAMES.map(String::from))
        .map_err(|error| Failure::Failed(format!("cannot make a certificate: {error}")))?;
    if let Some(file) = file {
        fs::write(file, made.cert.pem()).map_err(|error| {
            let file = file.display();
            Failure::Failed(format!("cannot write the certificate to {file}: {error}"))
        })?;
    }
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            let builder = builder.with_no_client_auth();
            builder.with_single_cert(vec![made.cert.der().clone()], key)
        })
        .map_err(|error| Failure::Failed(format!("cannot serve with its certificate: {error}")))?;
    Ok(Arc::new(config).into())
}
