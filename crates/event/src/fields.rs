//! The declared fields of a stream. Admission checks a whole event against them and refuses it with field and reason.
//! Folds read single values.

use std::borrow::Cow;

use super::json::{check_kept, kind_of, shortened, walk_object};
use super::limits::{CLIENT_ID_CHARS_MAX, EVENT_FAULTS_MAX, JSON_KEYS_MAX};
use super::{Field, FieldError, FieldErrors, Value};

/// The declared fields of one stream.
#[derive(Clone, Debug)]
pub struct Fields {
    list: Vec<Field>,
    key: usize,
    /// The paths of the objects that contain fields: `payload` for `payload.email`. Empty for most streams.
    parents: Vec<String>,
}

/// The result of checking an event.
#[derive(Debug, PartialEq, Eq)]
pub struct Checked<'a> {
    /// The top-level `id`, unless it is missing or empty.
    pub client_id: Option<Cow<'a, str>>,
}

impl Fields {
    /// `key` is the index of the key field, which is a required text or integer.
    pub fn new(list: Vec<Field>, key: usize) -> Self {
        assert!(key < list.len(), "the key is one of the fields");
        let mut parents = Vec::new();
        for field in &list {
            for (at, _) in field.name.match_indices('.') {
                let parent = &field.name[..at];
                if !parents.iter().any(|known| known == parent) {
                    parents.push(parent.to_owned());
                }
            }
        }
        Self { list, key, parents }
    }

    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.list.iter().position(|field| field.name == name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Field> {
        self.list.iter()
    }

    pub fn get(&self, index: usize) -> &Field {
        &self.list[index]
    }

    pub fn key(&self) -> usize {
        self.key
    }

    /// Checks a whole event and reports all its faults together. With `ids`, a top-level `id` is the client's id for
    /// the event and has to be valid.
    pub fn check<'a>(&self, text: &'a str, ids: bool) -> Result<Checked<'a>, FieldErrors> {
        let mut found = FoundFields { values: vec![None; self.list.len()], id: None, faults: Vec::new() };
        self.find("", text, &mut found).map_err(FieldErrors::from)?;
        let FoundFields { values, id, mut faults } = found;
        // Fields inside of an object come before the object as a whole, so that the fault names the inner field.
        let is_object = |field: &Field, raw: &Option<&str>| {
            raw.is_some_and(|raw| raw.starts_with('{')) && self.parents.contains(&field.name)
        };
        let passes: &[bool] = if self.parents.is_empty() { &[false] } else { &[false, true] };
        for &whole in passes {
            for (field, raw) in self.list.iter().zip(&values) {
                if is_object(field, raw) == whole
                    && let Err(error) = field.read(*raw)
                    && !explained(&faults, &field.name)
                {
                    note(&mut faults, error);
                }
            }
        }
        match Field::read_text("id", id.filter(|_| ids), false, CLIENT_ID_CHARS_MAX) {
            Ok(client_id) if faults.is_empty() => return Ok(Checked { client_id }),
            Ok(_) => {}
            Err(error) if explained(&faults, "id") => drop(error),
            Err(error) => note(&mut faults, error),
        }
        Err(FieldErrors(faults))
    }

    /// Walks the object at `parent` and the objects in it that contain fields, until as many faults are found as are
    /// reported. Fails if the text up to there is not JSON, because other faults are meaningless then.
    fn find<'a>(&self, parent: &str, text: &'a str, found: &mut FoundFields<'a>) -> Result<(), FieldError> {
        let mut seen: Vec<Cow<'a, str>> = Vec::with_capacity(8);
        let mut broken = None;
        let mut enough = false;
        let walked = walk_object(text, |key, raw| {
            if found.faults.len() == EVENT_FAULTS_MAX {
                // The fields that follow seem to be missing now, but no more faults are noted.
                enough = true;
                return Err(String::new());
            }
            let fault = |reason: String| FieldError { field: path(parent, &key), reason };
            if seen.contains(&key) {
                note(&mut found.faults, fault("is given twice".to_owned()));
                return Ok(());
            }
            if key.contains('\0') {
                note(&mut found.faults, fault("has a NUL character in its name".to_owned()));
                return Ok(());
            }
            if seen.len() == JSON_KEYS_MAX {
                return Err(format!("has more than {JSON_KEYS_MAX} keys"));
            }
            let declared = self.list.iter().position(|field| leads_to(&field.name, parent, &key));
            if let Some(index) = declared {
                found.values[index] = Some(raw);
            }
            if let Some(inner) = self.parent_at(parent, &key) {
                match object_at(inner, raw) {
                    Ok(None) => {}
                    Ok(Some(object)) => {
                        if let Err(error) = self.find(inner, object, found) {
                            broken = Some(error);
                            return Err(String::new());
                        }
                    }
                    Err(error) => note(&mut found.faults, error),
                }
            } else if declared.is_none()
                && let Err(reason) = check_kept(raw, depth_below(parent))
            {
                note(&mut found.faults, fault(reason));
            }
            if parent.is_empty() && key == "id" {
                found.id = Some(raw);
            }
            seen.push(key);
            Ok(())
        });
        match walked {
            Err(reason) if !enough => Err(broken.unwrap_or(FieldError { field: parent.to_owned(), reason })),
            _ => Ok(()),
        }
    }

    /// Reads the fields `wanted`, in that order, of an event that was admitted.
    pub fn read<'a>(
        &self,
        text: &'a str,
        wanted: &[usize],
        into: &mut Vec<Value<'a>>,
    ) -> Result<(), FieldError> {
        into.clear();
        into.resize(wanted.len(), Value::Absent);
        let mut seen = 0_u64;
        self.read_in("", text, wanted, into, &mut seen)?;
        for (slot, &index) in wanted.iter().enumerate() {
            if seen & (1 << slot) == 0 {
                self.list[index].read(None)?;
            }
        }
        Ok(())
    }

    fn read_in<'a>(
        &self,
        parent: &str,
        text: &'a str,
        wanted: &[usize],
        into: &mut [Value<'a>],
        seen: &mut u64,
    ) -> Result<(), FieldError> {
        let mut wrong = None;
        walk_object(text, |key, raw| {
            for (slot, &index) in wanted.iter().enumerate() {
                if leads_to(&self.list[index].name, parent, &key) {
                    *seen |= 1 << slot;
                    match self.list[index].read(Some(raw)) {
                        Ok(value) => into[slot] = value,
                        Err(error) => wrong = Some(error),
                    }
                }
            }
            if let Some(inner) = self.parent_at(parent, &key)
                && wanted.iter().any(|&index| lies_in(&self.list[index].name, inner))
            {
                let read = object_at(inner, raw).and_then(|object| match object {
                    Some(object) => self.read_in(inner, object, wanted, into, seen),
                    None => Ok(()),
                });
                wrong = read.err().or(wrong.take());
            }
            Ok(())
        })
        .map_err(|reason| FieldError { field: parent.to_owned(), reason })?;
        wrong.map_or(Ok(()), Err)
    }

    /// Returns the path of `key` in the object at `parent`, if that is an object that contains fields.
    fn parent_at(&self, parent: &str, key: &str) -> Option<&str> {
        self.parents.iter().map(String::as_str).find(|path| leads_to(path, parent, key))
    }
}

