//! YAML as these tests read it: with the options that manifests need.
#![allow(dead_code, reason = "each test program uses a part of it")]

use aurora_core::manifest::{Manifest, Origin};
use serde_json::Value;

/// One document.
pub(crate) fn value(text: &str) -> Value {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
    };
    serde_saphyr::from_str_with_options(text, options).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Every document of a file that is not empty.
pub(crate) fn manifests(file: &str, text: &str) -> Vec<Manifest> {
    let mut documents = vec![(1, String::new())];
    for (index, line) in text.lines().enumerate() {
        if line.trim_end() == "---" {
            documents.push((index + 2, String::new()));
        } else if let Some((_, document)) = documents.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    let says_something = |document: &str| {
        document
            .lines()
            .any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
    };
    documents
        .into_iter()
        .filter(|(_, document)| says_something(document))
        .map(|(line, document)| manifest(file, line, value(&document)))
        .collect()
}

/// A manifest from a place.
pub(crate) fn manifest(file: &str, line: usize, body: Value) -> Manifest {
    let origin = Origin {
        file: file.to_owned(),
        document: 0,
        line,
    };
    Manifest::new(body, origin)
}
