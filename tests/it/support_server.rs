//! A server on loopback that answers with the bytes that a test writes, cut where the test cuts them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// Longest wait for a peer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// `POST` or `GET`.
    pub method: String,
    /// With its query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Value,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// One connection, with its request.
pub struct Exchange {
    pub request: Request,
    /// How many requests with this method were before it.
    pub before: usize,
    stream: TcpStream,
}

impl Exchange {
    pub fn send(&mut self, text: impl AsRef<[u8]>) {
        // The client may have closed the connection.
        let _ = self.stream.write_all(text.as_ref()).and_then(|()| self.stream.flush());
    }

    /// Sends `text` in packets of `size` bytes.
    pub fn send_cut(&mut self, text: impl AsRef<[u8]>, size: usize) {
        for packet in text.as_ref().chunks(size) {
            self.send(packet);
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// An event stream without its end.
    pub fn stream(&mut self, body: impl AsRef<[u8]>) {
        self.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n");
        self.send(body);
    }

    pub fn status(&mut self, code: u16, headers: &str, body: &str) {
        let length = body.len();
        self.send(format!(
            "HTTP/1.1 {code} Status\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        ));
    }

    pub fn json(&mut self, body: &Value) {
        self.status(200, "Content-Type: application/json\r\n", &body.to_string());
    }

    /// Whether the client closes the connection.
    pub fn is_closed_by_client(&mut self) -> bool {
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        matches!(self.stream.read(&mut [0; 16]), Ok(0)) || self.stream.take_error().is_ok_and(|error| error.is_some())
    }
}

/// A running server; it ends with the process.
pub struct Scripted {
    pub address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Scripted {
    /// Answers each request with `answer`, in a thread of its own.
    pub fn start(answer: impl Fn(Exchange) + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), answer)
    }

    pub fn on(listener: TcpListener, answer: impl Fn(Exchange) + Send + Sync + 'static) -> Self {
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&requests), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                std::thread::spawn(move || {
                    if let Some(exchange) = read(stream, &log) {
                        answer(exchange);
                    }
                });
            }
        });
        Self { address, requests }
    }

    /// A server with the model `m`, whose prompts `answer` answers.
    pub fn chat(answer: impl Fn(Exchange) + Send + Sync + 'static) -> Self {
        Self::start(move |mut exchange| match exchange.request.method.as_str() {
            "GET" => exchange.json(&models()),
            _ => answer(exchange),
        })
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The requests that carry a prompt.
    pub fn prompts(&self) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.method == "POST").collect()
    }
}

/// A list of the one model `m`.
pub fn models() -> Value {
    json!({"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "vllm", "max_model_len": 4096}]})
}

/// A frame with a piece of the answer.
pub fn delta(text: &str) -> String {
    format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": text}}]}))
}

/// The frames that end an answer, with counts.
pub fn end() -> String {
    let stop = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}});
    format!("data: {stop}\n\ndata: {usage}\n\ndata: [DONE]\n\n")
}

/// Reads a request and logs it; `None` if the client went away.
fn read(mut stream: TcpStream, log: &Mutex<Vec<Request>>) -> Option<Exchange> {
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    let mut packet = [0; 4096];
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        match stream.read(&mut packet) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&packet[..count]),
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let mut lines = text.lines();
    let mut first = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let (method, path) = (first.next()?, first.next()?);
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length =
        headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
    while bytes.len() < head + 4 + length {
        match stream.read(&mut packet) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&packet[..count]),
        }
    }
    let body = serde_json::from_slice(&bytes[head + 4..]).unwrap_or(Value::Null);
    let request = Request { method, path, headers, body };
    let mut log = log.lock().unwrap();
    let before = log.iter().filter(|earlier| earlier.method == request.method).count();
    log.push(request.clone());
    Some(Exchange { request, before, stream })
}
