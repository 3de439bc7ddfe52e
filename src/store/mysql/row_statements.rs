//! Splits rows, laid end to end, into statements. Each statement has as many rows as the limits on parameters and
//! packet size allow, and always a power of two, so that a few prepared statements are enough for any batch.

use event::limits::{MYSQL_PARAMETERS_MAX, MYSQL_STATEMENT_BYTES_MAX};
use mysql_async::Value;

use super::{Session, WriteResult, cells, errors};
use crate::store::StoreError;

/// Bytes reserved in a packet for everything but its values.
const PACKET_OVERHEAD_BYTES: usize = 1_024;

/// The number of rows in one of the statements that a batch was split into, and its result.
pub(super) type StatementResult = (usize, WriteResult);

impl Session {
    /// Returns the size of the largest row that fits into a packet.
    pub fn row_bytes_max(&self) -> usize {
        self.packet_bytes_max.saturating_sub(PACKET_OVERHEAD_BYTES)
    }

    /// Writes all values, of which `width` are one row. `statement` returns the SQL for a number of rows.
    pub(super) async fn write_rows(
        &mut self,
        width: usize,
        mut values: impl Iterator<Item = Result<Value, StoreError>> + Send,
        statement: impl Fn(usize) -> String + Send,
    ) -> Result<Vec<StatementResult>, StoreError> {
        let mut written = Vec::new();
        let (packet_bytes_max, mut next_row) = (self.packet_bytes_max, Vec::with_capacity(width));
        let mut next = PendingRows::new(width, packet_bytes_max);
        next.fill(&mut values, &mut next_row)?;
        while next.rows() > 0 {
            let mut now = std::mem::replace(&mut next, PendingRows::new(width, packet_bytes_max));
            // While the server works on these rows, the next ones are encoded.
            let writing = self.write_pending(&mut now, &statement, &mut written);
            let (sent, filled) = tokio::join!(writing, async { next.fill(&mut values, &mut next_row) });
            sent.and(filled)?;
        }
        Ok(written)
    }

    async fn write_pending(
        &mut self,
        pending: &mut PendingRows,
        statement: &(impl Fn(usize) -> String + Send),
        written: &mut Vec<StatementResult>,
    ) -> Result<(), StoreError> {
        while pending.rows() > 0 {
            let (rows, values) = pending.take();
            written.push((rows, self.write(&statement(rows), values).await?));
        }
        pending.bytes = 0;
        Ok(())
    }
}

/// Rows for the next statements.
struct PendingRows {
    width: usize,
    rows_max: usize,
    bytes_max: usize,
    packet_bytes_max: usize,
    values: std::collections::VecDeque<Value>,
    bytes: usize,
}

impl PendingRows {
    fn new(width: usize, packet_bytes_max: usize) -> Self {
        let packet_bytes_max = packet_bytes_max.saturating_sub(PACKET_OVERHEAD_BYTES);
        Self {
            width,
            rows_max: largest_power(MYSQL_PARAMETERS_MAX / width),
            bytes_max: packet_bytes_max.min(MYSQL_STATEMENT_BYTES_MAX),
            packet_bytes_max,
            values: std::collections::VecDeque::new(),
            bytes: 0,
        }
    }

    fn rows(&self) -> usize {
        self.values.len() / self.width
    }

    /// Adds rows until one does not fit. That row stays in `next_row`.
    fn fill(
        &mut self,
        values: &mut impl Iterator<Item = Result<Value, StoreError>>,
        next_row: &mut Vec<Value>,
    ) -> Result<(), StoreError> {
        loop {
            while next_row.len() < self.width {
                match values.next() {
                    Some(value) => next_row.push(value?),
                    None => return Ok(()),
                }
            }
            if !self.has_room(next_row)? {
                return Ok(());
            }
            self.push(next_row);
        }
    }

    /// Returns whether another row fits. Fails if the row alone is too large for a packet.
    fn has_room(&self, row: &[Value]) -> Result<bool, StoreError> {
        let bytes: usize = row.iter().map(cells::packet_bytes).sum();
        if bytes > self.packet_bytes_max {
            return Err(StoreError::Data(errors::too_large()));
        }
        Ok(self.values.is_empty() || (self.rows() < self.rows_max && self.bytes + bytes <= self.bytes_max))
    }

    /// Adds the row, and leaves `row` empty.
    fn push(&mut self, row: &mut Vec<Value>) {
        self.bytes += row.iter().map(cells::packet_bytes).sum::<usize>();
        self.values.extend(row.drain(..));
    }

    /// Removes the largest power of two of rows, and returns their number and their values.
    fn take(&mut self) -> (usize, Vec<Value>) {
        let rows = largest_power(self.rows());
        (rows, self.values.drain(..rows * self.width).collect())
    }
}

/// Returns the largest power of two up to `number`, or 1 for 0.
pub fn largest_power(number: usize) -> usize {
    1 << number.max(1).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(bytes: usize) -> Vec<Value> {
        vec![Value::Int(1), Value::Bytes(vec![0; bytes])]
    }

    #[test]
    fn rows_are_split_into_powers_of_two() {
        let mut pending = PendingRows::new(2, usize::MAX);
        assert!(pending.rows_max >= 512 && pending.rows_max * 2 <= MYSQL_PARAMETERS_MAX);
        for _ in 0..pending.rows_max - 1 {
            assert_eq!(pending.has_room(&row(1)), Ok(true));
            pending.push(&mut row(1));
        }
        let mut sizes = Vec::new();
        while pending.rows() > 0 {
            let (rows, values) = pending.take();
            assert_eq!(values.len(), rows * 2);
            sizes.push(rows);
        }
        let expected: Vec<usize> = (0..pending.rows_max.ilog2()).rev().map(|power| 1 << power).collect();
        assert_eq!(sizes, expected);
    }

    #[test]
    fn statements_fit_a_packet_and_a_larger_row_is_a_data_error() {
        let mut pending = PendingRows::new(2, 64 * 1024 + PACKET_OVERHEAD_BYTES);
        assert_eq!(pending.has_room(&row(60_000)), Ok(true));
        pending.push(&mut row(60_000));
        assert_eq!(pending.has_room(&row(10_000)), Ok(false));
        assert!(matches!(pending.has_room(&row(70_000)), Err(StoreError::Data(_))));
    }
}
