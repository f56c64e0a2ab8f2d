//! TLS with the meaning of libpq's `sslmode`: from encryption alone to a certificate that names the
//! host.

use super::end_point;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime,
};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};

/// How the server's certificate is verified.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Verification {
    /// Not at all.
    None,
    /// A trusted authority must have signed it.
    Chain,
    /// As with `Chain`, and it must name the host.
    Full,
}

/// Encrypts connections.
#[derive(Clone)]
pub(super) struct Tls(Arc<ClientConfig>);

impl Tls {
    /// For connections without encryption, or with encryption that accepts any server.
    pub fn unverified() -> Self {
        let provider = Arc::new(ring::default_provider());
        let verifier =
            Arc::new(Verifier { demands: Verification::None, chain: None, roots: Vec::new(), provider });
        Self(Arc::new(builder(verifier, Protocols::default()).with_no_client_auth()))
    }

    pub fn new(options: &TlsOptions<'_>) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let demands = options.demands;
        let (chain, roots) = match (demands, options.root) {
            (Verification::None, _) => (None, Vec::new()),
            (_, None) => {
                return Err("there is nothing to verify the server's certificate with; name a file of root \
                    certificates with `sslrootcert=`, or the system's with `sslrootcert=system`"
                    .to_owned());
            }
            (_, Some(root)) => trust(root, options.revoked, &provider)?,
        };
        let builder = builder(Arc::new(Verifier { demands, chain, roots, provider }), options.protocols);
        let mut config = match (options.certificate, options.key) {
            (Some(certificate), Some(key)) => {
                let shown =
                    |path: &Path, error: &dyn std::fmt::Display| format!("`{}`: {error}", path.display());
                let chain = read_certificates(certificate).map_err(|error| shown(certificate, &error))?;
                let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| shown(key, &error))?;
                builder.with_client_auth_cert(chain, secret).map_err(|error| shown(certificate, &error))?
            }
            (None, None) => builder.with_no_client_auth(),
            _ => return Err("`sslcert` and `sslkey` go together; one of them is missing".to_owned()),
        };
        config.enable_sni = !options.hides_name;
        if options.is_direct {
            config.alpn_protocols = vec![b"postgresql".to_vec()];
        }
        Ok(Self(Arc::new(config)))
    }
}

/// The TLS settings of a URL.
#[derive(Copy, Clone, Debug)]
pub(super) struct TlsOptions<'o> {
    pub demands: Verification,
    /// A file of certificates, or `system`.
    pub root: Option<&'o str>,
    pub certificate: Option<&'o Path>,
    pub key: Option<&'o Path>,
    /// A file of revocation lists.
    pub revoked: Option<&'o Path>,
    /// Whether the handshake omits the host's name (no SNI).
    pub hides_name: bool,
    /// Whether the server expects TLS from the first byte.
    pub is_direct: bool,
    pub protocols: Protocols,
}

/// Which of the supported TLS versions may be used.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Protocols {
    has_12: bool,
    has_13: bool,
}

impl Default for Protocols {
    fn default() -> Self {
        Self { has_12: true, has_13: true }
    }
}

impl Protocols {
    /// Reads `ssl_min_protocol_version` and `ssl_max_protocol_version`.
    pub fn between(least: Option<&str>, most: Option<&str>) -> Result<Self, String> {
        let is_one = |version: &str, all: &[&str]| all.iter().any(|one| one.eq_ignore_ascii_case(version));
        let mut protocols = Self::default();
        if let Some(version) = least {
            if is_one(version, &["TLSv1.3"]) {
                protocols.has_12 = false;
            } else if !is_one(version, &["TLSv1", "TLSv1.1", "TLSv1.2"]) {
                return Err(format!(
                    "`ssl_min_protocol_version={version}` isn't known; it is `TLSv1.2` or `TLSv1.3`"
                ));
            }
        }
        if let Some(version) = most {
            if is_one(version, &["TLSv1.2"]) {
                protocols.has_13 = false;
            } else if !is_one(version, &["TLSv1.3"]) {
                return Err(format!(
                    "`ssl_max_protocol_version={version}` isn't possible: polos speaks `TLSv1.2` and `TLSv1.3`"
                ));
            }
        }
        if protocols.has_12 || protocols.has_13 {
            Ok(protocols)
        } else {
            Err("`ssl_min_protocol_version` is newer than `ssl_max_protocol_version`".to_owned())
        }
    }
}

