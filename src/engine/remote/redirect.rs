//! What a redirect leads to: which method and address, and whether the prompt and the key go along.

use reqwest::Url;

/// Most results that a server may put off with 303: Modal does so every 150 s, and a browser follows 20.
const MAX_PUT_OFF: usize = 60;

/// Most redirects of other kinds.
const MAX_MOVED: usize = 10;

/// One request of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Its address.
    pub url: Url,
    /// Whether it carries the body, as `POST`; else it is a `GET`.
    pub with_body: bool,
    /// Whether it carries the key and the user's headers.
    pub with_key: bool,
    put_off: usize,
    moved: usize,
}

impl Hop {
    /// The first request.
    pub fn first(url: Url, with_body: bool) -> Self {
        Self { url, with_body, with_key: true, put_off: 0, moved: 0 }
    }

    /// The request after an answer with `status` and `location`; `None` if that is no redirect. The error is a part of a
    /// sentence.
    pub fn after(&self, status: u16, location: Option<&str>) -> Option<Result<Self, String>> {
        let keeps_body = match status {
            303 => false,
            301 | 302 | 307 | 308 => self.with_body,
            _ => return None,
        };
        let Some(location) = location else { return Some(Err("it redirects without an address".into())) };
        Some(self.to(status, location, keeps_body))
    }

    fn to(&self, status: u16, location: &str, with_body: bool) -> Result<Self, String> {
        let url = self.url.join(location).map_err(|_| "it redirects to an address that cannot be read".to_owned())?;
        let mut next = Self { url, with_body, ..self.clone() };
        let host = next.url.host_str().unwrap_or_default().to_owned();
        match (self.url.scheme(), next.url.scheme()) {
            ("http", "http" | "https") | ("https", "https") => {}
            _ => return Err(format!("it redirects to {host} without encryption")),
        }
        let same = same_host(&self.url, &next.url);
        if !same && with_body {
            return Err(format!("it redirects to {host}; if that is right, set this address as the server's"));
        }
        next.with_key = self.with_key && same;
        if status == 303 {
            next.put_off += 1;
        } else {
            next.moved += 1;
        }
        if next.put_off > MAX_PUT_OFF || next.moved > MAX_MOVED {
            return Err("it redirects in a circle".into());
        }
        Ok(next)
    }
}

/// Whether both are one server: the same host and port, or the encrypted port of the same host.
fn same_host(from: &Url, to: &Url) -> bool {
    let upgraded = from.scheme() == "http" && to.scheme() == "https" && to.port().is_none();
    from.host_str() == to.host_str() && (from.port_or_known_default() == to.port_or_known_default() || upgraded)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]

    use super::*;

    fn post(url: &str) -> Hop {
        Hop::first(Url::parse(url).expect("a URL"), true)
    }

    /// A4.3.
    #[test]
    fn chain_of_303_is_followed_by_gets_with_the_key_and_without_the_prompt() {
        let mut hop = post("https://h/v1/chat/completions");
        for n in 0..MAX_PUT_OFF {
            hop = hop.after(303, Some(&format!("?token={n}"))).expect("a redirect").expect("an address");
            assert!(!hop.with_body && hop.with_key);
        }
        assert_eq!(hop.url.as_str(), "https://h/v1/chat/completions?token=59");
        assert_eq!(hop.after(303, Some("?token=60")), Some(Err("it redirects in a circle".into())));
    }

    /// A4.3.
    #[test]
    fn key_does_not_follow_to_another_host_and_does_not_come_back() {
        let there = post("https://h/v1").after(303, Some("https://other/x")).expect("a redirect").expect("an address");
        assert!(!there.with_key && !there.with_body);
        let back = there.after(303, Some("https://h/y")).expect("a redirect").expect("an address");
        assert!(!back.with_key);
        let port = post("http://h:1/v1").after(303, Some("http://h:2/x")).expect("a redirect").expect("an address");
        assert!(!port.with_key);
    }

    /// A4.4.
    #[test]
    fn moved_requests_keep_method_and_prompt_on_the_same_host_only() {
        for status in [301, 302, 307, 308] {
            let moved = post("http://h:80/v1/x").after(status, Some("https://h/v1/x")).expect("a redirect");
            let moved = moved.expect("an address");
            assert!(moved.with_body && moved.with_key, "{status}");
            let away = post("http://h/v1").after(status, Some("http://other/v1")).expect("a redirect");
            assert!(away.expect_err("another host").contains("other"), "{status}");
        }
        let plain = post("https://h/v1").after(308, Some("http://h/v1")).expect("a redirect");
        assert_eq!(plain, Err("it redirects to h without encryption".into()));
        assert_eq!(post("http://h").after(308, None), Some(Err("it redirects without an address".into())));
        assert_eq!(post("http://h").after(200, Some("/x")), None);
        assert_eq!(post("http://h").after(304, None), None);
    }

    /// A4.4.
    #[test]
    fn circle_is_an_error() {
        let mut hop = post("http://h/a");
        let failed = (0..30).find_map(|_| match hop.after(307, Some("/a"))? {
            Ok(next) => {
                hop = next;
                None
            }
            Err(error) => Some(error),
        });
        assert_eq!(failed.as_deref(), Some("it redirects in a circle"));
    }
}
