//! HTTP with one server: one connection for each request, so that a stale connection never swallows a prompt, and so that
//! dropping the answer closes the connection, which stops the server's work.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use brotli_decompressor::DecompressorWriter;
use flate2::write::{DeflateDecoder, GzDecoder};
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue,
    LOCATION, RETRY_AFTER,
};
use reqwest::{Certificate, Response, Url};
use serde_json::Value;

use super::address::{self, Address};
use super::patience::{Trouble, retry_after};
use super::problem;
use super::redirect::Hop;

/// A server that is awake accepts a connection in this time.
const CONNECT: Duration = Duration::from_secs(10);

/// Stands for the conversation's id in the value of a header.
const CONVERSATION: &str = "{conversation}";

/// Hosts that send the prompts with the same `Modal-Session-ID` to the same machine, which has their KV cache.
const MODAL_SERVERS: &str = ".modal.direct";

/// Bytes of the buffer of a compressed answer.
const BROTLI_BUFFER: usize = 4096;

/// Most bytes of an error's body that are read, and the time for it.
const MAX_ERROR: usize = 64 << 10;
const ERROR_TIME: Duration = Duration::from_secs(5);

/// Most bytes of an answer that is read whole: a list of some thousand models.
const MAX_WHOLE: usize = 32 << 20;

/// A client of one server.
pub(super) struct Client {
    http: reqwest::Client,
    /// Where the calls are.
    pub(super) address: Address,
    /// The key and the user's headers.
    secrets: HeaderMap,
    /// Headers with [`CONVERSATION`] in place of the conversation's id.
    of_conversation: Vec<(HeaderName, String)>,
}

/// The body of an answer, as it arrives.
pub(super) struct Body {
    response: Response,
    decoder: Decoder,
}

enum Decoder {
    Plain,
    Gzip(GzDecoder<Vec<u8>>),
    Deflate(DeflateDecoder<Vec<u8>>),
    Brotli(Box<DecompressorWriter<Vec<u8>>>),
}

impl Client {
    /// `headers` are sent to this address only; the key is one of them. `certificate`: a PEM file with certificates that are
    /// trusted besides the system's.
    pub(super) fn new(
        url: &str,
        key: Option<&str>,
        headers: &[(String, String)],
        certificate: Option<&Path>,
    ) -> Result<Self, String> {
        let address = Address::parse(url)?;
        let (mut secrets, mut of_conversation) = (HeaderMap::new(), Vec::new());
        if let Some(key) = key {
            secrets.insert(
                AUTHORIZATION,
                secret(&format!("Bearer {key}")).ok_or("the key has characters that no key has")?,
            );
        }
        for (name, value) in headers {
            let header =
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no name of a header"))?;
            if value.contains(CONVERSATION) {
                of_conversation.push((header, value.clone()));
                continue;
            }
            secrets.insert(
                header,
                secret(value).ok_or_else(|| format!("the header {name} has a value that none can have"))?,
            );
        }
        let parsed = Url::parse(&address.api("models")).map_err(|error| error.to_string())?;
        if parsed.host_str().is_some_and(|host| host.ends_with(MODAL_SERVERS)) && of_conversation.is_empty() {
            of_conversation.push((HeaderName::from_static("modal-session-id"), CONVERSATION.to_owned()));
        }
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("chatnap/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none());
        if address::is_loopback(parsed.host_str().unwrap_or_default()) {
            builder = builder.no_proxy();
        }
        if let Some(file) = certificate {
            builder = builder.tls_certs_merge(certificates(file)?);
        }
        let http = builder.build().map_err(|error| innermost(&error))?;
        Ok(Self { http, address, secrets, of_conversation })
    }

    /// Whether a key or a header would cross a network unencrypted.
    pub(super) fn is_unprotected(&self) -> bool {
        let url = Url::parse(&self.address.api("models"));
        !self.secrets.is_empty() && url.is_ok_and(|url| address::is_unprotected(&url))
    }

    /// Sends a `GET`, or a `POST` of `body`, and follows redirects; `within`: the time until the headers of the answer.
    pub(super) async fn send(
        &self,
        url: &str,
        body: Option<&Value>,
        within: Option<Duration>,
    ) -> Result<Body, Trouble> {
        self.send_of(None, url, body, within).await
    }

    /// [`Self::send`] with the headers of `conversation`, an id.
    pub(super) async fn send_of(
        &self,
        conversation: Option<&str>,
        url: &str,
        body: Option<&Value>,
        within: Option<Duration>,
    ) -> Result<Body, Trouble> {
        let named = self.of_conversation.iter().zip(std::iter::repeat(conversation));
        let headers: HeaderMap = named
            .filter_map(|((name, value), id)| Some((name.clone(), secret(&value.replace(CONVERSATION, id?))?)))
            .chain(self.secrets.iter().map(|(name, value)| (name.clone(), value.clone())))
            .collect();
        let sent = self.follow(url, body, &headers);
        let response = match within {
            Some(within) => tokio::time::timeout(within, sent).await.unwrap_or(Err(Trouble::Silent)),
            None => sent.await,
        }?;
        let decoder = Decoder::of(&response).map_err(Trouble::Hopeless)?;
        Ok(Body { response, decoder })
    }

    /// The whole JSON answer of a `GET`, or a `POST` of `body`.
    pub(super) async fn json(&self, url: &str, body: Option<&Value>, within: Duration) -> Result<Value, Trouble> {
        let read = async {
            let mut answer = self.send(url, body, None).await?;
            let mut bytes = Vec::new();
            while let Some(packet) = answer.next().await.map_err(Trouble::Lost)? {
                if bytes.len() + packet.len() > MAX_WHOLE {
                    return Err(Trouble::Hopeless("its answer is too long to read".into()));
                }
                bytes.extend_from_slice(&packet);
            }
            serde_json::from_slice(&bytes).map_err(|_| Trouble::NotJson)
        };
        tokio::time::timeout(within, read).await.unwrap_or(Err(Trouble::Silent))
    }

    async fn follow(&self, url: &str, body: Option<&Value>, headers: &HeaderMap) -> Result<Response, Trouble> {
        let url = Url::parse(url).map_err(|error| Trouble::Hopeless(error.to_string()))?;
        let mut hop = Hop::first(url, body.is_some());
        loop {
            let response = self.once(&hop, body, headers).await?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            match hop.after(status.as_u16(), location) {
                Some(next) => hop = next.map_err(Trouble::Hopeless)?,
                None => return Err(refusal(response).await),
            }
        }
    }

    async fn once(&self, hop: &Hop, body: Option<&Value>, headers: &HeaderMap) -> Result<Response, Trouble> {
        let mut request = match body.filter(|_| hop.with_body) {
            Some(body) => {
                self.http.post(hop.url.clone()).header(CONTENT_TYPE, "application/json").body(body.to_string())
            }
            None => self.http.get(hop.url.clone()),
        };
        request = request.header(ACCEPT, "application/json, text/event-stream").header(ACCEPT_ENCODING, "identity");
        if hop.with_key {
            request = request.headers(headers.clone());
        }
        request.send().await.map_err(|error| trouble(&error))
    }
}

impl Body {
    /// The next bytes; `None` at the end as HTTP defines it. The error says why the connection ended.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, String> {
        match self.response.chunk().await {
            Ok(Some(packet)) => self.decoder.decode(&packet).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(innermost(&error)),
        }
    }
}

