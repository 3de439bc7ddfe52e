//! Signatures of webhooks, in the form of Standard Webhooks.

use std::fmt;
use std::ops::RangeInclusive;

use base64::prelude::{BASE64_STANDARD, Engine};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const PREFIX: &str = "whsec_";
const SECRET_BYTES: RangeInclusive<usize> = 24..=64;

/// A secret that a receiver shares with millrace. It is never shown.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Decodes a text such as `whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw`. The error does not contain any part of it.
    pub fn parse(text: &str) -> Result<Self, String> {
        const MAKE_ONE: &str = "create one with `echo whsec_$(openssl rand -base64 32)`";
        let encoded = text.trim().strip_prefix(PREFIX);
        let encoded =
            encoded.ok_or_else(|| format!("has a secret that does not start with `{PREFIX}`; {MAKE_ONE}"))?;
        let bytes = BASE64_STANDARD
            .decode(encoded)
            .map_err(|_| format!("has a secret that is not base64 after `{PREFIX}`; {MAKE_ONE}"))?;
        if !SECRET_BYTES.contains(&bytes.len()) {
            let (least, most) = (SECRET_BYTES.start(), SECRET_BYTES.end());
            let length = bytes.len();
            return Err(format!(
                "has a secret of {length} bytes, which must have {least} to {most}; {MAKE_ONE}"
            ));
        }
        Ok(Self(bytes))
    }

    fn sign(&self, id: &str, timestamp_seconds: i64, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(format!("{id}.{timestamp_seconds}.").as_bytes());
        mac.update(body);
        format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Returns the header `webhook-signature`: one signature for each secret, so that a receiver can change its secret while
/// both are valid.
pub fn sign(secrets: &[Secret], id: &str, timestamp_seconds: i64, body: &[u8]) -> String {
    let signatures: Vec<_> = secrets.iter().map(|secret| secret.sign(id, timestamp_seconds, body)).collect();
    signatures.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIMESTAMP: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    #[test]
    fn the_published_example_has_its_published_signature() {
        let secret = Secret::parse(SECRET).expect("a secret");
        assert_eq!(sign(&[secret], ID, TIMESTAMP, BODY), SIGNATURE);
    }

    #[test]
    fn each_secret_adds_a_signature() {
        let other = format!("{PREFIX}{}", BASE64_STANDARD.encode([7; 32]));
        let secrets = [Secret::parse(SECRET).expect("a secret"), Secret::parse(&other).expect("a secret")];
        // Made with the Python package `standardwebhooks`.
        let second = "v1,YO/ulmd+VFtlnbodv7yLOOsS6RlBZ48h++gXZrGOpZo=";
        assert_eq!(sign(&secrets, ID, TIMESTAMP, BODY), format!("{SIGNATURE} {second}"));
        assert_eq!(sign(&[], ID, TIMESTAMP, BODY), "");
    }

    #[test]
    fn an_invalid_secret_is_named_but_not_shown() {
        let of_length = |length: usize| format!("{PREFIX}{}", BASE64_STANDARD.encode(vec![b'k'; length]));
        for length in [24, 64] {
            assert!(Secret::parse(&of_length(length)).is_ok(), "{length}");
        }
        for (text, expected) in [
            (of_length(23), "a secret of 23 bytes, which must have 24 to 64"),
            (of_length(65), "a secret of 65 bytes"),
            (PREFIX.to_owned(), "a secret of 0 bytes"),
            (format!("{PREFIX}a2tra2tra2tra2tra2tra2tra2tra2tr!"), "not base64"),
            ("a2tra2tra2tra2tra2tra2tra2tra2tr".to_owned(), "does not start with `whsec_`"),
        ] {
            let error = Secret::parse(&text).expect_err(&text);
            assert!(error.contains(expected) && !error.contains("a2tr"), "{error}");
        }
        assert_eq!(format!("{:?}", Secret::parse(SECRET)), "Ok(***)");
    }
}
