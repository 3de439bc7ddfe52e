//! Rankings in SQLite without an index over the number, in which every event would move a row. For a group
//! of few rows there is nothing to keep: they are read and sorted. A group of many has a *board*, a small
//! table of its first rows, and a *floor*, the place up to which the board holds every row of the group. Most
//! rows that change stay beyond the floor, and cost one comparison.

use std::cmp::Reverse;

use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::statements::equal;
use crate::store::Select;
use crate::store::tables::{Cell, Column, ColumnKind, DerivedIndex, Table, TopK, quote};

/// Asks for the first `limit` of a group. One statement, so that board and floor are of one moment.
pub fn top(table: &Table, ranking: &TopK, mut group: Vec<Cell>, limit: usize) -> Select {
    let names = Names::of(table, ranking);
    let Names { rows, boards, floors, value, number, group: condition, order, group_columns } = &names;
    group.push(Cell::Integer(limit.min(ranking.asked_max) as i64));
    let sql = format!(
        "SELECT {value}, {number} FROM (SELECT {value}, {number} FROM {boards} WHERE {condition} \
         UNION ALL SELECT {value}, {number} FROM (SELECT 1 FROM {floors} WHERE {condition} AND \"floor\" IS NULL) \
         CROSS JOIN {rows} WHERE {condition}) ORDER BY {order} LIMIT ?{}",
        group_columns + 1
    );
    Select { sql, parameters: group }
}

/// The tables of a ranking: its boards and its floors.
pub fn tables(table: &Table, ranking: &TopK) -> [Table; 2] {
    let (value, number) = (&table.columns[table.key_columns - 1], &table.columns[table.key_columns]);
    let named = |name: &str, of: &Column, null: bool| Column { name: name.to_owned(), null, ..of.clone() };
    let mut floors = table.columns[..table.key_columns - 1].to_vec();
    let entries = Column { name: "entries".to_owned(), kind: ColumnKind::Integer, null: false };
    floors.extend([entries, named("floor", number, true), named("floor_value", value, true)]);
    [
        Table { name: ranking.boards.clone(), derived_index: DerivedIndex::Nothing, ..table.clone() },
        Table {
            name: ranking.floors.clone(),
            columns: floors,
            key_columns: table.key_columns - 1,
            id: None,
            unique: None,
            derived_index: DerivedIndex::Nothing,
        },
    ]
}

/// Where a row stands in its group: the smaller, the further ahead.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RowOrigin {
    number: Reverse<i64>,
    absent: bool,
    value: String,
}

impl RowOrigin {
    fn of(number: i64, value: &str) -> Self {
        Self { number: Reverse(number), absent: value.is_empty(), value: value.to_owned() }
    }

    /// Whether a row is not behind this place. Nearly every row is told by its number alone.
    fn takes_in(&self, number: i64, value: &str) -> bool {
        match number.cmp(&self.number.0) {
            std::cmp::Ordering::Equal => (value.is_empty(), value) <= (self.absent, self.value.as_str()),
            unequal => unequal.is_gt(),
        }
    }
}

/// One group as it stands.
struct Board<'w> {
    group: &'w [Cell],
    /// Rows on the board; without a floor, rows of the group.
    entries: i64,
    /// `None` while the group has no board.
    floor: Option<RowOrigin>,
    changed: bool,
    /// What the floor was drawn at is no row of the group any more.
    floor_gone: bool,
}

/// What follows the rows of one write, group by group.
pub struct Boards<'c, 'w> {
    connection: &'c Connection,
    statements: Statements,
    asked_max: i64,
    open: Option<Board<'w>>,
}

impl<'c, 'w> Boards<'c, 'w> {
    pub fn new(connection: &'c Connection, table: &Table, ranking: &TopK) -> Self {
        let statements = Statements::of(&Names::of(table, ranking));
        Self { connection, statements, asked_max: ranking.asked_max as i64, open: None }
    }