impl Decoder {
    /// The decoder for an answer that is compressed although nobody asked for it.
    fn of(response: &Response) -> Result<Self, String> {
        let encoding = response.headers().get(CONTENT_ENCODING).and_then(|value| value.to_str().ok());
        match encoding.unwrap_or("identity").trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::Plain),
            "gzip" | "x-gzip" => Ok(Self::Gzip(GzDecoder::new(Vec::new()))),
            "br" => Ok(Self::Brotli(Box::new(DecompressorWriter::new(Vec::new(), BROTLI_BUFFER)))),
            "deflate" => Ok(Self::Deflate(DeflateDecoder::new(Vec::new()))),
            other => Err(format!("its answer is compressed in a way that was not asked for ({other})")),
        }
    }

    fn decode(&mut self, packet: &[u8]) -> Result<Vec<u8>, String> {
        let broken = |error: std::io::Error| format!("its compressed answer is damaged: {error}");
        match self {
            Self::Plain => Ok(packet.to_vec()),
            Self::Gzip(decoder) => {
                decoder.write_all(packet).and_then(|()| decoder.flush()).map_err(broken)?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Brotli(decoder) => {
                decoder.write_all(packet).and_then(|()| decoder.flush()).map_err(broken)?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Deflate(decoder) => {
                decoder.write_all(packet).and_then(|()| decoder.flush()).map_err(broken)?;
                Ok(std::mem::take(decoder.get_mut()))
            }
        }
    }
}

fn certificates(file: &Path) -> Result<Vec<Certificate>, String> {
    let unusable = |why: String| format!("the file of its certificate, {}, cannot be used: {why}", file.display());
    let text = std::fs::read(file).map_err(|error| unusable(error.to_string()))?;
    let all = Certificate::from_pem_bundle(&text).map_err(|error| unusable(innermost(&error)))?;
    if all.is_empty() { Err(unusable("it has no PEM certificate".into())) } else { Ok(all) }
}

fn secret(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The trouble that an answer without success is.
async fn refusal(mut response: Response) -> Trouble {
    let header = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let after = header(RETRY_AFTER).and_then(|value| retry_after(value, header(DATE)));
    let code = response.status().as_u16();
    let mut body = Vec::new();
    let read = async {
        while let Ok(Some(packet)) = response.chunk().await {
            body.extend_from_slice(&packet);
            if body.len() >= MAX_ERROR {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(ERROR_TIME, read).await;
    Trouble::Status { code, after, text: problem::of_body(&String::from_utf8_lossy(&body)) }
}

fn trouble(error: &reqwest::Error) -> Trouble {
    let why = innermost(error);
    let all = chain(error).to_ascii_lowercase();
    if all.contains("certificate") {
        let how = if all.contains("causedasendentity") {
            "it is one for signing others (CA:TRUE), which a server cannot use"
        } else {
            "if it is the server's own, name its PEM file as certificate in [server.NAME] of the config, or in the \
             environment variable SSL_CERT_FILE"
        };
        return Trouble::Hopeless(format!("its certificate is not trusted ({why}); {how}"));
    }
    if all.contains("corrupt message") || all.contains("invalidcontenttype") {
        return Trouble::Hopeless("it does not speak TLS; does its address begin with http://?".into());
    }
    if all.contains("dns error") || all.contains("failed to lookup") {
        return Trouble::Hopeless(format!("its host is not known ({why})"));
    }
    if error.is_connect() || error.is_timeout() {
        return Trouble::Refused(if error.is_timeout() { "no connection in 10 s".into() } else { why });
    }
    Trouble::Lost(why)
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// The innermost cause: "connection refused" instead of reqwest's "error sending request".
fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_owned(),
        None => text,
    }
}
