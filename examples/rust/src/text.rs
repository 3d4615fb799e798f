//! Text and numbers as `labous analyze` writes them.
use std::path::{Component, Path, PathBuf};

/// A path as Python's pathlib writes it: without `./` and doubled slashes.
pub fn path(given: &str) -> String {
    let parts = Path::new(given).components().filter(|part| *part != Component::CurDir);
    parts.collect::<PathBuf>().to_string_lossy().into_owned()
}

/// A string of JSON in which nothing can steer a terminal: what is not printable is an escape.
pub fn json(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out += "\\n",
            '\r' => out += "\\r",
            '\t' => out += "\\t",
            '\u{8}' => out += "\\b",
            '\u{c}' => out += "\\f",
            _ if printable(c) => out.push(c),
            _ => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out += &format!("\\u{unit:04x}")),
        }
    }
    out + "\""
}

/// Rust's own table, which it shows in no other way; a mark stays itself behind a letter.
fn printable(c: char) -> bool {
    c == '\'' || ['a', c].iter().collect::<String>().escape_debug().count() == 2
}

/// To six digits, the shortest way, as Python writes them.
pub fn number(value: f64) -> String {
    let rounded: f64 = format!("{value:.6}").parse().expect("it was a number");
    format!("{rounded:?}").replace("e-", "e-0")
}
