//! Values are read back as they were written, to the last digit and byte, whatever time zone, collation and character
//! set the database has.

use std::sync::Arc;

use event::{Millis, Value};
use millrace::store::{Cell, Column, ColumnKind, RowChanges, StoreError, Table, Verb, ViewTables};
use millrace::views::{Amount, Ledger, Rule};

use crate::harness::StoreKind;
use crate::opened::{Opened, amount, amount_of, claim, integer_of, plan, text, text_of};

on_each_database!(
    keys_are_equal_only_byte_for_byte,
    balances_are_exact_to_the_last_digit_and_never_rounded,
    names_may_contain_any_character,
    every_kind_of_value_is_read_back_unchanged,
    integers_have_the_full_64_bit_range,
    each_page_begins_after_the_previous_one,
);

const NAME: ColumnKind = ColumnKind::Text { chars_max: 255 };

/// Keys that must all be different users.
fn keys() -> Vec<String> {
    let mut keys: Vec<String> = [
        "a",
        "A",
        "a ",
        " a",
        "a  ",
        "á",
        "a\u{301}",
        "é",
        "e\u{301}",
        "e",
        "ß",
        "ss",
        "SS",
        "ẞ",
        "ı",
        "i",
        "I",
        "İ",
        "æ",
        "ae",
        "Å",
        "\u{212b}",
        "ﬁ",
        "fi",
        "ａ",
        "a\u{200b}",
        "a\u{ad}",
        "a\t",
        "a\n",
        "a\r\n",
        "😀",
        "😁",
        "👩\u{200d}👩",
        "\u{10ffff}",
        "\u{ffff}",
        "日本",
        "にほん",
        "ニホン",
        "1",
        "01",
        "1.0",
        "１",
        "'",
        "''",
        "\"",
        "\\",
        "\\\\",
        "\\'",
        "%",
        "_",
        "?",
        "$1",
        ":a",
        "--",
        "/*",
        ";",
        "NULL",
        "null",
        "\\N",
        "\\.",
        "\u{1}",
        "true",
        "0x41",
        "-",
        "",
    ]
    .map(str::to_owned)
    .into();
    keys.push("x".repeat(255));
    keys.push("x".repeat(254) + "y");
    keys.push("😀".repeat(255));
    keys.push("x".repeat(254) + " ");
    keys
}

fn keys_are_equal_only_byte_for_byte(store_kind: StoreKind) {
    let table = Arc::new(Table::new("t", 1, &[("who", NAME), ("sum", ColumnKind::Decimal)]));
    let opened = Opened::on(store_kind);
    opened.begin("v", ViewTables::owned(&table)).unwrap();
    let mut keys = keys();
    keys.sort();
    let count = keys.len();
    keys.dedup();
    assert_eq!(keys.len(), count);
    for round in 0..2 {
        let cells =
            keys.iter().enumerate().flat_map(|(number, key)| [text(key), amount(&format!("{number}.5"))]);
        opened.apply(plan(claim("v", round, round + 1), &table, Verb::Add, cells.collect())).unwrap();
    }
    let rows = opened.rows("SELECT who, sum FROM t");
    let mut found: Vec<(&str, String)> =
        rows.iter().map(|row| (text_of(&row[0]), amount_of(&row[1]).to_string())).collect();
    found.sort();
    let expected: Vec<(&str, String)> =
        keys.iter().enumerate().map(|(number, key)| (key.as_str(), (2 * number + 1).to_string())).collect();
    assert_eq!(found, expected);
    // Then read each key alone.
    for (key, sum) in &expected {
        let sql = "SELECT who, sum FROM t WHERE who = ?".to_owned();
        let rows = opened.run(opened.store.rows(sql, vec![text(key)])).unwrap();
        assert_eq!(rows.len(), 1, "{key:?}");
        assert_eq!((text_of(&rows[0][0]), &amount_of(&rows[0][1]).to_string()), (*key, sum));
    }
}

