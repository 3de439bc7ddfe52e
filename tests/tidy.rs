//! Project rules that a test can check: imports between modules, lengths of files and functions, doc comments,
//! vocabulary, and references from the documents.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;
const MAIN_LINES_MAX: usize = 40;

/// Files and functions that may be longer, each with its reason. Do not add to this list.
const LONGER: &[(&str, &str)] = &[];

/// Each module with the modules that it may import. `server` may import every module, and every module may
/// import the crate `event`.
const EDGES: &[(&str, &[&str])] = &[
    ("log", &[]),
    ("store", &[]),
    ("dedup", &["log", "store"]),
    ("destinations", &[]),
    ("views", &["dedup", "destinations", "log", "store"]),
    ("delivery", &["destinations", "store", "views"]),
    ("alerts", &["destinations", "log", "store"]),
    ("config", &["alerts", "destinations", "http", "sources", "store", "views"]),
    ("admission", &["log", "store"]),
    ("http", &["admission"]),
    ("sources", &["admission", "http", "live"]),
    ("live", &["admission", "log", "store", "views"]),
    ("backup", &[]),
    (
        "api",
        &[
            "admission",
            "alerts",
            "backup",
            "config",
            "delivery",
            "destinations",
            "http",
            "live",
            "log",
            "store",
            "views",
        ],
    ),
    ("telemetry", &[]),
    ("cli", &["backup", "config", "server", "telemetry"]),
];

/// Modules that may use the crate `journal`: the log, and the command `repair`.
const JOURNAL_KNOWN: &[&str] = &["log", "cli"];

/// Words of other systems, with the word that this project uses instead.
const OTHER_WORDS: &[(&str, &str)] =
    &[("projection", "view"), ("topic", "stream"), ("write-ahead queue", "log"), ("dlq", "dead letter")];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                files.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort();
    assert!(!files.is_empty(), "no Rust files under {folder}");
    files
}

/// Returns the released code of all files, without their unit tests.
fn production() -> Vec<(String, String)> {
    let mut files = sources("src");
    files.extend(sources("crates/event/src"));
    files.extend(sources("crates/failpoint/src"));
    files.extend(sources("crates/journal/src"));
    let before_tests = |text: String| match text.find("#[cfg(test)]\nmod tests {") {
        Some(at) => text[..at].to_owned(),
        None => text,
    };
    files.into_iter().map(|(name, text)| (name, before_tests(text))).collect()
}

fn report(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn modules_import_only_what_they_may() {
    let mut wrong = Vec::new();
    for (name, text) in production() {
        let Some(module) = name.strip_prefix("src/").map(|path| path.split(['/', '.']).next().unwrap())
        else {
            continue;
        };
        if ["lib", "main", "server"].contains(&module) {
            continue;
        }
        let allowed = EDGES.iter().find(|(known, _)| *known == module);
        let Some((_, allowed)) = allowed else {
            wrong.push(format!("{name}: module `{module}` is not in `EDGES`"));
            continue;
        };
        if text.contains("crate::{") {
            wrong.push(format!(
                "{name}: `crate::{{` hides the imported modules; write one `use` line per module"
            ));
        }
        if text.contains("journal::") && !JOURNAL_KNOWN.contains(&module) {
            wrong.push(format!("{name}: `{module}` imports `journal`; use `log` instead"));
        }
        for part in text.split("crate::").skip(1) {
            let other: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let is_module = EDGES.iter().any(|(known, _)| *known == other) || other == "server";
            if is_module && other != module && !allowed.contains(&other.as_str()) {
                wrong.push(format!("{name}: `{module}` imports `{other}`"));
            }
        }
    }
    report("imports that `EDGES` does not allow", wrong);
}

/// Every module may import these crates, so they must not depend on the rest of the project.
#[test]
fn crates_depend_only_on_crates_below_them() {
    let mut wrong = Vec::new();
    for (name, allowed) in
        [("event", &[][..]), ("failpoint", &[]), ("journal", &["../event", "../failpoint"])]
    {
        let manifest = root().join("crates").join(name).join("Cargo.toml");
        let manifest = std::fs::read_to_string(manifest).unwrap();
        let released = manifest.split("[dev-dependencies]").next().unwrap();
        assert!(
            released.contains("[dependencies]"),
            "`{name}`: `[dependencies]` must come before `[dev-dependencies]`"
        );
        let paths = released.split("path = \"").skip(1).map(|rest| rest.split('"').next().unwrap());
        wrong.extend(paths.filter(|path| !allowed.contains(path)).map(|path| format!("`{name}`: {path}")));
    }
    report("crates that depend on a crate above them", wrong);
}

#[test]
fn files_and_functions_are_short() {
    let mut long = Vec::new();
    for (name, text) in production() {
        let lines: Vec<&str> = text.lines().collect();
        let max = if name == "src/main.rs" { MAIN_LINES_MAX } else { FILE_LINES_MAX };
        if lines.len() > max && !LONGER.iter().any(|(longer, _)| *longer == name) {
            long.push(format!("{name}: {} lines", lines.len()));
        }
        for (start, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let begins = ["fn ", "pub fn ", "async fn ", "pub async fn ", "pub(crate) fn ", "pub(super) fn "];
            if !begins.iter().any(|begin| line.trim_start().starts_with(begin))
                || line.trim_end().ends_with(';')
            {
                continue;
            }
            let closing = format!("{}}}", " ".repeat(indent));
            let length = lines[start..].iter().position(|line| *line == closing).unwrap_or(0);
            let known = format!("{name} {}", line.trim());
            if length > FUNCTION_LINES_MAX && !LONGER.iter().any(|(longer, _)| known.starts_with(longer)) {
                long.push(format!("{name}:{}: a function of {length} lines", start + 1));
            }
        }
    }
    report("too long", long);
}

#[test]
fn every_file_starts_with_a_doc_comment() {
    let opens = |text: &str| text.starts_with("//! ");
    let mut files = production();
    files.extend(sources("tests"));
    files.extend(sources("bench/src"));
    files.extend(sources("crates/journal/tests"));
    let undocumented = files.into_iter().filter(|(_, text)| !opens(text)).map(|(name, _)| name).collect();
    report("files without a doc comment at the top", undocumented);
}

#[test]
fn no_file_has_a_catch_all_name() {
    let catch_all_names = ["common", "helper", "helpers", "misc", "shared", "util", "utils"];
    let stem = |name: &str| Path::new(name).file_stem().unwrap().to_string_lossy().into_owned();
    let found = production()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| catch_all_names.contains(&stem(name).as_str()));
    report("files with a catch-all name", found.collect());
}

