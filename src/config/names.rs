//! Names of streams, views and sources.

use event::SettingErrors;

/// Adds an error if `name` is not valid for a stream, view or source. Names become part of paths and table names.
pub fn check_name(name: &str, errors: &mut SettingErrors) {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) {
        errors.add(&[], "needs a name of at most 64 lower-case letters, digits, `-` and `_`");
    }
}
