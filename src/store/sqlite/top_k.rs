//! Rankings in SQLite without an index on the number: in such an index, every event would move a row.
//!
//! A small group has no board: a query reads and sorts its rows. A large group has a *board*, a copy of its top rows
//! in the top table, and a *floor*, the rank down to which the board is complete. The board contains every row of the
//! group that ranks at or above the floor. Most changed rows are below the floor, and cost one comparison.

use std::cmp::Reverse;

use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::statements::equal;
use crate::store::Select;
use crate::store::cell::Cell;
use crate::store::tables::{Column, ColumnKind, Table, TopK, quote};

/// Builds the query for the top `limit` rows of a group. A single statement reads board and floor from one snapshot.
pub fn top(table: &Table, ranking: &TopK, mut group: Vec<Cell>, limit: usize) -> Select {
    let names = Names::of(table, ranking);
    let Names { rows, boards, floors, value, number, group: condition, order, group_columns } = &names;
    group.push(Cell::Integer(limit.min(ranking.limit_max) as i64));
    let sql = format!(
        "SELECT {value}, {number} FROM (SELECT {value}, {number} FROM {boards} WHERE {condition} \
         UNION ALL SELECT {value}, {number} FROM (SELECT 1 FROM {floors} WHERE {condition} AND \"floor\" IS NULL) \
         CROSS JOIN {rows} WHERE {condition}) ORDER BY {order} LIMIT ?{}",
        group_columns + 1
    );
    Select { sql, parameters: group }
}

/// Declares the two tables of a ranking: the top table with the boards, and the floor table.
pub fn tables(table: &Table, ranking: &TopK) -> [Table; 2] {
    let (value, number) = (&table.columns[table.key_columns - 1], &table.columns[table.key_columns]);
    let named = |name: &str, of: &Column, null: bool| Column { name: name.to_owned(), null, ..of.clone() };
    let mut floors = table.columns[..table.key_columns - 1].to_vec();
    let entries = Column { name: "entries".to_owned(), kind: ColumnKind::Integer, null: false };
    floors.extend([entries, named("floor", number, true), named("floor_value", value, true)]);
    [
        Table { name: ranking.top_table.clone(), ranking: None, ..table.clone() },
        Table {
            name: ranking.floor_table.clone(),
            columns: floors,
            key_columns: table.key_columns - 1,
            id: None,
            unique: None,
            by_bytes: None,
            ranking: None,
        },
    ]
}

/// The rank of a row in its group. A smaller value ranks higher.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    number: Reverse<i64>,
    /// True for the empty text, which ranks last among equal numbers.
    absent: bool,
    value: String,
}

impl Rank {
    fn of(number: i64, value: &str) -> Self {
        Self { number: Reverse(number), absent: value.is_empty(), value: value.to_owned() }
    }

    /// Returns whether a row ranks at or above this rank. For nearly every row, the number alone decides.
    fn includes(&self, number: i64, value: &str) -> bool {
        match number.cmp(&self.number.0) {
            std::cmp::Ordering::Equal => (value.is_empty(), value) <= (self.absent, self.value.as_str()),
            unequal => unequal.is_gt(),
        }
    }
}

/// The state of one group.
struct Board<'w> {
    group: &'w [Cell],
    /// The number of rows on the board. Without a floor, the number of rows in the group.
    entries: i64,
    /// `None` while the group has no board.
    floor: Option<Rank>,
    changed: bool,
    /// True if the row that defined the floor was deleted from the group.
    floor_gone: bool,
}

/// Updates the boards while the rows of one write are applied, group by group.
pub struct Boards<'c, 'w> {
    connection: &'c Connection,
    statements: Statements,
    limit_max: i64,
    open: Option<Board<'w>>,
}

impl<'c, 'w> Boards<'c, 'w> {
    pub fn new(connection: &'c Connection, table: &Table, ranking: &TopK) -> Self {
        let statements = Statements::of(&Names::of(table, ranking));
        Self { connection, statements, limit_max: ranking.limit_max as i64, open: None }
    }

