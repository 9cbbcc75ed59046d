//! The way out through an HTTP proxy: which hosts go through it (`NO_PROXY`), and the CONNECT that opens a tunnel (RFC 9110 section 9.3.6).
//! Who dials is the caller's affair, and so are deadlines. The proxy's password never shows in `Debug` or an error.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Longest answer to a CONNECT that is read, in bytes.
const LONGEST_ANSWER: usize = 8 * 1024;
/// Longest reason that is kept of it, in bytes.
const LONGEST_REASON: usize = 100;

/// Why the settings cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// Not `http://`.
    #[error("is not a URL of the form http://HOST:PORT (a proxy that is itself reached by TLS, or SOCKS, cannot be used)")]
    Scheme,
    /// No host or no port.
    #[error("has no HOST:PORT, such as http://proxy.example:3128")]
    Address,
}

/// Why a tunnel was not opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The proxy refused.
    #[error("the proxy {proxy} answered {status} {reason} to CONNECT")]
    Refused {
        /// Host and port.
        proxy: String,
        /// HTTP status.
        status: u16,
        /// Its words, bounded.
        reason: String,
    },
    /// What came is no answer to a CONNECT.
    #[error("the proxy {0} did not answer in HTTP")]
    NotHttp(String),
    /// The connection broke.
    #[error("the connection with the proxy {proxy} broke: {source}")]
    Broken {
        /// Host and port.
        proxy: String,
        /// What happened.
        #[source]
        source: std::io::Error,
    },
}

/// An HTTP proxy and the hosts that do not go through it.
#[derive(Clone, Debug)]
pub struct Proxy {
    host: String,
    port: u16,
    authorization: Option<SecretString>,
    direct: Vec<Direct>,
}

/// One entry of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Direct {
    Everything,
    /// The name and all below it.
    Domain(String),
    Network(IpAddr, u8),
}

impl Proxy {
    /// From `http://[user:password@]host:port` and a `NO_PROXY` list: names (with all below them), addresses, networks (`10.0.0.0/8`), `*`;
    /// separated by commas or spaces. A port behind an entry is passed over; what cannot be read stands for nothing.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn parse(url: &str, no_proxy: &str) -> Result<Self, BadUrl> {
        let rest = url.trim().strip_prefix("http://").ok_or(BadUrl::Scheme)?;
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, address) = rest.rsplit_once('@').map_or((None, rest), |(user, address)| (Some(user), address));
        let (host, port) = address.rsplit_once(':').ok_or(BadUrl::Address)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let fits = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b));
        let port = port.parse().ok().filter(|port| *port != 0 && fits).ok_or(BadUrl::Address)?;
        let authorization = user.map(|user| format!("Basic {}", STANDARD.encode(percent_decoded(user))).into());
        let entries = no_proxy.split([',', ' ', '\t', '\n']).map(str::trim).filter(|entry| !entry.is_empty());
        Ok(Self { host: host.to_owned(), port, authorization, direct: entries.filter_map(Direct::parse).collect() })
    }

    /// Where to dial in order to reach `host` by [`Proxy::tunnel`]; `None` where it is dialled itself.
    pub fn serves(&self, host: &str) -> Option<(&str, u16)> {
        let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
        (!self.direct.iter().any(|direct| direct.covers(&host))).then_some((self.host.as_str(), self.port))
    }

    /// The proxy's URL for an HTTP client, with what it wants to know of us.
    pub fn authorization(&self) -> Option<&SecretString> {
        self.authorization.as_ref()
    }

    /// `http://host:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Opens a tunnel to `host` over a connection with the proxy. Nothing that comes behind the proxy's answer is read.
    ///
    /// # Errors
    /// If the proxy refuses, or does not speak HTTP.
    pub async fn tunnel<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: &mut S, host: &str, port: u16) -> Result<(), Error> {
        let broken = |source| Error::Broken { proxy: self.address(), source };
        let target = authority(host, port);
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(authorization) = &self.authorization {
            request.push_str(&format!("Proxy-Authorization: {}\r\n", authorization.expose_secret()));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        let mut answer = Vec::with_capacity(256);
        // Byte by byte: the next one after the empty line is the server's.
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() >= LONGEST_ANSWER {
                return Err(Error::NotHttp(self.address()));
            }
            answer.push(stream.read_u8().await.map_err(broken)?);
        }
        let answer = String::from_utf8_lossy(&answer);
        let line = answer.lines().next().unwrap_or_default();
        let mut words = line.splitn(3, ' ');
        let (version, status, reason) =
            (words.next().unwrap_or_default(), words.next().unwrap_or_default(), words.next().unwrap_or_default());
        match status.parse::<u16>() {
            Ok(200..=299) if version.starts_with("HTTP/1.") => Ok(()),
            Ok(status) if version.starts_with("HTTP/1.") => {
                let reason = reason.chars().filter(|c| !c.is_control()).take(LONGEST_REASON).collect();
                Err(Error::Refused { proxy: self.address(), status, reason })
            }
            _ => Err(Error::NotHttp(self.address())),
        }
    }

    fn address(&self) -> String {
        authority(&self.host, self.port)
    }
}

