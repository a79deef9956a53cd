//! CSV as gateways and banks write it: RFC 4180, with what they add to it (a byte order mark, blank lines, bare line feeds, other
//! separators, blanks around quotes).
//!
//! The `csv` crate takes a quote behind a blank (`, "1,850.00 "`, as banks write it) for a letter and parts the amount at its comma,
//! and has no setting for it; so this is read here.

/// One line with its number in the file, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) number: usize,
    pub(crate) cells: Vec<String>,
}

/// Splits a file into lines of cells. Lines without any text are left out.
pub(crate) fn read(text: &str, separator: char) -> Result<Vec<Line>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = Vec::new();
    let (mut cells, mut cell) = (Vec::new(), String::new());
    let (mut number, mut started) = (1_usize, 1_usize);
    // A quote opens a cell only at its beginning; behind a closed one nothing may follow.
    let (mut quoted, mut closed) = (false, false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.next_if_eq(&'"').is_some() => cell.push('"'),
            '"' if quoted => (quoted, closed) = (false, true),
            '"' if !closed && cell.trim().is_empty() => {
                cell.clear();
                quoted = true;
            }
            _ if letter == separator && !quoted => {
                cells.push(std::mem::take(&mut cell));
                closed = false;
            }
            '\r' if !quoted && letters.peek() == Some(&'\n') => {}
            '\n' | '\r' if !quoted => {
                cells.push(std::mem::take(&mut cell));
                closed = false;
                number = number.saturating_add(1);
                keep(&mut lines, started, std::mem::take(&mut cells));
                started = number;
            }
            _ if closed && letter.is_whitespace() => {}
            _ if closed => return Err(format!("line {number}: something follows a closing quote")),
            _ => {
                if letter == '\n' {
                    number = number.saturating_add(1);
                }
                cell.push(letter);
            }
        }
    }
    if quoted {
        return Err(format!("line {started}: a quote is never closed"));
    }
    cells.push(cell);
    keep(&mut lines, started, cells);
    Ok(lines)
}

fn keep(lines: &mut Vec<Line>, number: usize, cells: Vec<String>) {
    if cells.iter().any(|cell| !cell.trim().is_empty()) {
        lines.push(Line { number, cells });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(text: &str) -> Vec<(usize, Vec<String>)> {
        let lines = read(text, ',').unwrap();
        lines.into_iter().map(|l| (l.number, l.cells)).collect()
    }

    #[test]
    fn lines_are_split_as_spreadsheets_write_them() {
        let text = "\u{feff}id,words,amount\r\n\r\npay_1,\"a, \"\"b\"\"\",1\n,,\npay_2,\"two\nlines\",\"2\"\n\"\",x,3";
        let owned = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        assert_eq!(
            cells(text),
            [
                (1, owned(["id", "words", "amount"])),
                (3, owned(["pay_1", "a, \"b\"", "1"])),
                (5, owned(["pay_2", "two\nlines", "2"])),
                (7, owned(["", "x", "3"])),
            ]
        );
        assert!(cells("").is_empty());
        assert_eq!(cells("a\rb").len(), 2);
        let bank = read("a;\"b;c\" ; \"1,850.00 \"\n\t\n", ';').unwrap();
        assert_eq!(bank[0].cells, owned(["a", "b;c", "1,850.00 "]));
        assert_eq!(bank.len(), 1);
    }

    #[test]
    fn quotes_that_do_not_fit_are_refused() {
        for text in ["a,\"b", "\"a\"b,c", "\"a\" b,c"] {
            assert!(read(text, ',').is_err(), "{text}");
        }
        // Inside a cell a quote is a letter.
        assert_eq!(
            cells("5\" pipe,1"),
            [(1, vec!["5\" pipe".to_owned(), "1".to_owned()])]
        );
    }
}
