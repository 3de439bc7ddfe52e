//! Names of streams, views and sources.

/// Returns whether `name` is valid for a stream, view or source. Names become part of paths and table names.
pub fn is_name(name: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    !name.is_empty() && name.len() <= 64 && name.bytes().all(allowed)
}
