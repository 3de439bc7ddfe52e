//! Origins of web pages: `https://shop.example`, `null` for a page that was opened from disk, `*` for all.

/// Returns an origin in lower case, as browsers write it. Returns `None` if the text is not an origin.
pub fn checked_origin(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_lowercase();
    if text == "null" || text == "*" {
        return Some(text);
    }
    let (scheme, host) = text.split_once("://")?;
    let is_scheme = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    (is_scheme(scheme) && !host.is_empty() && host.bytes().all(plain)).then_some(text)
}

/// Checks the origins that a source or read lists.
pub fn checked_origins(named: Option<&[String]>) -> Result<Vec<String>, String> {
    let checked = |text: &String| {
        checked_origin(text)
            .ok_or_else(|| format!("names `{text}`, which is not an origin such as `https://shop.example`"))
    };
    named.unwrap_or_default().iter().map(checked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_scheme_and_a_host_and_nothing_else() {
        for good in ["https://shop.example", "http://localhost:3000", "http://[::1]:80", "null", "*"] {
            assert_eq!(checked_origin(good).as_deref(), Some(good));
        }
        assert_eq!(checked_origin(" HTTPS://Shop.Example ").as_deref(), Some("https://shop.example"));
        for bad in [
            "",
            "shop.example",
            "https://",
            "https://shop.example/",
            "https://a.b/c",
            "https://*.a.b",
            "a b://c",
        ] {
            assert_eq!(checked_origin(bad), None, "{bad}");
        }
    }
}
