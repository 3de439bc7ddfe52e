//! TLS: the same responses as without it, certificates that are renewed without a restart, and starts that
//! are refused because the certificate cannot be used.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use crate::harness::{Start, TestApp, free_port, wait_for};

const EVENTS: &str = "/v1/streams/revenue/events";
const GOOD: &str = r#"{"userId":"u","name":"add_revenue","value":1}"#;
const TLS: &str = "[tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n";

struct Made {
    pem: String,
    key: String,
    der: CertificateDer<'static>,
}

fn made() -> Made {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    Made { pem: made.cert.pem(), key: made.signing_key.serialize_pem(), der: made.cert.der().clone() }
}

fn put(folder: &tempfile::TempDir, made: &Made) {
    std::fs::write(folder.path().join("cert.pem"), &made.pem).unwrap();
    std::fs::write(folder.path().join("key.pem"), &made.key).unwrap();
}

fn start(listen: &[&str]) -> Start {
    let arguments = listen.iter().flat_map(|at| ["--listen".to_owned(), (*at).to_owned()]).collect();
    Start { config: Some(TLS.to_owned()), arguments, ..Start::default() }
}

/// Starts a server that listens with and without TLS.
fn app(made: &Made) -> TestApp {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    put(&folder, made);
    TestApp::with_folder(start(&["localhost:0", "https://127.0.0.1:0"]), folder)
}

fn encrypted_address(app: &TestApp) -> String {
    let line = app.log_line("listening").unwrap();
    let urls: Vec<&str> = line["addresses"].as_str().unwrap().split(' ').collect();
    assert!(urls[0].starts_with("http://localhost:"), "{urls:?}");
    urls[1].strip_prefix("https://").unwrap().to_owned()
}

fn connect(
    address: &str,
    trusted: &[&Made],
    version: &'static SupportedProtocolVersion,
) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    trusted.iter().for_each(|made| roots.add(made.der.clone()).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut stream = StreamOwned::new(connection, socket.try_clone()?);
    stream.conn.complete_io(&mut socket)?;
    Ok(stream)
}

/// Sends one request, and returns the whole response.
fn ask(stream: &mut StreamOwned<ClientConnection, TcpStream>, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "ended after {text}");
        text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if body.len() == length.parse::<usize>().unwrap() {
            return text;
        }
    }
}

/// Returns the index of the certificate that a new connection gets.
fn shown(address: &str, both: &[&Made; 2]) -> usize {
    let stream = connect(address, both, &TLS13).unwrap();
    let shown = &stream.conn.peer_certificates().unwrap()[0];
    both.iter().position(|made| made.der == *shown).unwrap()
}

#[test]
fn tls_requests_get_the_same_responses() {
    let made = made();
    let app = app(&made);
    let address = encrypted_address(&app);
    let large = GOOD.replacen('{', &format!("{{\"pad\":\"{}\",", "x".repeat(900_000)), 1);
    for version in [&TLS12, &TLS13] {
        let mut stream = connect(&address, &[&made], version).unwrap();
        assert_eq!(stream.conn.alpn_protocol(), Some(b"http/1.1".as_slice()));
        for body in [GOOD, &large] {
            let head = app.client().head("POST", "/liveEvent", "application/json", body.len());
            assert!(ask(&mut stream, &(head + body)).starts_with("HTTP/1.1 200"));
        }
        let tail = app.client().head("GET", &format!("{EVENTS}?from=0"), "text/plain", 0);
        let answer = ask(&mut stream, &tail);
        assert!(answer.starts_with("HTTP/1.1 200") && answer.len() > 900_000);
        let anonymous = app.anonymous().head("POST", EVENTS, "application/json", 0);
        assert!(ask(&mut stream, &anonymous).starts_with("HTTP/1.1 401"));
    }
    assert!(connect(&address, &[&self::made()], &TLS13).is_err(), "an untrusted certificate was accepted");
    assert_eq!(app.balance("u").as_deref(), Some("4"));
}

#[test]
fn a_refusal_reaches_a_client_that_is_still_sending() {
    let made = made();
    let app = app(&made);
    let address = encrypted_address(&app);
    let large = vec![b' '; 10 * 1024 * 1024];
    for version in [&TLS12, &TLS13] {
        let mut stream = connect(&address, &[&made], version).unwrap();
        let head = app.client().head("POST", "/liveEvent", "application/json", large.len());
        stream.write_all(head.as_bytes()).unwrap();
        large.chunks(64 * 1024).for_each(|piece| stream.write_all(piece).expect("not reset"));
        assert!(ask(&mut stream, "").starts_with("HTTP/1.1 413"));
    }
}

#[test]
fn silent_and_plain_text_clients_do_not_delay_others() {
    let made = made();
    let app = app(&made);
    let address = encrypted_address(&app);
    let silent: Vec<_> = (0..50).map(|_| TcpStream::connect(&address).unwrap()).collect();
    let mut plain = TcpStream::connect(&address).unwrap();
    plain.write_all(app.client().head("GET", "/health", "text/plain", 0).as_bytes()).unwrap();
    let mut response = Vec::new();
    drop(plain.read_to_end(&mut response));
    assert!(!response.starts_with(b"HTTP"), "a response without TLS");
    let mut stream = connect(&address, &[&made], &TLS13).unwrap();
    let health = app.client().head("GET", "/health", "text/plain", 0);
    assert!(ask(&mut stream, &health).starts_with("HTTP/1.1 200"));
    // The silent clients do not delay the stop.
    drop(app);
    drop(silent);
}