fn balances_are_exact_to_the_last_digit_and_never_rounded(store_kind: StoreKind) {
    let table = Arc::new(Table::new("t", 1, &[("who", NAME), ("sum", ColumnKind::Decimal)]));
    let opened = Opened::on(store_kind);
    opened.begin("v", ViewTables::owned(&table)).unwrap();
    let largest = format!("{}.9999", "9".repeat(34));
    let mut position = 0;
    let mut add = |who: &str, value: &str| {
        let applied = opened.apply(plan(
            claim("v", position, position + 1),
            &table,
            Verb::Add,
            vec![text(who), amount(value)],
        ));
        position += u64::from(applied.is_ok());
        applied
    };
    for (who, values, sum) in [
        ("tenths", vec!["0.1"; 10], "1"),
        ("beyond 2^53", vec!["9007199254740993", "0.0001"], "9007199254740993.0001"),
        ("as wide as it goes", vec![&largest, "-0.0001", "0.0001"], largest.as_str()),
        ("and below", vec![&format!("-{largest}")], format!("-{largest}").as_str()),
        ("nothing", vec!["0"], "0"),
        ("away", vec!["-0.0001", "0.0001"], "0"),
    ] {
        values.iter().for_each(|value| drop(add(who, value).unwrap()));
        let sql = "SELECT sum FROM t WHERE who = ?".to_owned();
        let rows = opened.run(opened.store.rows(sql, vec![text(who)])).unwrap();
        assert_eq!(amount_of(&rows[0][0]).to_string(), sum, "{who}");
    }
    // A larger sum is refused and never stored rounded. PostgreSQL's NUMERIC has no limit that so few events could
    // reach.
    if store_kind == StoreKind::Postgres {
        return;
    }
    let refused = add("as wide as it goes", "0.0001").unwrap_err();
    assert!(matches!(refused, StoreError::Data(_)), "{refused:?}");
    let rows = opened.rows("SELECT sum FROM t WHERE who = 'as wide as it goes'");
    assert_eq!(amount_of(&rows[0][0]).to_string(), largest);
}

fn names_may_contain_any_character(store_kind: StoreKind) {
    let opened = Opened::on(store_kind);
    let names = [
        "we\"ird table",
        "back`tick",
        "semi; DROP TABLE t --",
        "SELECT",
        "Größe 😀",
        "a.b",
        "q?mark",
        "it's",
        "back\\slash",
        "$1",
    ];
    for (number, name) in names.into_iter().enumerate() {
        // MySQL accepts no four-byte characters in names.
        let name = match store_kind {
            StoreKind::Mariadb => name.replace('😀', "ö"),
            StoreKind::Sqlite | StoreKind::Postgres => name.to_owned(),
        };
        let columns = [(format!("key {name}"), NAME), (format!("sum {name}"), ColumnKind::Decimal)];
        let columns = columns.each_ref().map(|(name, kind)| (name.as_str(), *kind));
        let table = Arc::new(Table::new(&name, 1, &columns));
        let view = format!("view {number} {name}");
        opened.begin(&view, ViewTables::owned(&table)).unwrap();
        for round in 0..2 {
            let claim = claim(&view, round, round + 1);
            opened.apply(plan(claim, &table, Verb::Add, vec![text("k"), amount("1.25")])).unwrap();
        }
        let quote = millrace::store::quote;
        let sql = format!(
            "SELECT {} FROM {} WHERE {} = ?",
            quote(&table.columns[1].name),
            quote(&table.name),
            quote(&table.columns[0].name)
        );
        let rows = opened.run(opened.store.rows(sql, vec![text("k")])).unwrap();
        assert_eq!(amount_of(&rows[0][0]).to_string(), "2.5", "{name}");
        assert_eq!(opened.position(&view), Some(2), "{name}");
    }
}

fn all_kinds() -> Table {
    let column = |name: &str, kind| Column { name: name.to_owned(), kind, null: true };
    let columns = vec![
        column("brief", NAME),
        column("full", ColumnKind::LongText),
        column("doc", ColumnKind::Json),
        column("number", ColumnKind::Integer),
        column("sum", ColumnKind::Decimal),
        column("at", ColumnKind::Time),
        column("truth", ColumnKind::Boolean),
    ];
    Table::numbered("kinds", "id", columns)
}

/// Returns rows with every kind of value, and with the extremes of each column.
fn rows_of_values(long: &str) -> Vec<[Value<'_>; 7]> {
    let json = r#"{"b":[1e400, 0.10, 1.0], "a": "😀\u0041", "a": null, "é":"\\" }"#;
    let row = |text: &'static str, number: i64, sum: &str, at: i64, truth: bool| {
        [
            Value::Text(text.into()),
            Value::Text(long.into()),
            Value::Any(json),
            Value::Integer(number),
            Value::Decimal(sum.parse().unwrap()),
            Value::Time(Millis(at)),
            Value::Boolean(truth),
        ]
    };
    vec![
        row("a ", i64::MAX, "999999999999999.9999", 1_761_991_200_000, true),
        row("", i64::MIN, "-999999999999999.9999", 1_761_991_200_001, false),
        row("\\N\t\n\r'\"\\", 0, "0", 0, true),
        // Times in summer and winter, before 1970, before time zones had whole minutes, and the last allowed one.
        row("😀", -1, "0.0001", 1_711_846_800_000, false),
        row("é", 1, "-0.5", -1, false),
        row("e\u{301}", 1, "100000", -2_208_988_800_123, false),
        row("NULL", 1, "1", 253_402_207_200_999, true),
        [const { Value::Absent }; 7],
    ]
}