impl Direct {
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.to_ascii_lowercase();
        if entry == "*" {
            return Some(Self::Everything);
        }
        if let Some((address, bits)) = entry.split_once('/') {
            let address: IpAddr = address.parse().ok()?;
            let bits = bits.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            return (bits <= most).then_some(Self::Network(address, bits));
        }
        let bare = entry.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Some(Self::Network(address, if address.is_ipv4() { 32 } else { 128 }));
        }
        let name = entry.split(':').next()?.trim_start_matches("*.").trim_start_matches('.').trim_end_matches('.');
        match name.parse::<IpAddr>() {
            Ok(address) => Some(Self::Network(address, 32)),
            Err(_) => (!name.is_empty()).then(|| Self::Domain(name.to_owned())),
        }
    }

    fn covers(&self, host: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Domain(name) => host == name || host.strip_suffix(name.as_str()).is_some_and(|before| before.ends_with('.')),
            Self::Network(network, bits) => host.parse().is_ok_and(|address: IpAddr| within(address, *network, *bits)),
        }
    }
}

fn within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let (one, other, width) = match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (u128::from(one.to_bits()), u128::from(other.to_bits()), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits(), other.to_bits(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    let free = width - u32::from(bits).min(width);
    one.checked_shr(free).unwrap_or(0) == other.checked_shr(free).unwrap_or(0)
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_no_proxy_are_dialled_themselves() {
        let list = "localhost, .corp.example,intra.example:8080 10.0.0.0/8,192.168.1.7,fd00::/8,nonsense/99";
        let proxy = Proxy::parse("http://proxy.example:3128", list).unwrap();
        for (host, through) in [
            ("login.microsoftonline.com", true),
            ("localhost", false),
            ("corp.example", false),
            ("mail.CORP.example.", false),
            ("notcorp.example", true),
            ("intra.example", false),
            ("10.200.3.4", false),
            ("11.0.0.1", true),
            ("192.168.1.7", false),
            ("192.168.1.8", true),
            ("[fd00::1]", false),
            ("2001:db8::1", true),
        ] {
            assert_eq!(proxy.serves(host).is_some(), through, "{host}");
        }
        assert_eq!(Proxy::parse("http://p:1", "*").unwrap().serves("outlook.office365.com"), None);
        assert_eq!(Proxy::parse("http://p:1", "").unwrap().serves("x"), Some(("p", 1)));
    }

    #[test]
    fn a_url_that_cannot_be_used_is_named_and_a_password_never_shown() {
        for (url, problem) in [
            ("https://proxy:3128", BadUrl::Scheme),
            ("socks5://proxy:1080", BadUrl::Scheme),
            ("proxy:3128", BadUrl::Scheme),
            ("http://proxy", BadUrl::Address),
            ("http://:3128", BadUrl::Address),
            ("http://proxy:0", BadUrl::Address),
            ("http://pro xy:80", BadUrl::Address),
        ] {
            assert_eq!(Proxy::parse(url, "").unwrap_err(), problem, "{url}");
        }
        let proxy = Proxy::parse("http://user:c4n4ry%40x@[::1]:3128/", "").unwrap();
        assert!(!format!("{proxy:?} {}", proxy.url()).contains("c4n4ry"), "{proxy:?}");
        assert_eq!((proxy.url().as_str(), proxy.serves("x")), ("http://[::1]:3128", Some(("::1", 3128))));
        assert_eq!(proxy.authorization().unwrap().expose_secret(), format!("Basic {}", STANDARD.encode("user:c4n4ry@x")));
    }

    /// What CONNECT made of the answer, what was sent, and what is left of the answer.
    async fn answered(answer: &str) -> (Result<(), Error>, String, String) {
        let (mut ours, mut theirs) = tokio::io::duplex(64 * 1024);
        let proxy = Proxy::parse("http://u:p@proxy:3128", "").unwrap();
        theirs.write_all(answer.as_bytes()).await.unwrap();
        let outcome = proxy.tunnel(&mut ours, "outlook.office365.com", 993).await;
        let mut sent = vec![0; 1_024];
        let length = theirs.read(&mut sent).await.unwrap();
        drop(theirs);
        let mut left = String::new();
        ours.read_to_string(&mut left).await.unwrap();
        (outcome, String::from_utf8_lossy(&sent[..length]).into_owned(), left)
    }

    #[tokio::test]
    async fn a_tunnel_is_asked_for_and_what_comes_behind_it_is_left_alone() {
        let (outcome, sent, left) = answered("HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n* OK").await;
        outcome.unwrap();
        assert_eq!(left, "* OK");
        let expected =
            "CONNECT outlook.office365.com:993 HTTP/1.1\r\nHost: outlook.office365.com:993\r\nProxy-Authorization: Basic dTpw\r\n\r\n";
        assert_eq!(sent, expected);
        for (answer, says) in [
            ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "the proxy proxy:3128 answered 407 Proxy Authentication Required"),
            ("HTTP/1.0 403 Forbidden\r\n\r\n", "403 Forbidden"),
            ("* OK IMAP4 ready\r\n\r\n", "did not answer in HTTP"),
        ] {
            let error = answered(answer).await.0.unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        assert!(matches!(answered(&"x".repeat(10_000)).await.0, Err(Error::NotHttp(_))));
    }
}
