//! When the tables are brought up to date.

use std::ops::Range;

/// The runs of rows that are coded with the same tables, in order.
///
/// Tables are renewed after every row at first and then ever more rarely: from 8 rows on after every second, from 16
/// after every fourth, from 128 on twice per doubling. What a table lacks is never more than half of what it has seen,
/// which costs little, and the work per symbol goes to nothing.
pub(super) fn batches(rows: usize) -> impl DoubleEndedIterator<Item = Range<usize>> {
    let mut ends = Vec::new();
    let mut row = 0;
    while row < rows {
        let step = match row {
            0..8 => 1,
            8..128 => 1 << (row.ilog2() - 2),
            _ => 1 << (row.ilog2() - 1),
        };
        row = rows.min(row + step);
        ends.push(row);
    }
    let starts: Vec<usize> = [0].into_iter().chain(ends.iter().copied()).collect();
    starts.into_iter().zip(ends).map(|(start, end)| start..end)
}

/// More batches than any plane has.
pub(super) const MOST: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_cover_all_rows_in_order() {
        for rows in (0..300).chain([6656, 1 << 20]) {
            let mut next = 0;
            for batch in batches(rows) {
                assert_eq!(batch.start, next);
                assert!(!batch.is_empty());
                assert!(batch.len() <= (next / 2).max(1));
                next = batch.end;
            }
            assert_eq!(next, rows);
        }
        assert_eq!(batches(6656).count(), 36);
        assert!(batches(usize::MAX / 2).count() < MOST);
    }
}
