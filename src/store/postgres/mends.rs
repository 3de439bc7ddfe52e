//! The SQL that mends a table which cannot carry its view, as a refusal names it.
