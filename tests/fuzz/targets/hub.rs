//! Hub responses (repository listing, file headers, file bytes), sent unchanged by a server on the loopback interface.
//!
//! Input: a byte that selects the requested model; then, separated, the JSON of the listing, status and header lines of
//! the HEAD response, and the bytes of the file.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use chatnap::engine::source::{CancelFlag, ModelFiles, ModelSource};
use chatnap::hub::{HubOptions, HubSource, ModelName, Patience, Stored};
use chatnap::protocol::{DevicePreference, IdleWindow, OverflowPolicy, SamplingChoice};
use chatnap::settings::Settings;
use serde_json::json;

use super::{SEPARATOR, Target, folder, parts, take};

pub const TARGET: Target = Target {
    name: "hub",
    cases: 40,
    time: Duration::from_secs(2),
    memory: 64 << 20,
    words: &[
        "sha",
        "siblings",
        "rfilename",
        "gated",
        "private",
        "0123456789abcdef0123456789abcdef01234567",
        "a-Q4_K_M.gguf",
        "b-Q8_0-00001-of-00002.gguf",
        "b-Q8_0-00001-of-99999.gguf",
        "../../../../tmp/a.gguf",
        "/etc/a.gguf",
        "a/../../b.gguf",
        "..",
        "blobs/x.gguf",
        "config.json",
        "model.safetensors",
        "model.safetensors.index.json",
        "200 OK",
        "206 Partial Content",
        "302 Found",
        "307 Temporary Redirect",
        "401 Unauthorized",
        "404 Not Found",
        "416 Range Not Satisfiable",
        "429 Too Many Requests",
        "503 Service Unavailable",
        "etag: \"",
        "x-linked-etag: \"",
        "x-linked-size: 18446744073709551615",
        "content-length: 18446744073709551615",
        "content-length: -1",
        "location: /owner/repo/resolve/main/x",
        "location: //[",
        "location: file:///etc/passwd",
        "retry-after: 99999999999",
        "x-error-code: RepoNotFound",
        "x-error-code: GatedRepo",
        "transfer-encoding: chunked",
        "\r\n",
        "../x",
        "W/\"",
    ],
    seeds,
    run,
};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn seeds() -> Vec<Vec<u8>> {
    let seed = |files: &[&str], head: &str, body: &[u8]| {
        let siblings: Vec<_> = files.iter().map(|name| json!({"rfilename": name})).collect();
        let listing = json!({"id": "owner/repo", "sha": COMMIT, "siblings": siblings, "gated": false}).to_string();
        [b"\0", listing.as_bytes(), &[SEPARATOR], head.as_bytes(), &[SEPARATOR], body].concat()
    };
    // The SHA-256 of `abc`.
    let large = "302 Found\r\nlocation: http://elsewhere.invalid/x\r\ncontent-length: 0\r\nx-linked-size: 3\r\n\
                 x-linked-etag: \"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"";
    // Git's blob hashes of `abc`, and of `{}` with a newline.
    let small = "200 OK\r\netag: \"f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f\"\r\ncontent-length: 3";
    let empty = "200 OK\r\netag: \"0967ef424bce6791893e9a57bb952f80fd536e93\"\r\ncontent-length: 3";
    vec![
        seed(&["README.md", "a-Q4_K_M.gguf", "a-Q8_0.gguf"], large, b"abc"),
        seed(&["q/b-Q8_0-00001-of-00002.gguf", "q/b-Q8_0-00002-of-00002.gguf"], small, b"abc"),
        seed(&["config.json", "tokenizer.json", "model.safetensors"], empty, b"{}\n"),
        seed(&["a.gguf"], "307 Temporary Redirect\r\nlocation: /x/y\r\ncontent-length: 0", b"abc"),
        seed(&["a.gguf"], "429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0", b""),
        seed(&["a.gguf"], "401 Unauthorized\r\nx-error-code: GatedRepo\r\ncontent-length: 0", b""),
    ]
}

/// The responses: listing, HEAD, file bytes.
static ANSWERS: Mutex<[Vec<u8>; 3]> = Mutex::new([const { Vec::new() }; 3]);

/// Starts the server once and returns its address. It serves one connection at a time until the process ends.
fn server() -> SocketAddr {
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    *ADDRESS.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Errors are ignored: clients may disconnect early.
        std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| drop(answer(stream))));
        address
    })
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let [listing, head, body] = ANSWERS.lock().unwrap().clone();
    if request.starts_with("HEAD") {
        return stream.write_all(&[b"HTTP/1.1 ", &head[..], b"\r\nconnection: close\r\n\r\n"].concat());
    }
    let content = if request.contains("/api/models/") { listing } else { body };
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        content.len()
    )?;
    stream.write_all(&content)
}

fn run(input: &[u8]) -> bool {
    let ([which], files) = take(input);
    let files: [&[u8]; 3] = parts(files);
    *ANSWERS.lock().unwrap() = files.map(<[u8]>::to_vec);
    let folder = folder(&[]);
    let root = folder.path();
    let options = HubOptions {
        endpoint: format!("http://{}", server()),
        token: Some("secret".into()),
        cache_dir: root.join("hub"),
        offline: false,
        python: "/nonexistent/python3".into(),
        patience: Patience {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(5),
            stall: Duration::from_millis(300),
            attempts: 1,
            pause: Duration::ZERO,
        },
    };
    let models = ["owner/repo", "owner/repo:Q8_0", "owner/repo:a.gguf"];
    let settings = settings(models[usize::from(which) % models.len()], root);
    let located = HubSource::with_options(&settings, options.clone())
        .and_then(|mut source| source.locate(&mut |_| (), &CancelFlag::default()));
    match &located {
        Ok(ModelFiles::Gguf(paths)) => paths.iter().for_each(|path| assert!(path.is_file(), "{path:?}")),
        Ok(ModelFiles::Safetensors(path)) => assert!(path.join("config.json").is_file()),
        Ok(other) => panic!("{other:?}"),
        Err(error) => assert!(!error.message.contains("secret")),
    }
    let outside: Vec<_> = std::fs::read_dir(root).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(outside.iter().all(|path| *path == root.join("hub")), "{outside:?}");
    check_links(&root.canonicalize().unwrap(), root);
    let stored = Stored::with_options(&settings, options);
    for (name, model) in stored.repos() {
        assert!(model.path.starts_with(root.join("hub")), "{model:?}");
        let _ = ModelName::parse(&name).and_then(|name| stored.remove(&name));
    }
    located.is_ok()
}

/// Asserts that no symlink points out of the cache.
fn check_links(root: &Path, folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_symlink() {
            let target = path.canonicalize().unwrap();
            assert!(target.starts_with(root), "{} leads to {}", path.display(), target.display());
        } else if path.is_dir() {
            check_links(root, &path);
        }
    }
}

fn settings(model: &str, root: &Path) -> Settings {
    Settings {
        model: model.to_owned(),
        system: None,
        chat_template: None,
        sampling: SamplingChoice::default(),
        think: None,
        max_tokens: None,
        context_length: None,
        idle_window: IdleWindow::Never,
        device: DevicePreference::Cpu,
        gpu_memory_utilization: 0.9,
        threads: None,
        offline: false,
        servers: chatnap::settings::Servers::default(),
        cache: false,
        on_overflow: OverflowPolicy::Error,
        theme: "dark".to_owned(),
        keymap: chatnap::settings::Keymap::Emacs,
        reasoning_open: false,
        comfort: chatnap::settings::Comfort::default(),
        data_dir: root.join("data"),
        cache_dir: root.join("cache"),
        config_dir: root.join("config"),
    }
}