/// The result of one walk over an event.
struct FoundFields<'a> {
    /// The text of each declared field.
    values: Vec<Option<&'a str>>,
    id: Option<&'a str>,
    faults: Vec<FieldError>,
}

/// Adds a fault, unless the event has reached its maximum: an object may have thousands of keys.
fn note(faults: &mut Vec<FieldError>, fault: FieldError) {
    if faults.len() < EVENT_FAULTS_MAX {
        faults.push(fault);
    }
}

/// Returns whether there is already a fault of this field, of a part of it, or of an object around it. A second fault
/// would only repeat it.
fn explained(faults: &[FieldError], name: &str) -> bool {
    faults
        .iter()
        .any(|fault| fault.field == name || lies_in(name, &fault.field) || lies_in(&fault.field, name))
}

/// Returns whether `path` is the path of `key` in the object at `parent`; the parent "" is the event itself. A key
/// that contains a dot never matches, because dots separate the steps of a path.
fn leads_to(path: &str, parent: &str, key: &str) -> bool {
    let step = if parent.is_empty() {
        Some(path)
    } else {
        path.strip_prefix(parent).and_then(|rest| rest.strip_prefix('.'))
    };
    step == Some(key) && !key.contains('.')
}

fn lies_in(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent).is_some_and(|rest| rest.starts_with('.'))
}

