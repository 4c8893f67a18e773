//! A server on loopback that speaks TLS and HTTP/2, with a certificate that no system trusts.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::support_server::{delta, end, models};

/// The certificate's file.
pub fn certificate() -> PathBuf {
    fixture("cert.pem")
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
}

/// A running server with the model `m`; it ends with the process.
pub struct Secure {
    pub address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Secure {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(listener, &log));
        });
        Self { address, requests }
    }

    /// Method, path and version of each request.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(listener: TcpListener, log: &Mutex<Vec<String>>) {
    let key = PrivateKeyDer::from_pem_file(fixture("key.pem")).unwrap();
    let chain = vec![CertificateDer::from_pem_file(certificate()).unwrap()];
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        // A client that does not trust the certificate ends here.
        let Ok(stream) = acceptor.accept(stream).await else { continue };
        let Ok(mut connection) = h2::server::handshake(stream).await else { continue };
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            log.lock().unwrap().push(format!("{} {} {:?}", request.method(), request.uri().path(), request.version()));
            let body = match request.method().as_str() {
                "GET" => models().to_string(),
                _ => delta("Hel") + &delta("lo") + &end(),
            };
            let mut sink = respond.send_response(http::Response::new(()), false).unwrap();
            sink.send_data(Bytes::from(body), true).unwrap();
        }
    }
}