#[test]
fn words_mean_one_thing() {
    let mut found = Vec::new();
    for (name, text) in production() {
        for (index, line) in text.lines().enumerate() {
            for (word, ours) in OTHER_WORDS {
                if line.to_lowercase().contains(word) {
                    found.push(format!("{name}:{}: `{word}` is called `{ours}` here", index + 1));
                }
            }
        }
    }
    report("words with another name here", found);
}

#[test]
fn every_limit_is_used() {
    let limits = std::fs::read_to_string(root().join("crates/event/src/limits.rs")).unwrap();
    let names: BTreeSet<&str> =
        limits.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next()).collect();
    assert!(names.len() > 20, "only {} limits found; declare one per line", names.len());
    let users: String = production()
        .into_iter()
        .filter(|(name, _)| name != "crates/event/src/limits.rs")
        .map(|(_, text)| text)
        .collect();
    let unused = names.into_iter().filter(|name| !users.contains(name)).map(str::to_owned).collect();
    report("limits that no code uses", unused);
}

/// Every metric has a help text in the code and a description in `docs/OPERATING.md`.
#[test]
fn every_metric_is_described() {
    let code: String = production().into_iter().map(|(_, text)| text).collect();
    let mut shown = BTreeSet::new();
    let mut described = BTreeSet::new();
    for kind in ["counter", "gauge", "histogram"] {
        let (shows, describes) = (format!("metrics::{kind}!(\""), format!("describe_{kind}!(\""));
        let named = |begin: &str| -> Vec<String> {
            code.split(begin).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
        };
        shown.extend(named(&shows));
        described.extend(named(&describes));
    }
    assert!(shown.len() > 10, "too few metrics found: {shown:?}");
    report("metrics without help, or help without a metric", (&shown ^ &described).into_iter().collect());
    let operating = std::fs::read_to_string(root().join("docs/OPERATING.md")).unwrap();
    let explained = |name: &String| operating.contains(&format!("`{name}"));
    report(
        "metrics without a description in docs/OPERATING.md",
        shown.into_iter().filter(|name| !explained(name)).collect(),
    );
}

#[test]
fn links_in_documents_exist() {
    let mut broken = Vec::new();
    let mut documents =
        vec!["README.md".to_owned(), "CHANGELOG.md".to_owned(), "crates/journal/FORMAT.md".to_owned()];
    for folder in ["docs", "docs/decisions"] {
        let entries = std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        let pages = entries.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
        documents.extend(pages.map(|path| path.strip_prefix(root()).unwrap().display().to_string()));
    }
    for document in documents {
        let path = root().join(&document);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("{document} is missing"));
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap();
            if !file.is_empty() && !file.contains("://") && !path.parent().unwrap().join(file).exists() {
                broken.push(format!("{document}: {target}"));
            }
        }
    }
    report("broken links", broken);
}

/// `docs/GUARANTEES.md` lists tests for each guarantee. A test that was renamed or deleted proves nothing.
#[test]
fn guarantees_name_existing_tests() {
    let text = std::fs::read_to_string(root().join("docs/GUARANTEES.md")).unwrap();
    let mut tests: String =
        sources("tests").into_iter().chain(sources("src")).map(|(_, text)| text).collect();
    tests.extend(sources("crates").into_iter().map(|(_, text)| text));
    let named: Vec<&str> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| name.starts_with("test:") && !name.ends_with('.'))
        .collect();
    assert!(named.len() > 15, "docs/GUARANTEES.md names only {} tests", named.len());
    let gone = named
        .into_iter()
        .map(|name| name.trim_start_matches("test:").rsplit("::").next().unwrap())
        .filter(|name| !tests.contains(&format!("fn {name}(")))
        .map(str::to_owned);
    report("tests that do not exist", gone.collect());
}
