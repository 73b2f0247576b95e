//! TLS as the settings of any probe say it: whom to trust, and who one is.

use super::verify::{Verifier, failed};
use crate::probe::{Fault, Net, Secret, Trouble};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::HashSet;
use std::sync::{Arc, LazyLock, OnceLock};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Certificates in one setting: more than any authority hands out.
const CERTIFICATES_MAX: usize = 20;

/// Named in every configuration: the process has no default that others could have set.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(ring::default_provider()));

/// Who is trusted without being told: Mozilla's list, and the system's.
static ROOTS: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    // What of the system's cannot be read cannot be trusted.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    // The two are nearly the same.
    let mut seen = HashSet::new();
    roots.roots.retain(|root| seen.insert((root.subject.clone(), root.subject_public_key_info.clone())));
    Arc::new(roots)
});

/// What nearly every check uses is made once for all.
static PLAIN: LazyLock<Option<Ready>> = LazyLock::new(|| Ready::of(&TlsOptions::default()).ok());

/// TLS.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TlsOptions {
    /// Certificates in PEM that are trusted as well as those that everybody trusts: the authority's, or the server's own.
    pub custom_ca: Option<String>,
    /// The certificate to show, in PEM, and those between it and its authority.
    pub client_certificate: Option<String>,
    /// The private key of the client certificate, in PEM.
    pub client_key: Option<Secret>,
    /// The name that is asked for and that the certificate must have, where it is not the host.
    pub server_name: Option<String>,
    /// Accept every certificate. Who is between here and the target can then read and change what is sent.
    pub skip_verification: bool,
    /// Accept no older version.
    pub min_version: Option<TlsVersion>,
    #[serde(skip)]
    #[schemars(skip)]
    ready: OnceLock<Arc<Ready>>,
}

/// A version of TLS. Older ones are not spoken.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}

/// Made of the options once, for all looks.
#[derive(Debug)]
pub(super) struct Ready {
    strict: Arc<ClientConfig>,
    lenient: Arc<ClientConfig>,
    pub(super) verifier: Arc<Verifier>,
}

impl TlsOptions {
    /// What is wrong with them; `path` is where they are in the settings.
    #[must_use]
    pub fn faults(&self, path: &str) -> Vec<Fault> {
        self.ready().err().map(|fault| Fault { path: format!("{path}.{}", fault.path), ..fault }).into_iter().collect()
    }

    /// The same for another host, to which one is not introduced.
    #[must_use]
    pub fn elsewhere(&self) -> Self {
        Self { client_certificate: None, client_key: None, server_name: None, ready: OnceLock::new(), ..self.clone() }
    }

    /// Whether [`Self::elsewhere`] would make a difference.
    #[must_use]
    pub fn is_personal(&self) -> bool {
        self.client_certificate.is_some() || self.server_name.is_some()
    }

    /// The name to ask for.
    pub(super) fn name(&self, host: &str) -> Result<ServerName<'static>, Trouble> {
        let name = self.server_name.as_deref().unwrap_or(host);
        server_name(name).ok_or_else(|| Trouble::Target(format!("{name} is not a name that a certificate can have")))
    }

    pub(super) fn ready(&self) -> Result<&Ready, Fault> {
        let is_plain = self.custom_ca.is_none()
            && self.client_certificate.is_none()
            && self.client_key.is_none()
            && self.min_version.is_none()
            && !self.skip_verification
            && self.server_name.is_none();
        if let (true, Some(plain)) = (is_plain, PLAIN.as_ref()) {
            return Ok(plain);
        }
        if let Some(ready) = self.ready.get() {
            return Ok(ready);
        }
        let made = Arc::new(Ready::of(self)?);
        Ok(self.ready.get_or_init(|| made))
    }
}

impl Ready {
    fn of(options: &TlsOptions) -> Result<Self, Fault> {
        if options.server_name.as_deref().is_some_and(|name| server_name(name).is_none()) {
            return Err(Fault::new("serverName", "Is not a host name or an IP address"));
        }
        let trusted = options.custom_ca.as_deref().map_or(Ok(vec![]), |pem| certificates("customCa", pem))?;
        let roots = if trusted.is_empty() { ROOTS.clone() } else { Arc::new(widened(&trusted)?) };
        let web = WebPkiServerVerifier::builder_with_provider(roots, PROVIDER.clone()).build();
        let web = web.map_err(|why| Fault::new("customCa", format!("Cannot be trusted: {why}")))?;
        let verifier =
            |is_lenient| Arc::new(Verifier { web: web.clone(), trusted: trusted.clone().into(), is_lenient });
        let (strict, lenient) = (verifier(false), verifier(true));
        let lenient = Arc::new(configuration(options, lenient)?);
        let first =
            if options.skip_verification { lenient.clone() } else { Arc::new(configuration(options, strict.clone())?) };
        Ok(Self { strict: first, lenient, verifier: strict })
    }
}

