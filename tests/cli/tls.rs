//! `--cacert` and `--insecure`: commands that talk to a server with its own certificate.

use std::sync::Arc;

use crate::harness::{Start, TestApp};
use crate::{failed, run};

#[test]
fn a_certificate_of_the_operator_is_trusted_only_if_it_is_named() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = Arc::new(tempfile::tempdir().unwrap());
    std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let listen = ["--listen", "localhost:0", "--listen", "https://127.0.0.1:0"];
    let config = Some("[tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n".to_owned());
    let arguments = listen.map(str::to_owned).to_vec();
    let app = TestApp::with_folder(Start { config, arguments, ..Start::default() }, folder);
    let line = app.log_line("listening").unwrap();
    let encrypted = line["addresses"].as_str().unwrap().split(' ').nth(1).unwrap();
    let url = &encrypted.replace("127.0.0.1", "localhost");

    assert!(failed(&app, 1, &["status", "--url", url]).contains("`--cacert`"));
    let text = run(&app, &["status", "--url", url, "--cacert", "cert.pem"]);
    assert!(text.contains(&format!("at {url}, up for")), "{text}");
    // The options belong to the command and to its noun alike.
    run(&app, &["view", "--cacert", "cert.pem", "list", "--url", url]);
    // The certificate does not name this address.
    assert!(
        failed(&app, 1, &["status", "--url", encrypted, "--cacert", "cert.pem"]).contains("is not accepted")
    );
    run(&app, &["status", "--url", encrypted, "--insecure"]);
    assert!(
        failed(&app, 1, &["status", "--url", url, "--cacert", "key.pem"])
            .contains("contains no PEM certificate")
    );
    assert!(
        failed(&app, 1, &["status", "--url", url, "--cacert", "none.pem"]).contains("`--cacert none.pem`")
    );
}