    /// A row went from one number to another; 0 is no row.
    pub fn follow(&mut self, key: &'w [Cell], was: i64, now: i64) -> rusqlite::Result<()> {
        let [group @ .., Cell::Text(value)] = key else { panic!("what is ranked is text") };
        let mut board = match self.open.take() {
            Some(board) if board.group == group => board,
            other => {
                self.settle(other)?;
                self.load(group)?
            }
        };
        let (were, are) = match &board.floor {
            None => (was != 0, now != 0),
            Some(floor) => {
                let inside = |number: i64| number != 0 && floor.takes_in(number, value);
                (inside(was), inside(now))
            }
        };
        if board.floor.is_some() && are {
            let entry = key.iter().chain(std::iter::once(&Cell::Integer(now))).cloned().collect::<Vec<_>>();
            self.run(&self.statements.enter, &entry)?;
        } else if board.floor.is_some() && were {
            self.run(&self.statements.leave, key)?;
        }
        if were != are {
            board.entries += i64::from(are) - i64::from(were);
            board.changed = true;
        }
        if now == 0 && board.floor.as_ref().is_some_and(|floor| floor.value == *value) {
            (board.floor_gone, board.changed) = (true, true);
        }
        if board.entries > 4 * self.asked_max {
            self.cut(&mut board)?;
        }
        self.open = Some(board);
        Ok(())
    }

    pub fn finish(mut self) -> rusqlite::Result<()> {
        let last = self.open.take();
        self.settle(last)
    }

    fn load(&self, group: &'w [Cell]) -> rusqlite::Result<Board<'w>> {
        let mut statement = self.connection.prepare_cached(&self.statements.load)?;
        let stored = statement.query_row(params_from_iter(group), |row| {
            let (number, value): (Option<i64>, Option<String>) = (row.get(1)?, row.get(2)?);
            Ok((row.get(0)?, number.zip(value).map(|(number, value)| RowOrigin::of(number, &value))))
        });
        let (entries, floor) = stored.optional()?.unwrap_or((0, None));
        Ok(Board { group, entries, floor, changed: false, floor_gone: false })
    }

    /// Too many entries: only the first are kept, and the floor rises to the last of them. A group that had
    /// no board gets one.
    fn cut(&self, board: &mut Board<'w>) -> rusqlite::Result<()> {
        let had = board.floor.is_some();
        let from = if had { &self.statements.first_of_board } else { &self.statements.first_of_rows };
        let first = self.first(from, board.group)?;
        board.floor = first.last().cloned();
        board.entries = first.len() as i64;
        if !had {
            return self.put_up(board.group, &first);
        }
        let mut beyond = board.group.to_vec();
        if let Some(floor) = &board.floor {
            beyond.extend([Cell::Integer(floor.number.0), Cell::Text(floor.value.clone())]);
        }
        self.run(&self.statements.drop_beyond, &beyond)
    }

    /// Writes down where a group ended up. A board that corrections have made too short is made anew, out of
    /// all rows of its group.
    fn settle(&self, board: Option<Board<'w>>) -> rusqlite::Result<()> {
        let Some(mut board) = board.filter(|board| board.changed) else { return Ok(()) };
        if board.floor.is_some() && board.entries < self.asked_max {
            self.run(&self.statements.clear, board.group)?;
            let first = self.first(&self.statements.first_of_rows, board.group)?;
            board.entries = first.len() as i64;
            board.floor = first.last().filter(|_| board.entries == 2 * self.asked_max).cloned();
            if board.floor.is_some() {
                self.put_up(board.group, &first)?;
            }
        } else if board.floor_gone {
            // Drawn at what is on the board, it names nobody who was erased.
            board.floor = self.first(&self.statements.last_of_board, board.group)?.pop();
        }
        if board.entries == 0 {
            return self.run(&self.statements.forget, board.group);
        }
        let mut row = board.group.to_vec();
        row.push(Cell::Integer(board.entries));
        row.extend(match board.floor {
            Some(floor) => [Cell::Integer(floor.number.0), Cell::Text(floor.value)],
            None => [Cell::Null, Cell::Null],
        });
        self.run(&self.statements.note, &row)
    }

    fn first(&self, sql: &str, group: &[Cell]) -> rusqlite::Result<Vec<RowOrigin>> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let parameters = group.iter().cloned().chain([Cell::Integer(2 * self.asked_max)]).collect::<Vec<_>>();
        let rows = statement.query_map(params_from_iter(parameters), |row| {
            Ok(RowOrigin::of(row.get(1)?, &row.get::<_, String>(0)?))
        })?;
        rows.collect()
    }

    fn put_up(&self, group: &[Cell], first: &[RowOrigin]) -> rusqlite::Result<()> {
        for place in first {
            let mut row = group.to_vec();
            row.extend([Cell::Text(place.value.clone()), Cell::Integer(place.number.0)]);
            self.run(&self.statements.enter, &row)?;
        }
        Ok(())
    }

    fn run(&self, sql: &str, parameters: &[Cell]) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute(params_from_iter(parameters)).map(drop)
    }
}

