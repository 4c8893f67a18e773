//! HTTP client of the hub: a repository's files and their bytes. hf-hub provides the API's types; the requests are made
//! here, because the size of answers must be bounded, a transfer must resume, and the token must not follow a redirect
//! to another host.

use std::time::Duration;

use hf_hub::repository::RepoSibling;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_LENGTH, ETAG, HeaderMap, LOCATION, RANGE, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode, Url};

use super::name::is_safe_file;
use super::not_found;
use super::options::HubOptions;
use crate::catalogue::{Source, catalogue};
use crate::protocol::*;
use crate::wording::bytes;
use crate::wording::without_user_info;

const USER_AGENT: &str = concat!("chatnap/", env!("CARGO_PKG_VERSION"));
const MAX_REDIRECTS: usize = 8;

/// Largest answer that is read into memory, in bytes: some hundred thousand file names.
const MAX_ANSWER: usize = 32 << 20;

/// A client of one endpoint.
pub(super) struct Hub {
    pub(super) options: HubOptions,
    /// The endpoint as text, without user info: safe to print.
    pub(super) address: String,
    /// Without user info.
    endpoint: Url,
    /// The endpoint's user info: name and password, sent only to its own host.
    login: Option<(String, String)>,
    http: Client,
}

/// The files of a repository at one commit.
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: Vec<String>,
}

/// One file of a repository, as the hub describes it.
pub(super) struct Remote {
    /// The blob's name in the cache: the SHA-256 of large files, git's own hash of small ones.
    pub(super) etag: String,
    pub(super) size: u64,
    pub(super) url: Url,
}

/// Why a request failed.
pub(super) enum Trouble {
    /// Temporary: retry, after the delay in `after` if the server gave one.
    Again {
        why: String,
        after: Option<Duration>,
    },
    Final(EngineError),
}

