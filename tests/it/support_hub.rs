//! A fake hub on the loopback interface: implements the part of the hub's API that downloads use, and injects faults on
//! request. Large files come from a second port, because the real hub redirects them to another host.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chatnap::hub::{HubOptions, Patience};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The commit that every revision resolves to.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Faults of the server for large files.
#[derive(Clone, Debug, Default)]
pub struct Manners {
    /// The number of responses that are cut off after `cut_at` bytes.
    pub cuts: usize,
    /// The length in bytes of a response that is cut off.
    pub cut_at: usize,
    /// A response that is cut off keeps the connection open and sends nothing more.
    pub stall: bool,
    /// Flips a bit, so that the content does not match its hash.
    pub corrupt: bool,
    /// Ignores the `Range` header.
    pub no_ranges: bool,
    /// The pause after each chunk of 64 KiB.
    pub pause: Duration,
}

/// One request that was received.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Whether it arrived at the port for large files.
    pub at_store: bool,
    /// Method and path, as in `GET /path`.
    pub line: String,
    /// The first byte of the requested range, 0 without a range.
    pub start: usize,
    /// The `Authorization` header.
    pub authorization: Option<String>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    manners: Manners,
    /// Status and `X-Error-Code` of every response of the hub itself.
    refusal: Option<(u16, &'static str)>,
    /// The same for file requests only.
    file_refusal: Option<(u16, &'static str)>,
    /// Status of the API responses that have an endless body.
    flood: Option<u16>,
    /// Bytes sent of these bodies.
    flooded: usize,
    /// ETags by file name that replace the computed hash.
    etags: BTreeMap<String, String>,
    seen: Vec<Seen>,
}

/// The running server; its threads end with the process.
#[derive(Clone)]
pub struct FakeHub {
    address: SocketAddr,
    store: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl FakeHub {
    /// Starts a hub that serves these files under every repository name.
    pub fn start(files: &[(&str, Vec<u8>)]) -> Self {
        let hub = TcpListener::bind("127.0.0.1:0").unwrap();
        let store = TcpListener::bind("127.0.0.1:0").unwrap();
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())).collect();
        let this = Self {
            address: hub.local_addr().unwrap(),
            store: store.local_addr().unwrap(),
            state: Arc::new(Mutex::new(State { files, ..State::default() })),
        };
        for (listener, at_store) in [(hub, false), (store, true)] {
            let this = this.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let this = this.clone();
                    // Errors are ignored: clients may disconnect early.
                    std::thread::spawn(move || drop(this.serve(stream, at_store)));
                }
            });
        }
        this
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn behave(&self, manners: Manners) {
        self.state.lock().unwrap().manners = manners;
    }

    /// Sends this status and `X-Error-Code` in every response.
    pub fn refuse(&self, status: u16, code: &'static str) {
        self.state.lock().unwrap().refusal = Some((status, code));
    }

    /// Sends this status and `X-Error-Code` in every response to a file request.
    pub fn refuse_files(&self, status: u16, code: &'static str) {
        self.state.lock().unwrap().file_refusal = Some((status, code));
    }

    /// Sends this status and an endless body in every API response.
    pub fn flood(&self, status: u16) {
        let mut state = self.state.lock().unwrap();
        (state.flood, state.flooded) = (Some(status), 0);
    }

    /// Bytes sent of endless bodies since `flood`.
    pub fn flooded(&self) -> usize {
        self.state.lock().unwrap().flooded
    }

    /// Replaces the ETag of `file`.
    pub fn name_blob(&self, file: &str, etag: &str) {
        self.state.lock().unwrap().etags.insert(file.to_owned(), etag.to_owned());
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    /// The requests received at the port for large files.
    pub fn transfers(&self) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.at_store).collect()
    }

    fn serve(&self, mut stream: TcpStream, at_store: bool) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut seen = Seen {
            at_store,
            line: line.trim().trim_end_matches(" HTTP/1.1").to_owned(),
            start: 0,
            authorization: None,
        };
        let mut has_range = false;
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
                break;
            }
            let (name, value) = header.trim().split_once(':').unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "range" => {
                    has_range = true;
                    seen.start = value.trim().trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
                }
                "authorization" => seen.authorization = Some(value.trim().to_owned()),
                _ => {}
            }
        }
        self.state.lock().unwrap().seen.push(seen.clone());
        if at_store { self.send_bytes(&mut stream, &seen, has_range) } else { self.answer(&mut stream, &seen) }
    }

    fn answer(&self, stream: &mut TcpStream, seen: &Seen) -> std::io::Result<()> {
        let (method, path) = seen.line.split_once(' ').unwrap();
        let is_api = path.starts_with("/api/models/");
        let flood = self.state.lock().unwrap().flood.filter(|_| is_api);
        if let Some(status) = flood {
            return self.send_flood(stream, status);
        }
        let state = self.state.lock().unwrap();
        if let Some((status, code)) = state.refusal.or(state.file_refusal.filter(|_| !is_api)) {
            return write!(
                stream,
                "HTTP/1.1 {status} No\r\nx-error-code: {code}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
        }
        if is_api {
            let siblings: Vec<_> = state.files.keys().map(|name| serde_json::json!({"rfilename": name})).collect();
            let body = serde_json::json!({"id": "owner/repo", "sha": COMMIT, "siblings": siblings, "gated": false})
                .to_string();
            return write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
        }
        let name = path.split_once(&format!("/resolve/{COMMIT}/")).map(|(_, name)| name).unwrap_or_default();
        let Some(bytes) = state.files.get(name) else {
            return write!(
                stream,
                "HTTP/1.1 404 Not Found\r\nx-error-code: EntryNotFound\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
        };
        let etag = state.etags.get(name).cloned();
        if name.ends_with(".json") {
            let body = if method == "HEAD" { &[][..] } else { &bytes[..] };
            write!(
                stream,
                "HTTP/1.1 200 OK\r\netag: \"{}\"\r\nx-repo-commit: {COMMIT}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                etag.unwrap_or_else(|| git_blob(bytes)),
                bytes.len()
            )?;
            return stream.write_all(body);
        }
        write!(
            stream,
            "HTTP/1.1 302 Found\r\nlocation: http://{}/{name}\r\nx-linked-etag: \"{}\"\r\nx-linked-size: {}\r\nx-repo-commit: {COMMIT}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            self.store,
            etag.unwrap_or_else(|| sha256(bytes)),
            bytes.len()
        )
    }

    fn send_flood(&self, stream: &mut TcpStream, status: u16) -> std::io::Result<()> {
        write!(stream, "HTTP/1.1 {status} Flood\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n[")?;
        let piece = "[],".repeat(1 << 16);
        // Stops at 1 GiB, so that a client without a limit fails the test instead of hanging it.
        while self.flooded() < 1 << 30 {
            stream.write_all(piece.as_bytes())?;
            self.state.lock().unwrap().flooded += piece.len();
        }
        Ok(())
    }

    fn send_bytes(&self, stream: &mut TcpStream, seen: &Seen, has_range: bool) -> std::io::Result<()> {
        let (mut bytes, manners, is_cut) = {
            let mut state = self.state.lock().unwrap();
            let name = seen.line.split_once(" /").unwrap().1;
            let is_cut = state.manners.cuts > 0;
            state.manners.cuts = state.manners.cuts.saturating_sub(1);
            (state.files[name].clone(), state.manners.clone(), is_cut)
        };
        if manners.corrupt {
            bytes[0] ^= 1;
        }
        let start = if manners.no_ranges { 0 } else { seen.start };
        let rest = &bytes[start..];
        let head = if has_range && !manners.no_ranges {
            format!("206 Partial Content\r\ncontent-range: bytes {start}-{}/{}", bytes.len() - 1, bytes.len())
        } else {
            "200 OK".to_owned()
        };
        write!(stream, "HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", rest.len())?;
        let end = if is_cut { manners.cut_at.min(rest.len()) } else { rest.len() };
        for piece in rest[..end].chunks(64 << 10) {
            stream.write_all(piece)?;
            std::thread::sleep(manners.pause);
        }
        if is_cut && manners.stall {
            // Blocks until the client disconnects.
            let _ = stream.read(&mut [0]);
        }
        Ok(())
    }
}

/// The SHA-256 in lower-case hex.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Git's blob hash (SHA-1) of this content in lower-case hex.
pub fn git_blob(bytes: &[u8]) -> String {
    let hash = Sha1::new().chain_update(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Deterministic bytes in place of a model: the hub code does not parse files.
pub fn blob(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i * 31 + i / 251) as u8).collect()
}

/// Options for this endpoint with the cache under `root` and short timeouts.
pub fn options(endpoint: &str, root: &Path) -> HubOptions {
    HubOptions {
        endpoint: endpoint.to_owned(),
        token: None,
        cache_dir: root.join("hub"),
        offline: false,
        python: "/nonexistent/python3".into(),
        patience: Patience {
            stall: Duration::from_millis(400),
            pause: Duration::from_millis(10),
            ..Patience::default()
        },
    }
}

/// A fake package index on the loopback interface that offers one file for every package.
pub struct FakeIndex {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl FakeIndex {
    /// Starts an index that offers `name` with these bytes.
    pub fn start(name: &str, bytes: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (name, log) = (name.to_owned(), asked.clone());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let line = lines.next().and_then(Result::ok).unwrap_or_default();
                let _ = lines.find(|line| line.as_ref().map_or(true, String::is_empty));
                let page = format!("<!DOCTYPE html><html><body><a href=\"/files/{name}\">{name}</a></body></html>");
                let (kind, body) = match line.contains("/files/") {
                    true => ("application/octet-stream", bytes.as_slice()),
                    false => ("text/html", page.as_bytes()),
                };
                log.lock().unwrap().push(line);
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                // Errors are ignored: clients may disconnect early.
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
            }
        });
        Self { address, asked }
    }

    /// The value for `PIP_INDEX_URL`.
    pub fn url(&self) -> String {
        format!("http://{}/simple", self.address)
    }

    /// The request lines received so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}
