//! The check for e-mail addresses. It accepts addresses that mail can be sent to, and nothing that could stand for
//! several addresses or end a header line. It cannot tell whether the mailbox exists.

use super::limits::EMAIL_CHARS_MAX;

/// Returns whether `text` is one e-mail address.
pub fn is_email(text: &str) -> bool {
    if text.chars().count() > EMAIL_CHARS_MAX as usize {
        return false;
    }
    // A second `@` would be in the domain, where it is not allowed.
    text.split_once('@').is_some_and(|(name, domain)| is_name(name) && is_domain(domain))
}

fn is_name(name: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !"()<>[]:;,\\\"".contains(c);
    name.chars().all(plain) && name.split('.').all(|part| !part.is_empty())
}

fn is_domain(domain: &str) -> bool {
    let label = |label: &str| {
        let inside = |c: char| c.is_alphanumeric() || c == '-';
        !label.is_empty() && label.chars().all(inside) && !label.starts_with('-') && !label.ends_with('-')
    };
    (domain.contains('.') || domain == "localhost") && domain.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_addresses_are_accepted_and_others_refused() {
        let good =
            ["a@b.c", "user@example.com", "first.last+tag@sub.example.org", "root@localhost", "ü@bücher.de"];
        for text in good {
            assert!(is_email(text), "{text}");
        }
        let bad = [
            "",
            "@",
            "user",
            "user@",
            "@example.com",
            "a@b",
            "a@b@c.d",
            "a b@c.d",
            "a@c .d",
            "a@b.c ",
            " a@b.c",
            "a@b.c\r\nBcc: x@y.z",
            "a\n@b.c",
            "a@b.c\n",
            "a\u{7f}@b.c",
            "a\u{a0}@b.c",
            "a@b..c",
            "a@.b",
            "a@b.",
            "a@-b.c",
            ".a@b.c",
            "a.@b.c",
            "<a@b.c>",
            "a,b@c.d",
            "\"a\"@b.c",
            "a@[127.0.0.1]",
            "a@b.c,d",
        ];
        for text in bad {
            assert!(!is_email(text), "{text:?}");
        }
        assert!(is_email(&format!("{}@b.c", "a".repeat(250))));
        assert!(!is_email(&format!("{}@b.c", "a".repeat(251))));
    }

    proptest::proptest! {
        #[test]
        fn an_accepted_address_has_no_line_end_and_no_second_address(text in "[a@. ,;<>\\r\\n\\t]{0,9}") {
            if is_email(&text) {
                proptest::prop_assert_eq!(text.matches('@').count(), 1);
                proptest::prop_assert!(!text.contains([' ', ',', ';', '<', '>', '\r', '\n', '\t']));
            }
        }
    }
}
