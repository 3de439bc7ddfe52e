//! The faults of an existing table that its view cannot use, all of them together, with the SQL that repairs them.

use std::fmt;

/// An existing table that its view cannot use as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFault {
    pub table: String,
    /// Each problem continues a sentence that begins with the table.
    pub problems: Vec<String>,
    /// The SQL statements that repair all problems, in the order in which they have to run. Empty if a person has to
    /// decide what to do; the problem says what.
    pub repair: Vec<String>,
}

impl TableFault {
    /// Describes something else, such as an SQL view, that has the name of a table.
    pub fn name_taken(table: &str) -> Self {
        let problem = "cannot be used, because an SQL view or another object that is not a table has this name; rename that object, or give the view another `table`";
        Self { table: table.to_owned(), problems: vec![problem.to_owned()], repair: Vec::new() }
    }

    /// Describes several faults in one line for a log or an API response.
    pub fn list(faults: &[Self]) -> String {
        faults.iter().map(Self::to_string).collect::<Vec<_>>().join("; also, ")
    }
}

impl fmt::Display for TableFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table `{}` {}", self.table, self.problems.join("; it "))?;
        if self.repair.is_empty() {
            Ok(())
        } else {
            write!(f, "; to fix it, run: {}", self.repair.join("; "))
        }
    }
}
