//! What an event is, before anybody moves it: its identity, its fields, its exact numbers, and every
//! bound of the system. Nothing of ours stands before it; every room speaks its words. It is a crate because
//! all that is done for each event begins here: it is built in one piece, whatever else changes.

pub mod limits;
pub mod positions;

mod day;
mod decimal;
mod email;
mod escapes;
mod field;
mod fields;
mod hex;
mod id;
mod json;
mod progress;
mod sample;
mod stop;
mod time;

pub use day::{Day, DayError};
pub use decimal::{Decimal, DecimalError};
pub use escapes::{as_part_of_url, part_of_url, unescaped};
pub use field::{Field, FieldError, FieldErrors, Form, Kind, Value};
pub use fields::{Checked, Fields};
pub use hex::hex;
pub use id::{BodyHash, EventId, LogId, UploadId};
pub use json::{kind_of, walk_object};
pub use progress::{Applied, Progress, Stalled};
pub use sample::{Random, Sample};
pub use stop::Stop;
pub use time::{Millis, TimeError};