/// Names as SQL takes them. Parameters 1 to `group_columns` are the group.
struct Names {
    rows: String,
    boards: String,
    floors: String,
    value: String,
    number: String,
    group: String,
    order: String,
    group_columns: usize,
}

impl Names {
    fn of(table: &Table, ranking: &TopK) -> Self {
        let group_columns = table.key_columns - 1;
        let value = quote(&table.columns[group_columns].name);
        let number = quote(&table.columns[table.key_columns].name);
        Self {
            rows: quote(&table.name),
            boards: quote(&ranking.boards),
            floors: quote(&ranking.floors),
            group: equal(&table.columns[..group_columns], 1),
            order: format!("{number} DESC, {value} = '', {value}"),
            value,
            number,
            group_columns,
        }
    }
}

struct Statements {
    load: String,
    note: String,
    forget: String,
    enter: String,
    leave: String,
    clear: String,
    drop_beyond: String,
    first_of_rows: String,
    first_of_board: String,
    last_of_board: String,
}

impl Statements {
    fn of(names: &Names) -> Self {
        let Names { rows, boards, floors, value, number, group, order, group_columns } = names;
        let next = |beyond: usize| group_columns + beyond;
        let marks = |count: usize| vec!["?"; count].join(", ");
        let first_of = |table: &str| {
            let limit = next(1);
            format!("SELECT {value}, {number} FROM {table} WHERE {group} ORDER BY {order} LIMIT ?{limit}")
        };
        let (floor, floor_value) = (next(1), next(2));
        Self {
            load: format!("SELECT entries, \"floor\", floor_value FROM {floors} WHERE {group}"),
            note: format!("INSERT OR REPLACE INTO {floors} VALUES ({})", marks(next(3))),
            forget: format!("DELETE FROM {floors} WHERE {group}"),
            enter: format!("INSERT OR REPLACE INTO {boards} VALUES ({})", marks(next(2))),
            leave: format!("DELETE FROM {boards} WHERE {group} AND {value} = ?{}", next(1)),
            clear: format!("DELETE FROM {boards} WHERE {group}"),
            drop_beyond: format!(
                "DELETE FROM {boards} WHERE {group} AND (-{number}, {value} = '', {value}) > (-?{floor}, ?{floor_value} = '', ?{floor_value})"
            ),
            first_of_rows: first_of(rows),
            first_of_board: first_of(boards),
            last_of_board: format!(
                "SELECT {value}, {number} FROM {boards} WHERE {group} ORDER BY {number}, {value} <> '', {value} DESC LIMIT min(1, ?{})",
                next(1)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::store::sqlite::{counts, read_rows, statements};
    use crate::store::{Verb, Write};

    const ASKED_MAX: usize = 3;

    fn ranking() -> TopK {
        TopK { boards: "top".to_owned(), floors: "floors".to_owned(), asked_max: ASKED_MAX }
    }

    fn counts() -> Table {
        let text = ColumnKind::Text { chars_max: 9 };
        let columns =
            [("grp", text), ("day", ColumnKind::Integer), ("value", text), ("n", ColumnKind::Integer)];
        Table::new("counts", 3, &columns).with(DerivedIndex::TopK(ranking()))
    }

    type Model = BTreeMap<(u8, i64, String), i64>;

    fn write(connection: &Connection, table: &Arc<Table>, rows: Model) {
        let cells = rows.into_iter().filter(|(_, n)| *n != 0).flat_map(|((group, day, value), n)| {
            [Cell::Text(group.to_string()), Cell::Integer(day), Cell::Text(value), Cell::Integer(n)]
        });
        let write = Write { table: Arc::clone(table), verb: Verb::Tally, cells: cells.collect() };
        counts::carry_out(connection, &write).expect("counted");
    }

    /// The first of a group, as a walk over all rows finds them.
    fn walked(model: &Model, group: u8, day: i64) -> Vec<(String, i64)> {
        let rows = model.iter().filter(|((of, on, _), _)| (*of, *on) == (group, day));
        let mut places: Vec<RowOrigin> = rows.map(|((_, _, value), n)| RowOrigin::of(*n, value)).collect();
        places.sort();
        places.truncate(ASKED_MAX);
        places.into_iter().map(|place| (place.value, place.number.0)).collect()
    }

    fn asked(connection: &Connection, table: &Table, group: u8, day: i64) -> Vec<(String, i64)> {
        let group = vec![Cell::Text(group.to_string()), Cell::Integer(day)];
        let select = top(table, &ranking(), group, ASKED_MAX);
        let row = |row: Vec<Cell>| match row.as_slice() {
            [Cell::Text(value), Cell::Integer(n)] => (value.clone(), *n),
            other => panic!("{other:?}"),
        };
        let rows = read_rows(connection, &select.sql, &select.parameters).expect("rows");
        rows.into_iter().map(row).collect()
    }

    /// A board holds what is not behind its floor, and its entries are counted.
    fn sound(connection: &Connection) -> bool {
        let wrong = "SELECT COUNT(*) FROM floors AS f WHERE CASE WHEN \"floor\" IS NULL
             THEN entries <> (SELECT COUNT(*) FROM counts AS c WHERE (c.grp, c.day) = (f.grp, f.day))
               OR EXISTS (SELECT 1 FROM top AS t WHERE (t.grp, t.day) = (f.grp, f.day))
             ELSE entries <> (SELECT COUNT(*) FROM top AS t WHERE (t.grp, t.day) = (f.grp, f.day))
               OR EXISTS (SELECT value, n FROM counts AS c WHERE (c.grp, c.day) = (f.grp, f.day)
                    AND (-n, value = '', value) <= (-\"floor\", floor_value = '', floor_value)
                    EXCEPT SELECT value, n FROM top AS t WHERE (t.grp, t.day) = (f.grp, f.day)) END";
        let wrong: i64 = connection.query_row(wrong, [], |row| row.get(0)).expect("a number");
        wrong == 0
    }

    fn made() -> (Connection, Arc<Table>) {
        let connection = Connection::open_in_memory().expect("opens");
        super::super::counts::install(&connection).expect("a function");
        let table = counts();
        for table in std::iter::once(table.clone()).chain(statements::derived_index(&table)) {
            connection.execute_batch(&statements::create_table(&table, false)).expect("a table");
        }
        (connection, Arc::new(table))
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(80))]
        #[test]
        fn the_first_of_a_group_are_those_that_a_walk_would_find(
            batches in proptest::collection::vec(
                proptest::collection::vec((0_u8..2, 0_i64..2, 0_u8..40, 1_i64..4, proptest::bool::weighted(0.45)), 1..80),
                1..12,
            )
        ) {
            let (connection, table) = made();
            let mut model = Model::new();
            for batch in batches {
                let mut folded = Model::new();
                for (group, day, value, size, corrects) in batch {
                    let value = if value == 0 { String::new() } else { value.to_string() };
                    let there = model.entry((group, day, value.clone())).or_default();
                    // Only what was counted can be taken back.
                    let change = if corrects { -size.min(*there) } else { size };
                    *there += change;
                    *folded.entry((group, day, value)).or_default() += change;
                }
                write(&connection, &table, folded);
                model.retain(|_, n| *n != 0);
                proptest::prop_assert!(sound(&connection));
                for (group, day) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    proptest::prop_assert_eq!(asked(&connection, &table, group, day), walked(&model, group, day));
                }
            }
        }
    }

    #[test]
    fn what_is_asked_for_does_not_walk_over_a_group_that_has_a_board() {
        let (connection, table) = made();
        let rows = (0..1_000_i64).map(|value| ((1, 0, value.to_string()), 1 + value % 50));
        write(&connection, &table, rows.collect());
        let board: i64 =
            connection.query_row("SELECT COUNT(*) FROM top", [], |row| row.get(0)).expect("a number");
        assert!((ASKED_MAX as i64..=4 * ASKED_MAX as i64).contains(&board), "{board}");
        connection
            .execute("UPDATE counts SET n = 1000 WHERE value = '1'", [])
            .expect("a row that nobody told of");
        assert_eq!(asked(&connection, &table, 1, 0)[0], ("149".to_owned(), 50));
    }

    /// A value is a user's, and whoever is erased is to leave nothing behind.
    #[test]
    fn a_floor_does_not_keep_a_value_that_has_gone() {
        let (connection, table) = made();
        let rows = (0..200_i64).map(|value| ((1, 0, format!("v{value}")), 1 + value));
        write(&connection, &table, rows.collect());
        let floor = || -> String {
            let sql = "SELECT floor_value FROM floors";
            connection.query_row(sql, [], |row| row.get(0)).expect("a floor")
        };
        let gone = floor();
        let n: i64 = connection
            .query_row("SELECT n FROM counts WHERE value = ?1", [&gone], |row| row.get(0))
            .expect("a row");
        // First beyond its own floor, then away altogether.
        for change in [1 - n, -1] {
            write(&connection, &table, Model::from([((1, 0, gone.clone()), change)]));
            assert!(sound(&connection));
        }
        assert_ne!(floor(), gone);
    }
}
