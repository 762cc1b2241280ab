//! Printing answers: text tables for people, JSON and YAML for programs.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::Result;
use aurora_bin::exit::Exit;
use aurora_core::deploy_file::Problem;
use aurora_transport::rest::ProblemBody;
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

/// How wide the terminal is that standard output goes to; `None` where it goes elsewhere.
pub(crate) fn width() -> Option<usize> {
    let term = console::Term::stdout();
    let (_, columns) = term.is_term().then(|| term.size_checked())??;
    Some(usize::from(columns))
}

/// A line that fits a terminal, with `…` where something is left out; whole where there is no terminal.
pub(crate) fn cut(line: &str, width: Option<usize>) -> String {
    match width {
        // Narrower than this nothing is left of a line, and some terminals say 0 for unknown.
        Some(width) if width >= 20 => console::truncate_str(line, width, "…").into_owned(),
        _ => line.to_owned(),
    }
}

/// Why a command did not do it, as programs read it: one JSON line on standard error.
#[derive(Debug, Serialize)]
struct Failure<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    code: &'a str,
    message: &'a str,
    exit: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a ProblemBody>,
    #[serde(skip_serializing_if = "<[Problem]>::is_empty")]
    problems: &'a [Problem],
}

impl<'a> Failure<'a> {
    const fn new(code: &'a str, message: &'a str, exit: Exit) -> Self {
        Self {
            kind: "error",
            code,
            message,
            exit: exit.code(),
            problem: None,
            problems: &[],
        }
    }

    fn say(&self) {
        note(&serde_json::to_string(self).unwrap_or_default());
    }
}

/// Says why a command failed: for people in words, for programs with a stable code; always on standard error.
pub(crate) fn failure(output: Output, code: &str, message: &str, exit: Exit) -> Result<Exit> {
    if output == Output::Text {
        note(&format!("error: {message}"));
    } else {
        Failure::new(code, message, exit).say();
    }
    Ok(exit)
}

/// Says what the API answered instead of doing it.
pub(crate) fn refusal(output: Output, body: &ProblemBody, exit: Exit) {
    if output != Output::Text {
        let mut failure = Failure::new(&body.code, &body.detail, exit);
        failure.problem = Some(body);
        return failure.say();
    }
    note(&format!("error: {}", body.detail));
    for inner in body.errors.iter().filter(|inner| inner.message != body.detail) {
        note(&format!("  {inner}"));
    }
}

/// Says what is wrong with a deploy file that was to be used.
pub(crate) fn invalid(output: Output, problems: &[Problem]) -> Exit {
    let exit = Exit::Usage;
    if output == Output::Text {
        lines(problems);
        return exit;
    }
    let first = problems.iter().find(|problem| problem.is_error());
    let code = first.map_or("invalid", |problem| problem.code.as_str());
    let mut failure = Failure::new(code, "the deploy file cannot be deployed", exit);
    failure.problems = problems;
    failure.say();
    exit
}

/// Prints what a check of a deploy file found: as data on standard output, or as lines on standard error.
pub(crate) fn problems(output: Output, problems: &[Problem]) -> Result<()> {
    if output != Output::Text {
        return document(output, &serde_json::json!({ "problems": problems }), |_| {
            String::new()
        });
    }
    lines(problems);
    Ok(())
}

fn lines(problems: &[Problem]) {
    for problem in problems {
        let severity = if problem.is_error() { "error" } else { "warning" };
        note(&format!("{severity}: {problem}"));
    }
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    if errors > 0 {
        note(&format!("{errors} error(s); nothing was deployed"));
    }
}

/// Lines up rows under a heading, cut to the terminal where there is one.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    table_within(heading, rows, width())
}

fn table_within(heading: &[&str], rows: &[Vec<String>], width: Option<usize>) -> String {
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
        for (cell, column) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(column.saturating_sub(cell.chars().count()) + 2));
        }
        text.push_str(&cut(line.trim_end(), width));
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
        let table = table_within(&["NAME", "N"], &rows, None);
        assert_eq!(table, "NAME    N\na       1\nlonger  2\n");
    }

    #[test]
    fn a_line_is_cut_to_the_terminal_and_nowhere_else() {
        let line = "a line of thirty-two characters…";
        assert_eq!(cut(line, None), line);
        assert_eq!(cut(line, Some(0)), line);
        assert_eq!(cut(line, Some(32)), line);
        assert_eq!(cut(line, Some(24)), "a line of thirty-two ch…");
        assert_eq!(console::measure_text_width(&cut(line, Some(24))), 24);
    }

    #[test]
    fn what_programs_read_of_a_failure_has_its_code_and_exit() {
        let failure = Failure::new("context.missing", "there is no context", Exit::Failed);
        assert_eq!(
            serde_json::to_string(&failure).unwrap(),
            r#"{"type":"error","code":"context.missing","message":"there is no context","exit":1}"#
        );
    }
}
