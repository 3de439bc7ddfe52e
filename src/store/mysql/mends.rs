//! SQL that a person runs to mend a table. Names are in backticks, which every setting of a client understands.

pub fn name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}
