//! Mails over SMTP, with encryption and login.

use crate::harness::TestApp;
use crate::harness::mail_server::{MailServer, Tls};
use crate::{config, order, wait_for_status};

fn mail(server: &MailServer, encryption: &str, more: &str) -> String {
    let port = server.port();
    let section = format!(
        r#"
        [destination.mail]
        kind = "email"
        host = "localhost"
        port = {port}
        encryption = "{encryption}"
        from = "Shop <shop@example.com>"
        subject = "Danke für {{{{ event.sum }}}}"
        text = "{{{{ message }}}}"
        html = "<b>{{{{ recipient }}}}</b>"
        retry = ["1s"]
        {more}
        "#
    );
    config("[\"mail\"]", &section)
}

#[test]
fn a_mail_is_sent_encrypted_with_a_login_and_a_stable_id() {
    for (tls, encryption) in [(Tls::StartTls, "starttls"), (Tls::Tls, "tls")] {
        let server = MailServer::start(tls, Some(("shop", "pass word")));
        let login = format!("ca_file = {:?}\nuser = \"shop\"\npassword = \"pass word\"", server.ca_file());
        let app = TestApp::configured(&mail(&server, encryption, &login));
        let id = order(&app.client(), "busyonce@x.example", "");
        let sent = wait_for_status(&app, &id, "SENT");
        assert_eq!(sent["attempts"], 2, "the first attempt was answered with 451");
        let mails = server.wait_for(1);
        assert_eq!((&mails[0]["tls"], &mails[0]["user"]), (&true.into(), &"shop".into()));
        let raw = mails[0]["raw"].as_str().unwrap();
        assert!(raw.contains(&format!("Message-ID: <{id}@example.com>")), "{raw}");
        assert!(raw.contains("multipart/alternative") && raw.contains("Thanks for 10.5"), "{raw}");
        assert_eq!(mails[0]["to"][0], "busyonce@x.example");
        assert!(!app.log_text().contains("pass word"));
    }
}

#[test]
fn a_refused_recipient_is_a_dead_letter_at_once() {
    let server = MailServer::start(Tls::None, None);
    let app = TestApp::configured(&mail(&server, "none", ""));
    let id = order(&app.client(), "refuse@x.example", "");
    let dead = wait_for_status(&app, &id, "FAILED_DLQ");
    let made = dead["deliveries"][0]["made"].as_array().unwrap();
    assert_eq!((made.len(), made[0]["status"].as_u64()), (1, Some(550)), "{dead}");
    app.client().post(
        "/v1/streams/orders/events",
        r#"{"mail":"a@x.example\r\nBcc: b@x.example","sort":"s","sum":1}"#,
    );
    app.settle();
    let letters = app.client().get("/v1/dead-letters?status=open").json();
    let reasons = letters["deadLetters"].to_string();
    assert!(reasons.contains("the recipient contains a control character"), "{reasons}");
    assert!(server.mails().is_empty());
}