impl Hub {
    pub(super) fn new(options: HubOptions) -> Result<Self, EngineError> {
        let (endpoint, login) = options.address()?;
        let address = endpoint.as_str().trim_end_matches('/').to_owned();
        let http = Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(options.patience.connect)
            .read_timeout(options.patience.stall)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| not_found(format!("Cannot talk to {address}: {}.", reason(&error))))?;
        Ok(Self { options, address, endpoint, login, http })
    }

    /// The newest commit of `repo` and its files.
    pub(super) async fn listing(&self, repo: &str) -> Result<Listing, EngineError> {
        #[derive(serde::Deserialize)]
        struct Info {
            sha: Option<String>,
            siblings: Option<Vec<RepoSibling>>,
        }
        let failed = |trouble| match trouble {
            Trouble::Again { why, .. } => unreachable(&self.address, &why),
            Trouble::Final(error) => error,
        };
        let url = self.url(["api", "models"].into_iter().chain(repo.split('/')));
        let response = self.send(Method::GET, url, 0, false).await.map_err(failed)?;
        if !response.status().is_success() {
            return Err(self.api_error(repo, &response));
        }
        let body = self.body(repo, response).await.map_err(failed)?;
        let info: Info = serde_json::from_slice(&body).map_err(|error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            not_found(format!("The hub's answer about {repo} cannot be parsed ({place}); is HF_ENDPOINT right?"))
        })?;
        let commit = info.sha.unwrap_or_default();
        if commit.len() != 40 || !commit.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(not_found(format!("The hub named no commit of {repo}; is HF_ENDPOINT right?")));
        }
        let siblings = info.siblings.unwrap_or_default();
        // A name that would escape the snapshot folder is ignored.
        let files = siblings.into_iter().map(|file| file.rfilename).filter(|file| is_safe_file(file)).collect();
        Ok(Listing { commit, files })
    }

    /// The body of an answer; an error if it is larger than [`MAX_ANSWER`].
    async fn body(&self, repo: &str, mut response: Response) -> Result<Vec<u8>, Trouble> {
        let mut body = Vec::new();
        loop {
            let chunk = response.chunk().await;
            let chunk = chunk.map_err(|error| Trouble::Again { why: reason(&error), after: None })?;
            let Some(chunk) = chunk else { return Ok(body) };
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(Trouble::Final(not_found(format!(
                    "The answer of {} about {repo} is larger than {}, so it was not read to its end; is HF_ENDPOINT right?",
                    self.address,
                    bytes(MAX_ANSWER as u64)
                ))));
            }
            body.extend_from_slice(&chunk);
        }
    }

    /// The endpoint's URL with these path segments appended.
    fn url<'a>(&self, parts: impl Iterator<Item = &'a str>) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        url
    }

    /// ETag and size of one file. Follows redirects within the hub, but not to the storage host.
    pub(super) async fn describe(&self, repo: &str, commit: &str, file: &str) -> Result<Remote, Trouble> {
        let url = self.url(repo.split('/').chain(["resolve", commit]).chain(file.split('/')));
        let response = self.send(Method::HEAD, url.clone(), 0, true).await?;
        let status = response.status();
        if !status.is_success() && !status.is_redirection() {
            return Err(self.status_trouble(repo, file, &response));
        }
        let headers = response.headers();
        let etag = text(headers, "x-linked-etag").or_else(|| text(headers, ETAG.as_str())).unwrap_or_default();
        let etag = etag.trim_start_matches("W/").trim_matches('"');
        if etag.is_empty() || etag.len() > 128 || !etag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(Trouble::Final(not_found(format!(
                "The hub's answer about {file} of {repo} has no usable ETag."
            ))));
        }
        let own_size = if status.is_success() { text(headers, CONTENT_LENGTH.as_str()) } else { None };
        let size = text(headers, "x-linked-size").or(own_size).and_then(|size| size.parse().ok());
        let Some(size) = size else {
            return Err(Trouble::Final(not_found(format!(
                "The hub's answer about {file} of {repo} gives no size, so nothing was fetched; is HF_ENDPOINT right?"
            ))));
        };
        Ok(Remote { etag: etag.to_owned(), size, url })
    }

    /// The file's bytes from `start` on (status 206), or the whole file if the server cannot resume (status 200).
    pub(super) async fn get(&self, repo: &str, file: &str, remote: &Remote, start: u64) -> Result<Response, Trouble> {
        let response = self.send(Method::GET, remote.url.clone(), start, false).await?;
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => Ok(response),
            _ => Err(self.status_trouble(repo, file, &response)),
        }
    }

    /// Sends a request, the token only to the endpoint's own host. `stay` does not follow redirects to other hosts.
    async fn send(&self, method: Method, mut url: Url, start: u64, stay: bool) -> Result<Response, Trouble> {
        for _ in 0..MAX_REDIRECTS {
            let mut request = self.http.request(method.clone(), url.clone()).header(ACCEPT_ENCODING, "identity");
            if url.origin() == self.endpoint.origin() {
                // A request has one `Authorization` header: a password in the endpoint takes precedence over the token.
                request = match (&self.login, &self.options.token) {
                    (Some((name, password)), _) => request.basic_auth(name, Some(password)),
                    (None, Some(token)) => request.bearer_auth(token),
                    (None, None) => request,
                };
            }
            if start > 0 {
                request = request.header(RANGE, format!("bytes={start}-"));
            }
            let response = request.send().await.map_err(|error| Trouble::Again { why: reason(&error), after: None })?;
            let next = match text(response.headers(), LOCATION.as_str()) {
                Some(location) if response.status().is_redirection() => url.join(location).ok(),
                _ => return Ok(response),
            };
            let next = next.filter(|next| next.scheme() == "https" || next.scheme() == self.endpoint.scheme());
            let Some(next) = next else {
                let why = format!("{} redirects to an address that cannot be used.", shown(&url));
                return Err(Trouble::Final(not_found(why)));
            };
            if stay && next.origin() != self.endpoint.origin() {
                return Ok(response);
            }
            url = next;
        }
        Err(Trouble::Final(not_found(format!("{} redirects in circles.", shown(&url)))))
    }

    fn status_trouble(&self, repo: &str, file: &str, response: &Response) -> Trouble {
        let status = response.status();
        let code = text(response.headers(), "x-error-code").unwrap_or_default();
        match status.as_u16() {
            401 | 403 if code != "RepoNotFound" => Trouble::Final(self.denied(repo)),
            401 | 404 => Trouble::Final(not_found(format!("{repo} has no file {file} on {}.", self.address))),
            408 | 429 | 500 | 502 | 503 | 504 => Trouble::Again {
                why: format!("the server answered {status}"),
                after: text(response.headers(), RETRY_AFTER.as_str())
                    .and_then(|s| s.parse().ok())
                    .map(Duration::from_secs),
            },
            _ => Trouble::Final(not_found(format!("The server answered {status} for {file} of {repo}."))),
        }
    }

    fn api_error(&self, repo: &str, response: &Response) -> EngineError {
        let address = &self.address;
        let code = text(response.headers(), "x-error-code").unwrap_or_default();
        match response.status().as_u16() {
            // The hub answers 401 also if a repository does not exist, to hide the names of private ones.
            401 if code != "GatedRepo" => not_found(format!(
                "There is no repository {repo} on {address}, or it is private; check the name, and for a private one set HF_TOKEN or run `hf auth login`."
            )),
            401 | 403 => self.denied(repo),
            404 => not_found(format!("There is no repository {repo} on {address}.")),
            429 => not_found(format!("{address} asks to slow down; try again in a few minutes, or set HF_TOKEN.")),
            _ => not_found(format!("{address} answered {} for {repo}; try again later.", response.status())),
        }
    }

    /// The error for a gated repository: how to get access, and which model needs none.
    fn denied(&self, repo: &str) -> EngineError {
        let open = open_entry(repo).map_or_else(String::new, |name| {
            format!(" Without an account, --model {name} has the same model quantised.")
        });
        let known = match self.options.token {
            Some(_) => "The token that was sent has no access to it",
            None => "No token was sent",
        };
        not_found(format!(
            "{repo} is gated: its owner wants you to accept a licence first. {known}: accept it at {}/{repo}, then set HF_TOKEN or run `hf auth login`.{open}",
            self.address
        ))
    }
}

/// The catalogue entry that contains the model of a gated repository.
fn open_entry(repo: &str) -> Option<String> {
    let is_it = |source: &Source| matches!(source, Source::Hub { repo: gated, gated: true, .. } if gated == repo);
    let model = catalogue().models.iter().find(|model| model.variants.iter().flat_map(|v| &v.sources).any(is_it))?;
    Some(model.name.clone())
}

/// The error for a hub that cannot be reached; `why` is the cause.
pub(super) fn unreachable(address: &str, why: &str) -> EngineError {
    not_found(format!(
        "Cannot reach {address}: {why}. Check the network (HTTPS_PROXY is honoured), or name a mirror with HF_ENDPOINT, or a local .gguf file with --model."
    ))
}

/// A URL that is safe to print: without user info, query (it may hold a signature) and fragment.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    without_user_info(url.as_str())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The innermost cause: "Connection refused" instead of reqwest's "error sending request".
pub(super) fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it does not answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    without_user_info(&cause.to_string())
}
