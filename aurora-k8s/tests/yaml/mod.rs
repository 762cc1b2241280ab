//! YAML as these tests read it: with the options that manifests need.
#![allow(dead_code, reason = "each test program uses a part of it")]

use aurora_core::deploy_file::read_manifests;
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

/// Every object of a file, as the product reads it.
pub(crate) fn manifests(file: &str, text: &str) -> Vec<Manifest> {
    read_manifests(text, file).unwrap_or_else(|problems| panic!("{problems:#?}"))
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