    /// Handles a row whose number changed from `was` to `now`. 0 stands for a missing row.
    pub fn update(&mut self, key: &'w [Cell], was: i64, now: i64) -> rusqlite::Result<()> {
        let [group @ .., Cell::Text(value)] = key else {
            panic!("the last key column of a ranking must be text")
        };
        let mut board = match self.open.take() {
            Some(board) if board.group == group => board,
            other => {
                self.store(other)?;
                self.load(group)?
            }
        };
        let (was_inside, is_inside) = match &board.floor {
            None => (was != 0, now != 0),
            Some(floor) => {
                let inside = |number: i64| number != 0 && floor.includes(number, value);
                (inside(was), inside(now))
            }
        };
        if board.floor.is_some() && is_inside {
            let entry = key.iter().chain(std::iter::once(&Cell::Integer(now))).cloned().collect::<Vec<_>>();
            self.run(&self.statements.enter, &entry)?;
        } else if board.floor.is_some() && was_inside {
            self.run(&self.statements.leave, key)?;
        }
        if was_inside != is_inside {
            board.entries += i64::from(is_inside) - i64::from(was_inside);
            board.changed = true;
        }
        if now == 0 && board.floor.as_ref().is_some_and(|floor| floor.value == *value) {
            (board.floor_gone, board.changed) = (true, true);
        }
        if board.entries > 4 * self.limit_max {
            self.trim(&mut board)?;
        }
        self.open = Some(board);
        Ok(())
    }

    pub fn finish(mut self) -> rusqlite::Result<()> {
        let last = self.open.take();
        self.store(last)
    }

    fn load(&self, group: &'w [Cell]) -> rusqlite::Result<Board<'w>> {
        let mut statement = self.connection.prepare_cached(&self.statements.load)?;
        let stored = statement.query_row(params_from_iter(group), |row| {
            let (number, value): (Option<i64>, Option<String>) = (row.get(1)?, row.get(2)?);
            Ok((row.get(0)?, number.zip(value).map(|(number, value)| Rank::of(number, &value))))
        });
        let (entries, floor) = stored.optional()?.unwrap_or((0, None));
        Ok(Board { group, entries, floor, changed: false, floor_gone: false })
    }

    /// Reduces a group with too many entries to its top rows, and raises the floor to the last of them. A group
    /// without a board gets one.
    fn trim(&self, board: &mut Board<'w>) -> rusqlite::Result<()> {
        let had = board.floor.is_some();
        let from = if had { &self.statements.first_of_board } else { &self.statements.first_of_rows };
        let first = self.first(from, board.group)?;
        board.floor = first.last().cloned();
        board.entries = first.len() as i64;
        if !had {
            return self.insert_entries(board.group, &first);
        }
        let mut beyond = board.group.to_vec();
        if let Some(floor) = &board.floor {
            beyond.extend([Cell::Integer(floor.number.0), Cell::Text(floor.value.clone())]);
        }
        self.run(&self.statements.drop_beyond, &beyond)
    }

    /// Stores the state of a group if it has changed. A board that corrections have made too short is rebuilt from
    /// all rows of its group.
    fn store(&self, board: Option<Board<'w>>) -> rusqlite::Result<()> {
        let Some(mut board) = board.filter(|board| board.changed) else { return Ok(()) };
        if board.floor.is_some() && board.entries < self.limit_max {
            self.run(&self.statements.clear, board.group)?;
            let first = self.first(&self.statements.first_of_rows, board.group)?;
            board.entries = first.len() as i64;
            board.floor = first.last().filter(|_| board.entries == 2 * self.limit_max).cloned();
            if board.floor.is_some() {
                self.insert_entries(board.group, &first)?;
            }
        } else if board.floor_gone {
            // The new floor is a row on the board, so it does not contain the value of an erased row.
            board.floor = self.first(&self.statements.last_of_board, board.group)?.pop();
        }
        if board.entries == 0 {
            return self.run(&self.statements.delete, board.group);
        }
        let mut row = board.group.to_vec();
        row.push(Cell::Integer(board.entries));
        row.extend(match board.floor {
            Some(floor) => [Cell::Integer(floor.number.0), Cell::Text(floor.value)],
            None => [Cell::Null, Cell::Null],
        });
        self.run(&self.statements.save, &row)
    }

    /// Returns the top rows of a group: twice as many as a query may ask for, or fewer.
    fn first(&self, sql: &str, group: &[Cell]) -> rusqlite::Result<Vec<Rank>> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let parameters = group.iter().cloned().chain([Cell::Integer(2 * self.limit_max)]).collect::<Vec<_>>();
        let rows = statement.query_map(params_from_iter(parameters), |row| {
            Ok(Rank::of(row.get(1)?, &row.get::<_, String>(0)?))
        })?;
        rows.collect()
    }

