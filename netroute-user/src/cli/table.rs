//! Plain tables: no lines, as wide as their content, numbers to the right.

use std::fmt::Write;

/// Between columns.
const GAP: &str = "  ";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Plain,
    Good,
    Notice,
    Bad,
}

impl Colour {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "\x1b[32m",
            Self::Notice => "\x1b[33m",
            Self::Bad => "\x1b[31m",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    colour: Colour,
}

impl Cell {
    pub fn coloured(text: impl ToString, colour: Colour) -> Self {
        Self { text: text.to_string(), colour }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, colour: Colour::Plain }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// Rows of one shape; a header that begins with `>` stands to the right.
pub struct Table {
    header: &'static [&'static str],
    rows: Vec<(Vec<Cell>, String)>,
    colour: bool,
}

impl Table {
    #[must_use]
    pub const fn new(header: &'static [&'static str], colour: bool) -> Self {
        Self { header, rows: Vec::new(), colour }
    }

    /// `note`: shown below the row, unless empty.
    pub fn row<const N: usize>(&mut self, cells: [Cell; N], note: &str) {
        self.rows.push((cells.into(), note.to_owned()));
    }

    #[must_use]
    pub fn render(&self) -> String {
        let width = |column: usize, header: &&str| {
            let cells = self.rows.iter().filter_map(|(cells, _)| cells.get(column));
            let widest = cells.map(|cell| cell.text.chars().count()).max().unwrap_or(0);
            widest.max(header.trim_start_matches('>').len())
        };
        let widths: Vec<usize> =
            self.header.iter().enumerate().map(|(column, header)| width(column, header)).collect();
        let mut text = String::new();
        let titles: Vec<Cell> =
            self.header.iter().map(|title| title.trim_start_matches('>').into()).collect();
        self.line(&mut text, &titles, &widths);
        for (cells, note) in &self.rows {
            self.line(&mut text, cells, &widths);
            if !note.is_empty() {
                let _ = writeln!(text, "    {note}");
            }
        }
        text
    }

    fn line(&self, text: &mut String, cells: &[Cell], widths: &[usize]) {
        let mut line = String::new();
        for ((Cell { text: word, colour }, &width), header) in cells.iter().zip(widths).zip(self.header) {
            let pad = " ".repeat(width.saturating_sub(word.chars().count()));
            let (before, after) =
                if header.starts_with('>') { (pad.as_str(), "") } else { ("", pad.as_str()) };
            let separator = if line.is_empty() { "" } else { GAP };
            line.extend([separator, before]);
            if self.colour && *colour != Colour::Plain {
                line.extend([colour.code(), word, "\x1b[0m"]);
            } else {
                line.push_str(word);
            }
            line.push_str(after);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// At most five characters: `999`, `1.2k`, `34M`.
#[must_use]
pub fn count(number: u64) -> String {
    scaled(number, 1000, &["", "k", "M", "G", "T", "P", "E"])
}

/// Bytes in powers of 1024: `999B`, `1.2Ki`, `34Mi`.
#[must_use]
pub fn bytes(number: u64) -> String {
    scaled(number, 1024, &["B", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"])
}

/// In the first unit whose rounded number is below `base`; one decimal below ten.
fn scaled(number: u64, base: u128, units: &[&str]) -> String {
    let mut scale = 1;
    for (index, unit) in units.iter().enumerate() {
        let tenths = (u128::from(number) * 10 + scale / 2) / scale;
        let whole = (tenths + 5) / 10;
        if index > 0 && tenths < 100 {
            return format!("{}.{}{unit}", tenths / 10, tenths % 10);
        }
        if whole < base || index + 1 == units.len() {
            return format!("{whole}{unit}");
        }
        scale *= base;
    }
    number.to_string()
}

/// `3d 4h`, `12m 5s`: the two largest units.
#[must_use]
pub fn duration(seconds: u64) -> String {
    let units = [(86_400, 'd'), (3_600, 'h'), (60, 'm'), (1, 's')];
    let mut left = seconds;
    let mut parts = Vec::new();
    for (size, name) in units {
        let amount = left / size;
        left %= size;
        if amount > 0 || (!parts.is_empty() && parts.len() < 2) {
            parts.push(format!("{amount}{name}"));
        }
        if parts.len() == 2 {
            break;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_content_and_numbers_stand_right() {
        let mut table = Table::new(&["NAME", ">PACKETS"], false);
        table.row(["a".into(), "5".into()], "");
        table.row([Cell::coloured("longer", Colour::Bad), "12345678".into()], "why");
        assert_eq!(table.render(), "NAME     PACKETS\na              5\nlonger  12345678\n    why\n");
    }

    #[test]
    fn colours_do_not_move_columns() {
        let mut table = Table::new(&["A", "B"], true);
        table.row([Cell::coloured("x", Colour::Good), "y".into()], "");
        assert_eq!(table.render(), "A  B\n\x1b[32mx\x1b[0m  y\n");
    }

    #[test]
    fn numbers_stay_short() {
        let words: Vec<_> =
            [0, 994, 999, 1000, 1_240, 99_960, 999_960, 34_000_000, u64::MAX].map(count).into();
        assert_eq!(words, ["0", "994", "999", "1.0k", "1.2k", "100k", "1.0M", "34M", "18E"]);
        assert_eq!([0, 1000, 1024, 1_500_000].map(bytes), ["0B", "1000B", "1.0Ki", "1.4Mi"]);
        assert_eq!(
            [0, 59, 60, 3_601, 90_000, 86_400].map(duration),
            ["0s", "59s", "1m 0s", "1h 0m", "1d 1h", "1d 0h"]
        );
    }
}