fn builder(
    verifier: Arc<Verifier>,
    protocols: Protocols,
) -> tokio_rustls::rustls::ConfigBuilder<ClientConfig, tokio_rustls::rustls::client::WantsClientCert> {
    let versions: &[&'static SupportedProtocolVersion] = match (protocols.has_12, protocols.has_13) {
        (true, true) => &[&TLS12, &TLS13],
        (true, false) => &[&TLS12],
        (false, _) => &[&TLS13],
    };
    ClientConfig::builder_with_provider(Arc::clone(&verifier.provider))
        .with_protocol_versions(versions)
        .expect("the provider knows the usual versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    certificates.collect::<Result<_, _>>().map_err(|error| error.to_string())
}

type Trust = (Option<Arc<WebPkiServerVerifier>>, Vec<CertificateDer<'static>>);

fn trust(root: &str, revoked: Option<&Path>, provider: &Arc<CryptoProvider>) -> Result<Trust, String> {
    let certificates = if root == "system" {
        rustls_native_certs::load_native_certs().certs
    } else {
        read_certificates(Path::new(root)).map_err(|error| format!("sslrootcert `{root}`: {error}"))?
    };
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(certificates.iter().cloned());
    if added == 0 {
        return Err(format!("sslrootcert `{root}`: there is no certificate in it"));
    }
    let mut lists = Vec::new();
    if let Some(path) = revoked {
        let shown = |error: &dyn std::fmt::Display| format!("sslcrl `{}`: {error}", path.display());
        for list in CertificateRevocationListDer::pem_file_iter(path).map_err(|error| shown(&error))? {
            lists.push(list.map_err(|error| shown(&error))?);
        }
    }
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
        .with_crls(lists)
        .build()
        .map_err(|error| format!("sslrootcert `{root}`: {error}"))?;
    Ok((Some(chain), certificates))
}

#[derive(Debug)]
struct Verifier {
    demands: Verification,
    chain: Option<Arc<WebPkiServerVerifier>>,
    roots: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        if self.roots.iter().any(|root| root == certificate) {
            // The server's own certificate is the trusted one: it is self-signed.
            if self.demands == Verification::Full {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, host)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        match chain.verify_server_cert(certificate, intermediates, host, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.demands == Verification::Chain => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Encrypts one connection.
pub(super) struct Connect {
    config: Arc<ClientConfig>,
    host: String,
}

impl<S> MakeTlsConnect<S> for Tls
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type TlsConnect = Connect;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<Connect> {
        Ok(Connect { config: Arc::clone(&self.0), host: host.to_owned() })
    }
}

impl<S> TlsConnect<S> for Connect
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            // Without a host name there is none to verify, but the handshake needs one.
            let host = if self.host.is_empty() { "localhost".to_owned() } else { self.host };
            let host = ServerName::try_from(host)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            TlsConnector::from(self.config).connect(host, stream).await.map(Stream)
        })
    }
}

/// An encrypted connection.
pub(super) struct Stream<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> tokio_postgres::tls::TlsStream for Stream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        let (_, session) = self.0.get_ref();
        let certificate = session.peer_certificates().and_then(|chain| chain.first());
        match certificate.and_then(|certificate| end_point::hash(certificate)) {
            Some(hash) => ChannelBinding::tls_server_end_point(hash),
            None => ChannelBinding::none(),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