    fn insert_entries(&self, group: &[Cell], first: &[Rank]) -> rusqlite::Result<()> {
        for rank in first {
            let mut row = group.to_vec();
            row.extend([Cell::Text(rank.value.clone()), Cell::Integer(rank.number.0)]);
            self.run(&self.statements.enter, &row)?;
        }
        Ok(())
    }

    fn run(&self, sql: &str, parameters: &[Cell]) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute(params_from_iter(parameters)).map(drop)
    }
}

/// Quoted names and SQL fragments. Parameters 1 to `group_columns` are the group.
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
            boards: quote(&ranking.top_table),
            floors: quote(&ranking.floor_table),
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
    save: String,
    delete: String,
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
            save: format!("INSERT OR REPLACE INTO {floors} VALUES ({})", marks(next(3))),
            delete: format!("DELETE FROM {floors} WHERE {group}"),
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

    const LIMIT_MAX: usize = 3;

    fn ranking() -> TopK {
        TopK { top_table: "top".to_owned(), floor_table: "floors".to_owned(), limit_max: LIMIT_MAX }
    }

    fn counts() -> Table {
        let text = ColumnKind::Text { chars_max: 9 };
        let columns =
            [("grp", text), ("day", ColumnKind::Integer), ("value", text), ("n", ColumnKind::Integer)];
        Table { ranking: Some(ranking()), ..Table::new("counts", 3, &columns) }
    }

    type Model = BTreeMap<(u8, i64, String), i64>;

    fn write(connection: &Connection, table: &Arc<Table>, rows: Model) {
        let cells = rows.into_iter().filter(|(_, n)| *n != 0).flat_map(|((group, day, value), n)| {
            [Cell::Text(group.to_string()), Cell::Integer(day), Cell::Text(value), Cell::Integer(n)]
        });
        let write = Write { table: Arc::clone(table), verb: Verb::Tally, cells: cells.collect() };
        counts::tally(connection, &write.table, &write.cells).expect("counted");
    }

    /// Returns the top rows of a group by a scan of all rows.
    fn scanned(model: &Model, group: u8, day: i64) -> Vec<(String, i64)> {
        let rows = model.iter().filter(|((of, on, _), _)| (*of, *on) == (group, day));
        let mut ranks: Vec<Rank> = rows.map(|((_, _, value), n)| Rank::of(*n, value)).collect();
        ranks.sort();
        ranks.truncate(LIMIT_MAX);
        ranks.into_iter().map(|rank| (rank.value, rank.number.0)).collect()
    }

    fn queried(connection: &Connection, table: &Table, group: u8, day: i64) -> Vec<(String, i64)> {
        let group = vec![Cell::Text(group.to_string()), Cell::Integer(day)];
        let select = top(table, &ranking(), group, LIMIT_MAX);
        let row = |row: Vec<Cell>| match row.as_slice() {
            [Cell::Text(value), Cell::Integer(n)] => (value.clone(), *n),
            other => panic!("{other:?}"),
        };
        let rows = read_rows(connection, &select.sql, &select.parameters).expect("rows");
        rows.into_iter().map(row).collect()
    }

    /// Returns whether every board contains all rows at or above its floor, and every entry count is right.
    fn boards_are_consistent(connection: &Connection) -> bool {
        let sql = "SELECT COUNT(*) FROM floors AS f WHERE CASE WHEN \"floor\" IS NULL
             THEN entries <> (SELECT COUNT(*) FROM counts AS c WHERE (c.grp, c.day) = (f.grp, f.day))
               OR EXISTS (SELECT 1 FROM top AS t WHERE (t.grp, t.day) = (f.grp, f.day))
             ELSE entries <> (SELECT COUNT(*) FROM top AS t WHERE (t.grp, t.day) = (f.grp, f.day))
               OR EXISTS (SELECT value, n FROM counts AS c WHERE (c.grp, c.day) = (f.grp, f.day)
                    AND (-n, value = '', value) <= (-\"floor\", floor_value = '', floor_value)
                    EXCEPT SELECT value, n FROM top AS t WHERE (t.grp, t.day) = (f.grp, f.day)) END";
        let inconsistent: i64 = connection.query_row(sql, [], |row| row.get(0)).expect("a number");
        inconsistent == 0
    }

    fn new_database() -> (Connection, Arc<Table>) {
        let connection = Connection::open_in_memory().expect("opens");
        super::super::counts::install(&connection).expect("a function");
        let table = counts();
        for table in
            std::iter::once(table.clone()).chain(super::super::ranking_tables::ranking_tables(&table))
        {
            connection.execute_batch(&statements::create_table(&table, false)).expect("a table");
        }
        (connection, Arc::new(table))
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(80))]
        #[test]
        fn the_top_rows_of_a_group_equal_those_of_a_full_scan(
            batches in proptest::collection::vec(
                proptest::collection::vec((0_u8..2, 0_i64..2, 0_u8..40, 1_i64..4, proptest::bool::weighted(0.45)), 1..80),
                1..12,
            )
        ) {
            let (connection, table) = new_database();
            let mut model = Model::new();
            for batch in batches {
                let mut folded = Model::new();
                for (group, day, value, size, corrects) in batch {
                    let value = if value == 0 { String::new() } else { value.to_string() };
                    let there = model.entry((group, day, value.clone())).or_default();
                    // Only counted events can be corrected.
                    let change = if corrects { -size.min(*there) } else { size };
                    *there += change;
                    *folded.entry((group, day, value)).or_default() += change;
                }
                write(&connection, &table, folded);
                model.retain(|_, n| *n != 0);
                proptest::prop_assert!(boards_are_consistent(&connection));
                for (group, day) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    proptest::prop_assert_eq!(queried(&connection, &table, group, day), scanned(&model, group, day));
                }
            }
        }
    }

    #[test]
    fn a_query_does_not_scan_a_group_that_has_a_board() {
        let (connection, table) = new_database();
        let rows = (0..1_000_i64).map(|value| ((1, 0, value.to_string()), 1 + value % 50));
        write(&connection, &table, rows.collect());
        let board: i64 =
            connection.query_row("SELECT COUNT(*) FROM top", [], |row| row.get(0)).expect("a number");
        assert!((LIMIT_MAX as i64..=4 * LIMIT_MAX as i64).contains(&board), "{board}");
        connection
            .execute("UPDATE counts SET n = 1000 WHERE value = '1'", [])
            .expect("a change that the board does not see");
        assert_eq!(queried(&connection, &table, 1, 0)[0], ("149".to_owned(), 50));
    }

    /// Values are users' data, so an erasure must leave no copy.
    #[test]
    fn a_floor_does_not_keep_a_deleted_value() {
        let (connection, table) = new_database();
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
        // The row first falls below its own floor, and is then deleted.
        for change in [1 - n, -1] {
            write(&connection, &table, Model::from([((1, 0, gone.clone()), change)]));
            assert!(boards_are_consistent(&connection));
        }
        assert_ne!(floor(), gone);
    }
}