fn widened(trusted: &[CertificateDer<'static>]) -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::clone(&ROOTS);
    for certificate in trusted {
        let added = roots.add(certificate.clone());
        added.map_err(|_| Fault::new("customCa", "Holds something that is not a certificate"))?;
    }
    Ok(roots)
}

fn configuration(options: &TlsOptions, verifier: Arc<Verifier>) -> Result<ClientConfig, Fault> {
    let versions: &[_] = match options.min_version {
        Some(TlsVersion::Tls13) => &[&rustls::version::TLS13],
        Some(TlsVersion::Tls12) | None => &[&rustls::version::TLS13, &rustls::version::TLS12],
    };
    let builder = ClientConfig::builder_with_provider(PROVIDER.clone()).with_protocol_versions(versions);
    let builder = builder.map_err(|why| Fault::new("minVersion", format!("Cannot be spoken: {why}")))?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut made = match (&options.client_certificate, &options.client_key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(_), None) => return Err(Fault::new("clientKey", "Is needed with clientCertificate")),
        (None, Some(_)) => return Err(Fault::new("clientCertificate", "Is needed with clientKey")),
        (Some(pem), Some(key)) => {
            let key = PrivateKeyDer::from_pem_slice(key.reveal().as_bytes());
            // The cause could quote the key.
            let key = key.map_err(|_| Fault::new("clientKey", "Is not a private key in PEM, without a passphrase"))?;
            let made = builder.with_client_auth_cert(certificates("clientCertificate", pem)?, key);
            made.map_err(|_| Fault::new("clientKey", "Does not belong to clientCertificate, or is of an unknown kind"))?
        }
    };
    // Each look is a handshake of its own: what it takes is what is measured.
    made.resumption = Resumption::disabled();
    Ok(made)
}

fn certificates(setting: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).take(CERTIFICATES_MAX + 1).collect();
    match read {
        Ok(read) if read.len() > CERTIFICATES_MAX => {
            Err(Fault::new(setting, format!("Must not hold more than {CERTIFICATES_MAX} certificates")))
        }
        Ok(read) if !read.is_empty() => Ok(read),
        Ok(_) | Err(_) => Err(Fault::new(setting, "Holds no certificate in PEM")),
    }
}

fn server_name(host: &str) -> Option<ServerName<'static>> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let bare = bare.strip_suffix('.').unwrap_or(bare);
    ServerName::try_from(bare).ok().map(|name| name.to_owned())
}

impl Net {
    /// Speaks TLS over a connection that was made to `host`.
    pub async fn tls<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        host: &str,
        options: &TlsOptions,
        alpn: &[&[u8]],
    ) -> Result<TlsStream<S>, Trouble> {
        let ready = options.ready().map_err(|fault| unready(&fault))?;
        self.handshake(stream, host, options, &ready.strict, alpn).await
    }

    /// The same, whatever the certificate: its verdict comes later.
    pub(super) async fn lenient_tls<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        host: &str,
        options: &TlsOptions,
    ) -> Result<TlsStream<S>, Trouble> {
        let ready = options.ready().map_err(|fault| unready(&fault))?;
        self.handshake(stream, host, options, &ready.lenient, &[]).await
    }

    async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        host: &str,
        options: &TlsOptions,
        config: &Arc<ClientConfig>,
        alpn: &[&[u8]],
    ) -> Result<TlsStream<S>, Trouble> {
        let name = options.name(host)?;
        self.phase(format!("TLS handshake with {host}"));
        let connector = TlsConnector::from(config.clone());
        let alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        connector.with_alpn(alpn).connect(name, stream).await.map_err(|why| failed(host, &why))
    }
}

/// The faults have not been asked for.
pub(super) fn unready(fault: &Fault) -> Trouble {
    Trouble::Ours(format!("The TLS settings are wrong: {}: {}", fault.path, fault.message))
}