#[test]
fn a_renewed_certificate_is_used_without_a_restart_and_an_invalid_one_is_not() {
    let (old, new) = (made(), made());
    let app = app(&old);
    let address = encrypted_address(&app);
    let mut first = connect(&address, &[&old], &TLS13).unwrap();
    assert_eq!(shown(&address, &[&old, &new]), 0);
    // The certificate is new, but its key is still the old one.
    std::fs::write(app.folder.path().join("cert.pem"), &new.pem).unwrap();
    let broken = "the new certificate cannot be used; the old one stays in use";
    wait_for("the log line about the invalid certificate", || app.log_line(broken).is_some());
    assert!(app.log_line(broken).unwrap()["error"].as_str().unwrap().contains("is not the key of"));
    assert_eq!(shown(&address, &[&old, &new]), 0);
    for _ in 0..3 {
        app.signal("-HUP");
        assert_eq!(app.anonymous().get("/health").status, 200);
    }
    assert_eq!(app.log_text().matches(broken).count(), 1);
    // Now the key matches.
    std::fs::write(app.folder.path().join("key.pem"), &new.key).unwrap();
    app.signal("-HUP");
    wait_for("the new certificate", || shown(&address, &[&old, &new]) == 1);
    std::fs::remove_file(app.folder.path().join("cert.pem")).unwrap();
    app.signal("-HUP");
    wait_for("the log line about the missing certificate", || app.log_text().matches(broken).count() == 2);
    assert_eq!(shown(&address, &[&old, &new]), 1);
    // The server also notices new files without a signal.
    put(&app.folder, &old);
    wait_for("the old certificate again", || shown(&address, &[&old, &new]) == 0);
    let health = app.client().head("GET", "/health", "text/plain", 0);
    assert!(ask(&mut first, &health).starts_with("HTTP/1.1 200"), "older connections continue");
}

#[test]
fn a_start_with_an_unusable_certificate_is_refused() {
    let (one, other) = (made(), made());
    let at = ["https://localhost:0"];
    let refusal = |prepare: &dyn Fn(&std::path::Path)| {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        put(&folder, &one);
        prepare(folder.path());
        let Err(log) = TestApp::try_with(start(&at), folder) else { panic!("the server started") };
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("[tls]")).collect();
        assert_eq!(lines.len(), 1, "one line: {log}");
        lines[0].to_owned()
    };
    let write = |path: &std::path::Path, text: &str| std::fs::write(path, text).unwrap();
    let message = refusal(&|folder| std::fs::remove_file(folder.join("cert.pem")).unwrap());
    assert!(message.contains("`cert.pem` cannot be read: No such file"), "{message}");
    let message = refusal(&|folder| {
        std::fs::remove_file(folder.join("key.pem")).unwrap();
        std::fs::create_dir(folder.join("key.pem")).unwrap();
    });
    assert!(message.contains("`key.pem` cannot be read: Is a directory"), "{message}");
    let message = refusal(&|folder| write(&folder.join("key.pem"), &other.key));
    assert!(message.contains("`key.pem` is not the key of `cert.pem`"), "{message}");
    let message = refusal(&|folder| write(&folder.join("key.pem"), &one.pem));
    assert!(message.contains("`key.pem` contains no private key"), "{message}");
    let message = refusal(&|folder| write(&folder.join("cert.pem"), "certificate"));
    assert!(message.contains("`cert.pem` contains no certificate; expected a section that"), "{message}");
    let (half, no_base64) = (one.pem.len() / 2, one.pem.replacen("\nMII", "\n!!!", 1));
    let short = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (certificate, reason) in [
        (&one.pem[..half], "is cut off: a section has no line `-----END CERTIFICATE-----`"),
        (&one.pem.replace("CERTIFICATE-----\n", "CERTIFICATE---\n"), "`-----BEGIN` that is incomplete"),
        (&no_base64, "has a section that is not Base64; copy the certificate again"),
        (short, "contains a certificate that cannot be read; expected an X.509 certificate"),
    ] {
        let message = refusal(&|folder| write(&folder.join("cert.pem"), certificate));
        assert!(message.contains(reason), "{message}");
    }
    let short = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let message = refusal(&|folder| write(&folder.join("key.pem"), short));
    assert!(message.contains("`key.pem` contains a private key that cannot be read"), "{message}");
    let Err(message) =
        TestApp::try_with(Start { config: None, ..start(&at) }, Arc::new(tempfile::tempdir().unwrap()))
    else {
        panic!("the server started")
    };
    assert!(message.contains("`https://localhost:0` needs a certificate"), "{message}");
}

#[test]
fn beyond_loopback_each_address_needs_tls_or_a_proxy() {
    let made = made();
    let folder = Arc::new(tempfile::tempdir().unwrap());
    put(&folder, &made);
    let plain = format!("0.0.0.0:{}", free_port());
    let encrypted = format!("https://0.0.0.0:{}", free_port());
    let Err(message) = TestApp::try_with(start(&[&encrypted, &plain]), Arc::clone(&folder)) else {
        panic!("the server started")
    };
    assert!(
        message.contains(&plain) && message.contains("--behind-proxy") && message.contains("[tls]"),
        "{message}"
    );
    let app = TestApp::with_folder(start(&["localhost:0", &encrypted]), folder);
    let address = encrypted_address(&app).replace("0.0.0.0", "127.0.0.1");
    let mut stream = connect(&address, &[&made], &TLS12).unwrap();
    let health = app.client().head("GET", "/health", "text/plain", 0);
    assert!(ask(&mut stream, &health).starts_with("HTTP/1.1 200"));
}
