//! The part of an event's envelope that describes its sender.

use std::net::IpAddr;

use crate::limits::USER_AGENT_CHARS_MAX;

/// Describes an event's sender, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SentFrom<'a> {
    /// The sender's address.
    pub address: Option<IpAddr>,
    /// The name that the server gave to the sender's connection, for connections that stay open.
    pub client: Option<&'a str>,
    /// The program that sent it, as it describes itself.
    pub user_agent: Option<&'a str>,
}

/// Cuts the description of a program to its longest stored length. Returns `None` if nothing is left.
pub fn cut_user_agent(text: &str) -> Option<&str> {
    let text = text.trim();
    let end = text.char_indices().nth(USER_AGENT_CHARS_MAX).map_or(text.len(), |(end, _)| end);
    Some(&text[..end]).filter(|text| !text.is_empty() && !text.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_description_of_a_program_is_cut() {
        assert_eq!(cut_user_agent(" curl/8 "), Some("curl/8"));
        assert_eq!(cut_user_agent("  "), None);
        assert_eq!(cut_user_agent("a\0b"), None);
        let long = "é".repeat(USER_AGENT_CHARS_MAX + 1);
        assert_eq!(cut_user_agent(&long).map(|text| text.chars().count()), Some(USER_AGENT_CHARS_MAX));
    }
}
