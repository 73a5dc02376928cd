//! A table for the terminal.

/// Prints rows under a head, each column as wide as its widest cell.
pub fn print(head: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(String::len)
            .chain(head.get(column).map(|cell| cell.len()))
            .max()
            .unwrap_or(0)
    };
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<String> = cells
            .enumerate()
            .map(|(column, cell)| {
                let width = width(column);
                if column == 0 {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            })
            .collect();
        println!("{}", cells.join("  ").trim_end());
    };
    line(&mut head.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
}

/// The middle one of some times in milliseconds; absent if one of them is unknown.
pub fn median(times: &[Option<f64>]) -> Option<f64> {
    let mut known: Vec<f64> = times.iter().copied().collect::<Option<_>>()?;
    known.sort_by(f64::total_cmp);
    known.get(known.len() / 2).copied()
}

/// A time as a cell.
pub fn milliseconds(time: Option<f64>) -> String {
    time.map_or_else(|| "never".to_owned(), |time| format!("{time:.0} ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_unknown_where_one_time_is() {
        assert_eq!(median(&[Some(3.0), Some(1.0), Some(2.0)]), Some(2.0));
        assert_eq!(median(&[Some(3.0), None]), None);
        assert_eq!(median(&[]), None);
    }
}
