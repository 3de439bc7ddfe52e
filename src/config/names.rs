//! Names of streams, views and sources, and the names of tables.

/// Returns whether `name` is valid for a stream, view or source. Names become part of paths and table names.
pub fn is_name(name: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    !name.is_empty() && name.len() <= 64 && name.bytes().all(allowed)
}

/// Returns the view's table: the given one, or one with the name of the view.
pub fn table_name(table: Option<&str>, view: &str) -> Result<String, String> {
    let table = table.map_or_else(|| view.replace('-', "_"), str::to_owned);
    let lower_case = table.to_ascii_lowercase();
    let reserved = ["millrace_", "sqlite_"].iter().any(|prefix| lower_case.starts_with(prefix));
    if table.is_empty() || reserved || table.contains('\0') {
        Err(format!(
            "cannot have table `{table}`; a name is not empty, has no NUL, and no prefix `millrace_` or `sqlite_`"
        ))
    } else {
        Ok(table)
    }
}