fn every_kind_of_value_is_read_back_unchanged(store_kind: StoreKind) {
    let table = Arc::new(all_kinds());
    let opened = Opened::on(store_kind);
    opened.begin("v", ViewTables::owned(&table)).unwrap();
    let long = "line 1\nline\t2 \\ ' \" 😀 ".repeat(3_000);
    let rows = rows_of_values(&long);
    let mut sent = plan(claim("v", 0, 8), &table, Verb::Add, Vec::new());
    sent.writes.clear();
    let mut changes = RowChanges::new(&table);
    for (position, row) in rows.iter().enumerate() {
        row.iter().for_each(|value| changes.added.push(value));
        changes.from.push((position as u64, Millis(0)));
    }
    sent.rows = Some(changes);
    opened.apply(sent).unwrap();
    let found = opened.rows(r#"SELECT brief, "full", doc, number, sum, at, truth FROM kinds ORDER BY id"#);
    assert_eq!(found.len(), rows.len());
    for (found, sent) in found.iter().zip(&rows) {
        for (found, sent) in found.iter().zip(sent) {
            assert_eq!(*found, opened.store.stored(sent));
        }
    }
    // Each row is found by its value.
    for (column, index) in [("brief", 0), ("number", 3), ("sum", 4), ("at", 5), ("truth", 6)] {
        for row in &rows[..rows.len() - 1] {
            let sql = format!("SELECT count(*) FROM kinds WHERE {column} = ?");
            let parameter = opened.store.stored(&row[index]);
            let count = opened.run(opened.store.rows(sql, vec![parameter])).unwrap();
            let same = rows.iter().filter(|other| other[index] == row[index]).count();
            assert_eq!(integer_of(&count[0][0]), same as i64, "{column} {:?}", row[index]);
        }
    }
    // Another program reads the same time.
    let seen = store_kind.pick([
        "SELECT at FROM kinds WHERE id = 2",
        "SET timezone = 'UTC'; SELECT to_char(at, 'YYYY-MM-DD HH24:MI:SS.MS') FROM kinds WHERE id = 2",
        "SELECT date_format(at, '%Y-%m-%d %H:%i:%s.001') FROM kinds WHERE id = 2",
    ]);
    assert_eq!(opened.stored.native_sql(seen), "2025-11-01 10:00:00.001");
}

fn integers_have_the_full_64_bit_range(store_kind: StoreKind) {
    let table = Arc::new(Table::new("t", 1, &[("number", ColumnKind::Integer), ("n", ColumnKind::Integer)]));
    let opened = Opened::on(store_kind);
    opened.begin("v", ViewTables::owned(&table)).unwrap();
    let keys = [i64::MIN, -1, 0, 1, (1 << 53) + 1, i64::MAX];
    let cells = |n| keys.into_iter().flat_map(move |key| [Cell::Integer(key), Cell::Integer(n)]).collect();
    opened.apply(plan(claim("v", 0, 1), &table, Verb::Add, cells(i64::MAX - 1))).unwrap();
    opened.apply(plan(claim("v", 1, 2), &table, Verb::Add, cells(1))).unwrap();
    let rows = opened.rows("SELECT number, n FROM t ORDER BY number");
    let found: Vec<(i64, i64)> = rows.iter().map(|row| (integer_of(&row[0]), integer_of(&row[1]))).collect();
    assert_eq!(found, keys.map(|key| (key, i64::MAX)));
}

/// A list that is read page by page contains each key once, whatever the database's collation is.
fn each_page_begins_after_the_previous_one(store_kind: StoreKind) {
    let ledger = Ledger::new("t", ["who", "sum"], 0, Rule::Always(Amount { field: 1, negative: false }));
    let opened = Opened::on(store_kind);
    opened.begin("v", ViewTables::owned(&ledger.table())).unwrap();
    let keys = keys();
    let cells = keys.iter().flat_map(|key| [text(key), amount("1")]).collect();
    opened.apply(plan(claim("v", 0, 1), &ledger.table(), Verb::Add, cells)).unwrap();
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = opened.run(ledger.balances(&opened.store, after.as_deref(), 7)).unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.key.clone());
        found.extend(page.into_iter().map(|balance| balance.key));
    }
    let mut expected = keys;
    expected.sort();
    assert_eq!(found, expected, "in the order of bytes");
}
