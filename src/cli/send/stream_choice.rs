//! The stream of a file: the one that the user names, or else the only one that accepts the file's first event. The
//! server checks the event against each stream and stores nothing, so that only the server needs the rules.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OnceCell;

use super::lines::{Chunk, Lines, ReadLine};
use super::progress::Progress;
use super::uploader::{UploadName, Uploader};
use super::{SendError, unreadable};
use crate::cli::exit::Failure;

/// The name of the upload of a checked line. Nothing is stored under it.
const CHECKED: &str = "millrace send, first line";

pub enum StreamChoice {
    Named(String),
    /// The streams of the server, once they are known.
    ByFirstLine(OnceCell<Vec<String>>),
}

impl StreamChoice {
    pub fn new(named: Option<String>) -> Self {
        named.map_or_else(|| Self::ByFirstLine(OnceCell::new()), Self::Named)
    }

    /// Returns the stream of a file. Returns `None` if it must be chosen by the first line, and the file has no line
    /// with text yet; with `ended`, the line needs its line break.
    pub async fn of(
        &self,
        path: &Path,
        file: &Arc<File>,
        ended: bool,
        uploader: &Uploader,
        progress: &Progress,
    ) -> Result<Option<String>, SendError> {
        let known = match self {
            Self::Named(stream) => return Ok(Some(stream.clone())),
            Self::ByFirstLine(known) => known,
        };
        let chunk = match first_event(file, ended, uploader.line_bytes_max()) {
            Ok(FirstEvent::Line(chunk)) => chunk,
            Ok(FirstEvent::None) => return Ok(None),
            Ok(FirstEvent::TooLong(line)) => return Err(too_long(path, line)),
            Err(error) => return Err(unreadable(path, &error)),
        };
        let streams = known.get_or_try_init(|| uploader.streams(progress));
        let (mut accepting, mut refusals) = (Vec::new(), Vec::new());
        for stream in streams.await? {
            let upload = UploadName { stream: stream.clone(), name: CHECKED.to_owned() };
            let receipt = uploader.send(&upload, &chunk, true, progress).await?;
            match receipt.refused().into_values().next() {
                None => accepting.push(stream.clone()),
                Some(reason) => refusals.push((stream.clone(), reason)),
            }
        }
        choose(accepting, &refusals).map(Some).map_err(|reason| {
            let line = chunk.first;
            SendError::File(Failure::WrongUsage(format!("{}: line {line}: {reason}", path.display())))
        })
    }
}

/// Returns the only stream. Fails with the reason, and with the names to choose from, if there is not exactly one.
fn choose(mut accepting: Vec<String>, refusals: &[(String, String)]) -> Result<String, String> {
    match (accepting.len(), refusals) {
        (1, _) => Ok(accepting.remove(0)),
        (0, []) => Err("the server has no stream that this key may send to".to_owned()),
        (0, [(_, same), others @ ..]) if others.iter().all(|(_, reason)| reason == same) => {
            let names: Vec<&str> = refusals.iter().map(|(stream, _)| stream.as_str()).collect();
            let names = names.join("`, `");
            Err(format!(
                "no stream accepts it: {same}; name the stream of the file with `--stream`, one of `{names}`"
            ))
        }
        (0, _) => {
            let reasons: Vec<String> =
                refusals.iter().map(|(stream, reason)| format!("`{stream}` ({reason})")).collect();
            let reasons = reasons.join(", ");
            Err(format!("no stream accepts it: {reasons}; name the stream of the file with `--stream`"))
        }
        _ => Err(format!(
            "the streams `{}` accept it; name the stream of the file with `--stream`",
            accepting.join("` and `")
        )),
    }
}

/// The first line of a file that can be an event.
enum FirstEvent {
    /// The line, as a separate chunk.
    Line(Chunk),
    /// The file has no line with text yet.
    None,
    /// Every line with text is too long. This is the number of the first one.
    TooLong(u64),
}

/// Returns the first line that can be an event. Lines that are too long are skipped, because they are never sent.
fn first_event(file: &Arc<File>, ended: bool, line_bytes_max: usize) -> std::io::Result<FirstEvent> {
    let mut lines = Lines::new(file, line_bytes_max)?;
    let (mut text, mut skipped) = (Vec::new(), None);
    loop {
        let number = lines.position().line;
        match lines.next(&mut text)? {
            ReadLine::Line { ended: is, too_long } if is || !ended => {
                skipped = skipped.or(too_long.map(|_| number));
            }
            _ => return Ok(skipped.map_or(FirstEvent::None, FirstEvent::TooLong)),
        }
        if !text.trim_ascii().is_empty() {
            let chunk = Chunk { first: number, bytes: Bytes::from(text), too_long: Vec::new() };
            return Ok(FirstEvent::Line(chunk));
        }
        text.clear();
    }
}

fn too_long(path: &Path, line: u64) -> SendError {
    SendError::File(Failure::WrongUsage(format!(
        "{}: line {line} is longer than 1 MiB; name the stream with `--stream`",
        path.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_reported_only_if_no_other_line_decides() {
        use std::io::Write;
        let first = |content: &str, ended: bool| {
            let mut file = tempfile::tempfile().expect("a file");
            file.write_all(content.as_bytes()).expect("written");
            match first_event(&Arc::new(file), ended, 4).expect("reads") {
                FirstEvent::Line(chunk) => format!("line {}", chunk.first),
                FirstEvent::None => "none".to_owned(),
                FirstEvent::TooLong(line) => format!("line {line} is too long"),
            }
        };
        assert_eq!(first("\n\n", false), "none");
        assert_eq!(first("\n{ 1 }\nab\n", false), "line 3");
        assert_eq!(first("\n{ 1 }\n{ 2 }", false), "line 2 is too long");
        assert_eq!(first("{ 1 }", true), "none", "the line is not complete yet");
    }

    #[test]
    fn only_one_accepting_stream_is_taken() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let refusal = |stream: &str, reason: &str| (stream.to_owned(), reason.to_owned());
        let refused = [refusal("b", "c: is missing"), refusal("d", "e: is missing")];
        assert_eq!(choose(names(&["a"]), &refused).as_deref(), Ok("a"));
        let several = choose(names(&["a", "c"]), &refused).expect_err("not clear");
        assert!(several.contains("`a` and `c`") && several.contains("`--stream`"), "{several}");
        let none = choose(Vec::new(), &refused).expect_err("none");
        assert!(none.contains("`b` (c: is missing)") && none.contains("`--stream`"), "{none}");
        let same = [refusal("b", "is not JSON"), refusal("d", "is not JSON")];
        let same = choose(Vec::new(), &same).expect_err("none");
        assert!(same.contains("accepts it: is not JSON; ") && same.contains("one of `b`, `d`"), "{same}");
        assert!(choose(Vec::new(), &[]).is_err());
    }
}