fn path(parent: &str, key: &str) -> String {
    if parent.is_empty() { shortened(key) } else { format!("{parent}.{}", shortened(key)) }
}

/// Returns the number of objects between the event and the values in `parent`.
fn depth_below(parent: &str) -> usize {
    if parent.is_empty() { 0 } else { 1 + parent.bytes().filter(|byte| *byte == b'.').count() }
}

/// Returns the text of an object that contains fields. `null` and an empty text count as absent.
fn object_at<'a>(path: &str, raw: &'a str) -> Result<Option<&'a str>, FieldError> {
    match raw {
        "null" | "\"\"" => Ok(None),
        _ if raw.starts_with('{') => Ok(Some(raw)),
        _ => {
            let reason = format!("expected an object, got {}", kind_of(raw));
            Err(FieldError { field: path.to_owned(), reason })
        }
    }
}

impl Fields {
    /// Returns whether a field of the event has this value. Returns `false` for an event that is erased or not valid.
    pub fn has_value(&self, text: &str, field: usize, wanted: &str) -> bool {
        let mut values = Vec::with_capacity(1);
        if text.trim_ascii().is_empty() || self.read(text, &[field], &mut values).is_err() {
            return false;
        }
        match &values[0] {
            Value::Text(text) => text == wanted,
            Value::Integer(number) => wanted.parse() == Ok(*number),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Form, Kind};
    use super::*;

    fn sale() -> Fields {
        let mut list = vec![
            field("userId", Kind::text(8), true),
            field("name", Kind::text(20), true),
            field("value", Kind::AMOUNT, true),
            field("at", Kind::Time, false),
        ];
        list[1].one_of = vec!["add".to_owned(), "sub".to_owned()];
        Fields::new(list, 0)
    }

    fn refusal(text: &str) -> String {
        sale().check(text, true).expect_err(text).to_string()
    }

    #[test]
    fn a_refusal_names_field_and_reason() {
        let cases = [
            (r#"{"name":"add","value":1}"#, "userId: is missing"),
            (r#"{"userId":"","name":"add","value":1}"#, "userId: is missing"),
            (r#"{"userId":null,"name":"add","value":1}"#, "userId: is missing"),
            (r#"{"userId":true,"name":"add","value":1}"#, "userId: expected text, got a boolean"),
            (r#"{"userId":1.5,"name":"add","value":1}"#, "userId: expected text, got a number"),
            (r#"{"userId":"123456789","name":"add","value":1}"#, "userId: is longer than 8 characters"),
            (r#"{"userId":"a\u0000","name":"add","value":1}"#, "userId: contains a NUL character"),
            (r#"{"userId":"a\ud800","name":"add","value":1}"#, "userId: contains a broken escape"),
            (r#"{"userId":"a","name":"give","value":1}"#, "name: must be one of `add`, `sub`"),
            (r#"{"userId":"a","name":"add","value":"1"}"#, "value: expected a number, got text"),
            (
                r#"{"userId":"a","name":"add","value":1e400}"#,
                "value: has more than 15 digits before the point",
            ),
            (r#"{"userId":"a","name":"add","value":1,"value":2}"#, "value: is given twice"),
            (r#"{"userId":"a","name":"add","value":1,"x":1,"x":1}"#, "x: is given twice"),
            (
                r#"{"userId":"a","name":"add","value":1,"at":"soon"}"#,
                "at: expected a time such as 2025-11-01T10:00:00Z, 2025-11-01 or epoch milliseconds",
            ),
            (r#"{"userId":"a","name":"add","value":1,"x":"\u0000"}"#, "x: contains a NUL character"),
            (
                r#"{"userId":"a","name":"add","value":1,"x":[1e400,{"\u0000":1}]}"#,
                "x: contains a NUL character",
            ),
            (r#"{"userId":"a","name":"add","value":1,"x":[1e400,"\ud800"]}"#, "x: contains a broken escape"),
            (r#"{"userId":"a","name":"add","value":1,"x\u0000":1}"#, "x\0: has a NUL character in its name"),
            (r#"{"userId":"a","name":"add","value":1,"id":{}}"#, "id: expected text, got an object"),
            (r"[1]", "expected a JSON object, got an array"),
            (r"", "expected a JSON object, got nothing"),
        ];
        for (text, message) in cases {
            assert_eq!(refusal(text), message, "{text}");
        }
        assert_eq!(
            refusal(r#"{"userId":"a","name":"add","value":NaN}"#),
            "value: expected a JSON value; a text must be in double quotes"
        );
        assert!(refusal(r#"{"userId":"a","name":"add","val"#).contains("the JSON ends inside a text"));
        assert!(
            refusal(r#"{"userId":"a","name":"add","value":1} x"#)
                .contains("there is more text after the end")
        );
        assert!(
            refusal(r#"{"userId":"a","name":"add","value":1"#).contains("the JSON ends inside an object")
        );
    }

    #[test]
    fn all_faults_of_an_event_are_reported_together_and_each_once() {
        assert_eq!(
            refusal(r#"{"userId":7.5,"name":"give","x":1,"x":2}"#),
            "x: is given twice; userId: expected text, got a number; name: must be one of `add`, `sub`; value: is missing"
        );
        let error = sign_up(true).check(r#"{"id":10,"payload":[]}"#, false).expect_err("two faults");
        assert_eq!(
            error.to_string(),
            "payload: expected an object, got an array; id: must be between 0 and 9"
        );
        let many: String = (0..1_000).map(|n| format!(r#","k{n}":"\u0000""#)).collect();
        let error = sale().check(&format!("{{\"userId\":1{many}}}"), false).expect_err("many faults");
        assert_eq!(error.iter().count(), EVENT_FAULTS_MAX);
        // The walk ends with the last fault that is reported: what follows is not read.
        let unread = format!(r#"{{"userId":"a"{} and no JSON"#, r#","x":1"#.repeat(EVENT_FAULTS_MAX + 2));
        assert!(refusal(&unread).starts_with("x: is given twice; x: is given twice"), "{}", refusal(&unread));
    }

    #[test]
    fn deep_nesting_is_refused_without_recursion() {
        let deep = format!(
            r#"{{"userId":"a","name":"add","value":1,"x":{}{}}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        assert_eq!(refusal(&deep), "x: is nested deeper than 64");
    }

    #[test]
    fn a_fold_can_read_an_admitted_event() {
        let text = r#"{"value":10.99,"x":{"y":[1e400]},"userId":42,"name":"a\u0064d","id":"mine"}"#;
        let fields = sale();
        assert_eq!(fields.check(text, true), Ok(Checked { client_id: Some(Cow::Borrowed("mine")) }));
        assert_eq!(fields.check(text, false), Ok(Checked { client_id: None }));
        let mut values = Vec::new();
        assert_eq!(fields.read(text, &[0, 2, 1, 3], &mut values), Ok(()));
        assert_eq!(values[0], Value::Text("42".into()));
        assert_eq!(values[1], Value::Decimal("10.99".parse().expect("a number")));
        assert_eq!(values[2], Value::Text("add".into()));
        assert_eq!(values[3], Value::Absent);
    }

    fn field(name: &str, kind: Kind, required: bool) -> Field {
        Field { name: name.to_owned(), kind, required, one_of: Vec::new() }
    }

    /// Declares fields in `payload`, and with `whole` also `payload` itself.
    fn sign_up(whole: bool) -> Fields {
        let email = Kind::Text { chars_min: 0, chars_max: 254, form: Form::Email };
        let name = Kind::Text { chars_min: 3, chars_max: 5, form: Form::Free };
        let mut list = vec![
            field("payload.email", email, true),
            field("payload.name", name, false),
            field("payload.price", Kind::Decimal { digits: 2, places: 1 }, false),
            field("payload.in.deep", Kind::Any, false),
            field("id", Kind::Integer { min: 0, max: 9 }, true),
        ];
        if whole {
            list.push(field("payload", Kind::Any, false));
        }
        Fields::new(list, 0)
    }

    #[test]
    fn nested_fields_are_named_by_their_paths() {
        let cases = [
            (r#"{"id":1}"#, "payload.email: is missing"),
            (r#"{"id":1,"payload":null}"#, "payload.email: is missing"),
            (r#"{"id":1,"payload":""}"#, "payload.email: is missing"),
            (r#"{"id":1,"payload":{}}"#, "payload.email: is missing"),
            (r#"{"id":1,"payload":{"email":""}}"#, "payload.email: is missing"),
            (r#"{"id":1,"payload.email":"a@b.c"}"#, "payload.email: is missing"),
            (r#"{"id":1,"payload":{"in":{"email":"a@b.c"}}}"#, "payload.email: is missing"),
            (r#"{"id":1,"payload":"x"}"#, "payload: expected an object, got text"),
            (r#"{"id":1,"payload":[{"email":"a@b.c"}]}"#, "payload: expected an object, got an array"),
            (r#"{"id":1,"payload":{"in":3}}"#, "payload.in: expected an object, got a number"),
            (r#"{"id":1,"payload":{"email":"a@b"}}"#, "payload.email: expected an e-mail address"),
            (r#"{"id":1,"payload":{"email":"a@b.c\r\nTo: x"}}"#, "payload.email: expected an e-mail address"),
            (
                r#"{"id":1,"payload":{"email":"a@b.c","name":"ab"}}"#,
                "payload.name: is shorter than 3 characters",
            ),
            (
                r#"{"id":1,"payload":{"email":"a@b.c","name":"abcdef"}}"#,
                "payload.name: is longer than 5 characters",
            ),
            (r#"{"id":1,"payload":{"email":"a@b.c","email":"a@b.c"}}"#, "payload.email: is given twice"),
            (r#"{"id":1,"payload":{"x":1,"x":1}}"#, "payload.x: is given twice"),
            (r#"{"id":1,"payload":{},"payload":{}}"#, "payload: is given twice"),
            (r#"{"id":1,"payload":{"in":{"x":1,"x":1}}}"#, "payload.in.x: is given twice"),
            (r#"{"id":1,"payload":{"x":"\u0000"}}"#, "payload.x: contains a NUL character"),
            (r#"{"id":1,"payload":{"x\u0000":1}}"#, "payload.x\0: has a NUL character in its name"),
            (
                r#"{"id":1,"payload":{"email":"a@b.c","price":100}}"#,
                "payload.price: has more than 2 digits before the point",
            ),
            (
                r#"{"id":1,"payload":{"email":"a@b.c","price":1.25}}"#,
                "payload.price: has more than 1 decimal place",
            ),
            (
                r#"{"id":1,"payload":{"email":"a@b.c","price":1.23456}}"#,
                "payload.price: has more than 1 decimal place",
            ),
        ];
        for whole in [false, true] {
            for (text, message) in cases {
                let refusal = sign_up(whole).check(text, false).expect_err(text);
                let first = refusal.iter().next().map(ToString::to_string);
                assert_eq!(first.as_deref(), Some(message), "{text}");
            }
            let lone = sign_up(whole).check(r#"{"id":1,"payload":{"\ud800":1}}"#, false).expect_err("lone");
            assert!(lone.iter().all(|fault| fault.field == "payload"), "{lone}");
        }
    }

    #[test]
    fn the_depth_of_a_nested_value_includes_the_objects_around_it() {
        let check = |whole, wrap: fn(String) -> String, depth: usize| {
            let value = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            let event = format!(r#"{{"id":1,"payload":{{"email":"a@b.c",{}}}}}"#, wrap(value));
            sign_up(whole).check(&event, false).map(|_| ()).map_err(|error| error.to_string())
        };
        for whole in [false, true] {
            assert_eq!(check(whole, |value| format!(r#""x":{value}"#), 63), Ok(()));
            let refused = Err("payload.x: is nested deeper than 64".to_owned());
            assert_eq!(check(whole, |value| format!(r#""x":{value}"#), 64), refused);
            assert_eq!(check(whole, |value| format!(r#""in":{{"deep":{value}}}"#), 62), Ok(()));
            let refused = Err("payload.in.deep: is nested deeper than 64".to_owned());
            assert_eq!(check(whole, |value| format!(r#""in":{{"deep":{value}}}"#), 63), refused);
        }
    }

    #[test]
    fn nested_fields_and_the_object_around_them_are_read_together() {
        let payload = r#"{"in":{"deep":[1]},"email":"a@b.c","more":true,"price":10.5}"#;
        let text = format!(r#"{{"payload.name":"no","payload":{payload},"id":7}}"#);
        let fields = sign_up(true);
        fields.check(&text, false).expect("an event");
        let mut values = Vec::new();
        fields.read(&text, &[5, 4, 0, 1, 3], &mut values).expect("values");
        let email = Value::Text("a@b.c".into());
        assert_eq!(values, [Value::Any(payload), Value::Integer(7), email, Value::Absent, Value::Any("[1]")]);
        // Events that were admitted under an older declaration.
        let mut read = |text| fields.read(text, &[0], &mut values).expect_err(text).to_string();
        assert_eq!(read(r#"{"payload":[]}"#), "payload: expected an object, got an array");
        assert_eq!(read(r#"{"payload":{"email":1.5}}"#), "payload.email: expected text, got a number");
        assert_eq!(read(r#"{"id":1}"#), "payload.email: is missing");
    }

    /// Generates JSON with few different keys, so that they often match the declared ones.
    fn some_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            Just(serde_json::json!("")),
            Just(serde_json::json!("t")),
            Just(serde_json::json!(3)),
            Just(serde_json::json!([])),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            proptest::collection::btree_map("a|b|c|a\\.b", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect()))
        })
    }

    /// Returns the value at a path. It is a simple reference implementation. Fails if a value on the way is not an
    /// object.
    fn at<'a>(event: &'a serde_json::Value, path: &str) -> Result<Option<&'a serde_json::Value>, ()> {
        let mut here = Some(event);
        for step in path.split('.') {
            here = match here.filter(|value| !value.is_null() && *value != "") {
                None => None,
                Some(serde_json::Value::Object(object)) => object.get(step),
                Some(_) => return Err(()),
            };
        }
        Ok(here.filter(|value| !value.is_null() && *value != ""))
    }

    proptest! {
        #[test]
        fn nested_fields_are_found_at_their_paths(
            event in some_json().prop_filter("an object", serde_json::Value::is_object),
        ) {
            let list = vec![
                field("a.b", Kind::text(9), true),
                field("a.c.a", Kind::Any, false),
                field("a.c", Kind::Any, false),
                field("b", Kind::Any, false),
            ];
            let fields = Fields::new(list, 0);
            let text = event.to_string();
            let found: Result<Vec<_>, ()> = fields.iter().map(|field| at(&event, &field.name)).collect();
            let sound = found.as_ref().is_ok_and(|found| found[0].is_some_and(|value| {
                value.is_string() || value.is_number()
            }));
            prop_assert_eq!(fields.check(&text, false).is_ok(), sound, "{}", text);
            let mut values = Vec::new();
            if sound {
                fields.read(&text, &[3, 2, 1, 0], &mut values).expect("an admitted event");
                let shown = values.iter().rev().map(|value| match value {
                    Value::Absent => None,
                    Value::Text(text) => Some(text.to_string()),
                    Value::Any(raw) => Some((*raw).to_owned()),
                    other => panic!("{other:?}"),
                });
                let expected = found.expect("sound").into_iter().map(|value| value.map(|value| match value {
                    serde_json::Value::String(text) if text == "t" => text.clone(),
                    value => value.to_string(),
                }));
                for ((shown, expected), field) in shown.zip(expected).zip(fields.iter()) {
                    let expected = match field.kind {
                        Kind::Any if expected.as_deref() == Some("t") => Some("\"t\"".to_owned()),
                        _ => expected,
                    };
                    prop_assert_eq!(shown, expected, "{} of {}", &field.name, text);
                }
            }
        }
    }
}
