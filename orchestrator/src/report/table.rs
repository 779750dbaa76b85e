//! Columns that line up.

/// Where a column's text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Rows under a heading; two blanks between columns; no line ends in blanks.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(columns: &[(&str, Align)]) -> Self {
        let columns = columns.iter().map(|(name, align)| ((*name).to_owned(), *align)).collect();
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row of as many cells as there are columns.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.columns.len(), "a row has a cell for each column");
        self.rows.push(cells.into());
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = |text: &str| text.chars().count();
        let heading: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|c| self.rows.iter().chain([&heading]).map(|row| width(&row[c])).max().unwrap_or(0))
            .collect();
        for row in [&heading].into_iter().chain(&self.rows) {
            let mut line = String::new();
            for ((cell, (_, align)), full) in row.iter().zip(&self.columns).zip(&widths) {
                let blanks = " ".repeat(full - width(cell));
                match align {
                    Align::Left => line += &format!("{cell}{blanks}  "),
                    Align::Right => line += &format!("{blanks}{cell}  "),
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_no_line_ends_in_blanks() {
        let mut table = Table::new(&[("name", Align::Left), ("ops", Align::Right), ("why", Align::Left)]);
        table.row(["é".into(), "1,000".into(), String::new()]);
        table.row(["longer".into(), "2".into(), "x".into()]);
        assert_eq!(table.to_string(), "name      ops  why\né       1,000\nlonger      2  x\n");
    }
}
