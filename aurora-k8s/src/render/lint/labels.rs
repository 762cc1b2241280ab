//! Names, labels and annotations as an API server takes them.

use aurora_core::port::renderer::RenderRequest;

use crate::render::node::Node;
use crate::render::report::{Place, Report};

/// At most 63 lower-case letters, digits and dashes, none of these at the edges.
pub(in crate::render) fn is_dns_label(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let edges = !name.starts_with('-') && !name.ends_with('-');
    !name.is_empty() && name.len() <= 63 && edges && name.bytes().all(inner)
}

/// At most 253 characters: labels as of names, joined by points.
pub(in crate::render) fn is_dns_name(name: &str) -> bool {
    let label = |part: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !part.is_empty() && !part.starts_with('-') && !part.ends_with('-') && part.bytes().all(inner)
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// The value of a label: empty, or at most 63 letters, digits and `-_.` between letters or digits.
pub(super) fn is_label_value(value: &str) -> bool {
    let edge = |b: Option<u8>| b.is_none_or(|b| b.is_ascii_alphanumeric());
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    value.len() <= 63
        && edge(value.bytes().next())
        && edge(value.bytes().next_back())
        && value.bytes().all(inner)
}

/// The name of a label or annotation: an optional DNS name and a slash before a label value.
fn is_qualified(key: &str) -> bool {
    let name = |name: &str| !name.is_empty() && is_label_value(name);
    match key.split_once('/') {
        Some((prefix, rest)) => is_dns_name(&prefix.to_ascii_lowercase()) && name(rest),
        None => name(key),
    }
}

/// Checks the labels and annotations of an object or of a pod template.
pub(in crate::render) fn check_metadata(metadata: &Node<'_>, place: &Place, report: &mut Report) {
    for kind in ["annotations", "labels"] {
        let map = metadata.field(kind);
        if !map.value.is_null() && !map.value.is_object() {
            report.error(place, "badType", &map.pointer, "is not a map of texts", "");
        }
        for (key, value) in map.entries() {
            if !is_qualified(key) {
                let what = "has a name that clusters do not take";
                let hint = "letters, digits and `-_.`, at most 63, after an optional `domain/`";
                report.error(place, "badLabel", &value.pointer, what, hint);
            }
            check_value(kind, &value, place, report);
        }
    }
}

fn check_value(kind: &str, value: &Node<'_>, place: &Place, report: &mut Report) {
    match value.value.as_str() {
        None => {
            let what = format!("is {} where clusters take only texts", value.value);
            let hint = format!("put it in quotes: \"{}\"", value.value);
            report.error(place, "badType", &value.pointer, &what, &hint);
        }
        Some(text) if kind == "labels" && !is_label_value(text) => {
            let what = format!("is `{text}`, which a label cannot hold");
            let hint = "letters, digits and `-_.`, at most 63, with letters or digits at the edges";
            report.error(place, "badLabel", &value.pointer, &what, hint);
        }
        Some(_) => {}
    }
}

/// Application and target become labels of every object.
pub(in crate::render) fn check_request(request: &RenderRequest, report: &mut Report) {
    for (pointer, what, name) in [
        ("/application", "application", &request.application),
        ("/targets", "target", &request.target),
    ] {
        if name.is_empty() || !is_label_value(name) {
            let message = format!("the {what}'s name `{name}` cannot be the label of its objects");
            let hint = "letters, digits and `-_.`, at most 63, with letters or digits at the edges";
            report.error_in_file("badName", pointer.to_owned(), message, hint);
        }
    }
}
