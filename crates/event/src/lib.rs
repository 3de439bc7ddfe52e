//! The parts of an event: its ids, its declared fields, exact numbers and times. Every other module uses this crate, and
//! it uses no other crate of millrace. So it also holds what all of them share: every limit of the system, and the
//! progress of the views. There are small tools, too: threads, locks, private files, errors in plain words. It is a
//! separate crate so that the compiler always optimises it as one unit: the work for each event starts here.

pub mod limits;
pub mod positions;

mod backoff;
mod day;
mod decimal;
mod duration;
mod email;
mod escapes;
mod field;
mod fields;
mod filter;
mod hex;
mod id;
mod json;
mod locks;
mod log_id;
mod log_sample;
mod parse_error;
mod position_state;
mod private_file;
mod progress;
mod sample;
mod sent_from;
mod setting_errors;
mod skipped_events;
mod stop;
mod suggestion;
mod thread;
mod time;
mod varint;

pub use backoff::Backoff;
pub use day::{Day, DayError};
pub use decimal::{Decimal, DecimalError};
pub use duration::{WrittenDuration, parse_duration, parse_short_duration};
pub use escapes::{percent_decode, percent_decode_strict, percent_encode};
pub use field::{Field, FieldError, FieldErrors, Form, Kind, Value};
pub use fields::{Checked, Fields};
pub use filter::{Filter, FilterSection};
pub use hex::{from_hex, hex};
pub use id::{BodyHash, EventId, UploadId};
pub use json::{kind_of, walk_object};
pub use locks::{lock, read_lock, write_lock};
pub use log_id::{LogId, LogIdError};
pub use log_sample::LogSample;
pub use parse_error::{json_in_plain_words, name_in_plain_words};
pub use position_state::PositionState;
pub use private_file::write_private;
pub use progress::{Applied, DedupProgress, Progress, Stalled};
pub use sample::{Random, Sample};
pub use sent_from::{SentFrom, cut_user_agent};
pub use setting_errors::{SettingError, SettingErrors};
pub use skipped_events::SkippedEvents;
pub use stop::Stop;
pub use suggestion::{nearest, suggestion};
pub use thread::{end_process_on_panic, start_thread};
pub use time::{Millis, TimeError};
pub use varint::{put_varint, take_varint};
