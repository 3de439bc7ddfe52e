//! Rows, end to end, cut into statements: as many rows in each as its parameters and the server's packets
//! allow, and always a power of two of them, so that a few prepared statements carry any batch.

use event::limits::{MYSQL_PARAMETERS_MAX, MYSQL_STATEMENT_BYTES_MAX};
use mysql_async::Value;

use super::{Session, Told, cells, errors};
use crate::store::StoreError;

/// What a packet holds beside its values.
const PACKET_BYTES_BESIDE: usize = 1_024;

/// One statement of those that a batch was cut into.
pub struct Written {
    pub rows: usize,
    pub met: u64,
    /// The number that the database gave to the first of its rows.
    pub first: Option<u64>,
}

impl Session {
    pub fn row_bytes_max(&self) -> usize {
        self.packet_bytes_max.saturating_sub(PACKET_BYTES_BESIDE)
    }

    /// Runs `statement` of so many rows until all values are written, `width` of them a row.
    pub(super) async fn write_rows(
        &mut self,
        width: usize,
        mut values: impl Iterator<Item = Result<Value, StoreError>> + Send,
        statement: impl Fn(usize) -> String + Send,
    ) -> Result<Vec<Written>, StoreError> {
        let mut written = Vec::new();
        let (packet_bytes_max, mut left) = (self.packet_bytes_max, Vec::with_capacity(width));
        let mut next = Waiting::new(width, packet_bytes_max);
        next.fill(&mut values, &mut left)?;
        while next.rows() > 0 {
            let mut now = std::mem::replace(&mut next, Waiting::new(width, packet_bytes_max));
            // While the server is at work on these, the next are put together.
            let writing = self.write_waiting(&mut now, &statement, &mut written);
            let (wrote, filled) = tokio::join!(writing, async { next.fill(&mut values, &mut left) });
            wrote.and(filled)?;
        }
        Ok(written)
    }

    async fn write_waiting(
        &mut self,
        waiting: &mut Waiting,
        statement: &(impl Fn(usize) -> String + Send),
        written: &mut Vec<Written>,
    ) -> Result<(), StoreError> {
        while waiting.rows() > 0 {
            let (rows, values) = waiting.take();
            let Told { met, first } = self.write(&statement(rows), values).await?;
            written.push(Written { rows, met, first });
        }
        waiting.bytes = 0;
        Ok(())
    }
}

/// Rows for the next statements.
struct Waiting {
    width: usize,
    rows_max: usize,
    bytes_max: usize,
    packet_bytes_max: usize,
    values: std::collections::VecDeque<Value>,
    bytes: usize,
}

impl Waiting {
    fn new(width: usize, packet_bytes_max: usize) -> Self {
        let packet_bytes_max = packet_bytes_max.saturating_sub(PACKET_BYTES_BESIDE);
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

    /// Takes rows in until there is no room for one, which is `left` for the next.
    fn fill(
        &mut self,
        values: &mut impl Iterator<Item = Result<Value, StoreError>>,
        left: &mut Vec<Value>,
    ) -> Result<(), StoreError> {
        loop {
            while left.len() < self.width {
                match values.next() {
                    Some(value) => left.push(value?),
                    None => return Ok(()),
                }
            }
            if !self.has_room(left)? {
                return Ok(());
            }
            self.push(left);
        }
    }

    /// A row that is too large for any packet is at fault by itself.
    fn has_room(&self, row: &[Value]) -> Result<bool, StoreError> {
        let bytes: usize = row.iter().map(cells::packet_bytes).sum();
        if bytes > self.packet_bytes_max {
            return Err(StoreError::Data(errors::too_large()));
        }
        Ok(self.values.is_empty() || (self.rows() < self.rows_max && self.bytes + bytes <= self.bytes_max))
    }

    /// Leaves the row empty.
    fn push(&mut self, row: &mut Vec<Value>) {
        self.bytes += row.iter().map(cells::packet_bytes).sum::<usize>();
        self.values.extend(row.drain(..));
    }

    fn take(&mut self) -> (usize, Vec<Value>) {
        let rows = largest_power(self.rows());
        (rows, self.values.drain(..rows * self.width).collect())
    }
}

/// The largest power of two up to `number`, and 1 for less.
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
    fn rows_are_cut_into_powers_of_two() {
        let mut waiting = Waiting::new(2, usize::MAX);
        assert!(waiting.rows_max >= 512 && waiting.rows_max * 2 <= MYSQL_PARAMETERS_MAX);
        for _ in 0..waiting.rows_max - 1 {
            assert_eq!(waiting.has_room(&row(1)), Ok(true));
            waiting.push(&mut row(1));
        }
        let mut sizes = Vec::new();
        while waiting.rows() > 0 {
            let (rows, values) = waiting.take();
            assert_eq!(values.len(), rows * 2);
            sizes.push(rows);
        }
        let expected: Vec<usize> = (0..waiting.rows_max.ilog2()).rev().map(|power| 1 << power).collect();
        assert_eq!(sizes, expected);
    }

    #[test]
    fn a_statement_is_no_larger_than_a_packet_and_a_row_that_is_larger_is_at_fault() {
        let mut waiting = Waiting::new(2, 64 * 1024 + PACKET_BYTES_BESIDE);
        assert_eq!(waiting.has_room(&row(60_000)), Ok(true));
        waiting.push(&mut row(60_000));
        assert_eq!(waiting.has_room(&row(10_000)), Ok(false));
        assert!(matches!(waiting.has_room(&row(70_000)), Err(StoreError::Data(_))));
    }
}
