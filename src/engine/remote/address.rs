//! The addresses of a server: where its `/v1` is, whatever of that the user wrote.

use reqwest::Url;

/// The addresses of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address above `/v1`, without a slash at its end.
    root: String,
    /// The address of `/v1`, without a slash at its end.
    api: String,
    query: Option<String>,
}

impl Address {
    /// Reads an address with or without scheme, `/v1`, the name of a call, a slash at its end, a path before and a query.
    /// The error does not repeat a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("{}://{text}", scheme_of(text)) };
        let url = Url::parse(&with_scheme).map_err(|error| format!("the server's address cannot be read: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err("a server's address begins with http:// or https://".into());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a server's address must not hold a name or a password: set key_env or a header".into());
        }
        let query = url.query().filter(|query| !query.is_empty()).map(str::to_owned);
        let origin = url.origin().ascii_serialization();
        let path = url.path().trim_end_matches('/');
        let path = ["/chat/completions", "/models", "/completions"]
            .iter()
            .find_map(|call| path.strip_suffix(call))
            .unwrap_or(path);
        let above = path.rsplit_once('/').filter(|(_, last)| is_version(last)).map(|(above, _)| above);
        let root = format!("{origin}{}", above.unwrap_or(path));
        let api = if above.is_some() { format!("{origin}{path}") } else { format!("{root}/v1") };
        Ok(Self { root, api, query })
    }

    /// The address of `call` below `/v1`, such as `chat/completions`.
    pub fn api(&self, call: &str) -> String {
        self.with_query(format!("{}/{call}", self.api))
    }

    /// The address of `call` beside `/v1`, such as `health`.
    pub fn beside(&self, call: &str) -> String {
        self.with_query(format!("{}/{call}", self.root))
    }

    /// Whether it is on this machine.
    pub fn is_here(&self) -> bool {
        Url::parse(&self.root).is_ok_and(|url| url.host_str().is_some_and(is_loopback))
    }

    /// The address for the user.
    pub fn shown(&self) -> &str {
        &self.root
    }

    fn with_query(&self, mut url: String) -> String {
        if let Some(query) = &self.query {
            url.push('?');
            url.push_str(query);
        }
        url
    }
}

/// Whether the key would cross a network unencrypted.
pub fn is_unprotected(url: &Url) -> bool {
    url.scheme() == "http" && !url.host_str().is_some_and(is_loopback)
}

/// Whether `host` is this machine.
pub fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let ip = host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified());
    ip || host == "localhost" || host.ends_with(".localhost")
}

/// The scheme of an address without one: plain for this machine and for an address with a port, as local servers have.
fn scheme_of(text: &str) -> &'static str {
    let authority = text.split('/').next().unwrap_or_default();
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
    let has_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && port != "443";
    if has_port || is_loopback(host) || is_loopback(authority) { "http" } else { "https" }
}

fn is_version(part: &str) -> bool {
    part.strip_prefix('v').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]

    use super::*;

    /// A4.20.
    #[test]
    fn address_is_read_in_every_form() {
        let cases = [
            ("http://h:8000", "http://h:8000/v1/models", "http://h:8000/health"),
            ("http://h:8000/", "http://h:8000/v1/models", "http://h:8000/health"),
            ("http://h:8000/v1", "http://h:8000/v1/models", "http://h:8000/health"),
            ("http://h:8000/v1/", "http://h:8000/v1/models", "http://h:8000/health"),
            ("http://h/v1/chat/completions", "http://h/v1/models", "http://h/health"),
            ("https://h/a/b", "https://h/a/b/v1/models", "https://h/a/b/health"),
            ("https://h/api/v1", "https://h/api/v1/models", "https://h/api/health"),
            ("https://h/compatible/v4/", "https://h/compatible/v4/models", "https://h/compatible/health"),
            ("https://h/v1?version=2", "https://h/v1/models?version=2", "https://h/health?version=2"),
            ("localhost:8080", "http://localhost:8080/v1/models", "http://localhost:8080/health"),
            ("127.0.0.1", "http://127.0.0.1/v1/models", "http://127.0.0.1/health"),
            ("box:11434", "http://box:11434/v1/models", "http://box:11434/health"),
            ("x.modal.run", "https://x.modal.run/v1/models", "https://x.modal.run/health"),
            ("[::1]:8000", "http://[::1]:8000/v1/models", "http://[::1]:8000/health"),
        ];
        for (text, models, health) in cases {
            let address = Address::parse(text).expect(text);
            assert_eq!((address.api("models").as_str(), address.beside("health").as_str()), (models, health), "{text}");
        }
    }

    #[test]
    fn address_of_this_machine_is_told() {
        let here = |text: &str| Address::parse(text).expect(text).is_here();
        assert!(here("localhost:1") && here("http://127.0.0.1/v1") && here("http://[::1]:8000"));
        assert!(!here("http://box:1") && !here("https://localhost.example.com"));
    }

    /// A4.22.
    #[test]
    fn address_that_cannot_be_used_is_refused_without_its_password() {
        for text in ["ftp://h", "http://", "http://me:secret@h/v1", "", "file:///x"] {
            let error = Address::parse(text).expect_err(text);
            assert!(!error.contains("secret"), "{error}");
        }
    }

    /// A4.23.
    #[test]
    fn key_is_unprotected_on_a_plain_connection_to_another_machine() {
        let of = |url: &str| is_unprotected(&Url::parse(url).expect("a URL"));
        assert!(of("http://box:8000/v1") && of("http://10.0.0.7/v1"));
        assert!(
            !of("https://box/v1") && !of("http://localhost/v1") && !of("http://127.0.0.3/") && !of("http://[::1]/")
        );
    }
}
