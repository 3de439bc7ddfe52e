//! Paths of contracts: where a source or read is, beside the paths that millrace itself uses.

use serde::Deserialize;

/// Paths that millrace itself uses. One that ends in `/` stands for all paths below it.
const TAKEN_PATHS: [&str; 5] = ["/health", "/ready", "/metrics", "/v1", "/v1/"];

/// The path of a source.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ContractPath(String);

impl TryFrom<String> for ContractPath {
    type Error = String;

    fn try_from(path: String) -> Result<Self, String> {
        check_path(&path)?;
        Ok(Self(path))
    }
}

impl ContractPath {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Fails if millrace itself uses the path, or if it contains characters that a URL would have to escape.
pub fn check_path(path: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let step = |step: &str| !step.is_empty() && ![".", ".."].contains(&step) && step.bytes().all(plain);
    let valid = path == "/" || path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(step));
    if !valid {
        return Err(format!(
            "`{path}` is not a path such as `/events`, with letters, digits and `-._~` between slashes"
        ));
    }
    let taken = |taken: &&str| if taken.ends_with('/') { path.starts_with(*taken) } else { path == *taken };
    if TAKEN_PATHS.iter().any(taken) {
        Err(format!("`{path}` is a path of millrace itself; choose another"))
    } else {
        Ok(())
    }
}

/// Returns the path with and without a slash at the end. The replaced services accept both.
pub fn path_spellings(path: &str) -> Vec<String> {
    let with_slash = (!path.ends_with('/')).then(|| format!("{path}/"));
    std::iter::once(path.to_owned()).chain(with_slash).collect()
}
