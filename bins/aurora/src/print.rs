//! Printing answers: text tables for people, JSON and YAML for programs.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::Result;
use aurora_core::deploy_file::Problem;
use serde::Serialize;

use crate::cli::Output;

/// Prints a document as JSON or YAML; for text `as_text` makes the lines.
pub(crate) fn document<T: Serialize>(
    output: Output,
    value: &T,
    as_text: impl FnOnce(&T) -> String,
) -> Result<()> {
    let text = match output {
        Output::Json => serde_json::to_string_pretty(value)? + "\n",
        Output::Yaml => yaml(value)?,
        Output::Text => as_text(value),
    };
    write(&text)
}

/// Prints one of several documents: a line of JSON, or a YAML document with its separator.
pub(crate) fn event<T: Serialize>(output: Output, value: &T) -> Result<()> {
    if output == Output::Yaml {
        return write(&format!("---\n{}", yaml(value)?));
    }
    json_line(value)
}

/// Prints one line of JSON.
pub(crate) fn json_line<T: Serialize>(value: &T) -> Result<()> {
    write(&(serde_json::to_string(value)? + "\n"))
}

/// A value as a YAML document.
pub(crate) fn yaml<T: Serialize>(value: &T) -> Result<String> {
    Ok(serde_saphyr::to_string(&serde_json::to_value(value)?)?)
}

/// Writes to standard output; a reader that has gone away is not an error.
pub(crate) fn write(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// Writes a line for people to standard error.
pub(crate) fn note(text: &str) {
    // Nobody can be told when even standard error is closed.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether standard output is a terminal that can redraw.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Prints problems: as data on standard output, or as lines on standard error.
pub(crate) fn problems(output: Output, problems: &[Problem]) -> Result<()> {
    if output != Output::Text {
        return document(output, &serde_json::json!({ "problems": problems }), |_| {
            String::new()
        });
    }
    for problem in problems {
        let severity = if problem.is_error() { "error" } else { "warning" };
        note(&format!("{severity}: {problem}"));
    }
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    if errors > 0 {
        note(&format!("{errors} error(s); nothing was deployed"));
    }
    Ok(())
}

/// Lines up rows under a heading; the last column is as wide as it wants.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heading.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let heading: Vec<String> = heading.iter().map(|cell| (*cell).to_owned()).collect();
    for row in std::iter::once(&heading).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(width.saturating_sub(cell.chars().count()) + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".into(), "1".into()], vec!["longer".into(), "2".into()]];
        assert_eq!(table(&["NAME", "N"], &rows), "NAME    N\na       1\nlonger  2\n");
    }
}
