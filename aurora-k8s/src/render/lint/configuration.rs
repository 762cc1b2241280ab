//! Rules for `ConfigMaps`, Secrets and Services.

use std::collections::BTreeSet;

use aurora_core::manifest::ObjectRef;
use aurora_core::port::renderer::RenderRequest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Lint;
use crate::render::node::Node;

/// What a `ConfigMap` or Secret can hold, in bytes.
const MAX_BYTES: usize = 1024 * 1024;

/// Checks a `ConfigMap` or Secret.
pub(super) fn check(request: &RenderRequest, object: &ObjectRef, body: &Node<'_>, lint: &mut Lint<'_>) {
    if object.kind == "ConfigMap" && object.name == format!("aurora-{}", request.application) {
        let what = "is the name under which Aurora remembers what it applied";
        lint.error(
            "reserved",
            &body.path(&["metadata", "name"]),
            what,
            "choose another name",
        );
    }
    let (texts, binaries): (&[&str], &[&str]) = match object.kind.as_str() {
        "Secret" => (&["stringData"], &["data"]),
        _ => (&["data"], &["binaryData"]),
    };
    let mut bytes = 0;
    for field in texts.iter().chain(binaries) {
        let node = body.field(field);
        if !node.value.is_null() && !node.value.is_object() {
            lint.error("badType", &node, "is not a map", "");
        }
        for (key, value) in node.entries() {
            check_key(key, &value, lint);
            let Some(text) = value.value.as_str() else {
                // The value of a Secret is not repeated.
                let shown = if object.kind == "Secret" {
                    "something"
                } else {
                    "a value"
                };
                let what = format!("is {shown} that is not a text");
                lint.error("badType", &value, what, "put it in quotes");
                continue;
            };
            bytes += text.len();
            if binaries.contains(field) && STANDARD.decode(text.replace(['\n', '\r'], "")).is_err() {
                let hint = if object.kind == "Secret" {
                    "encode it, or write it under stringData"
                } else {
                    ""
                };
                lint.error("badValue", &value, "is not base64", hint);
            }
        }
    }
    if bytes > MAX_BYTES {
        let what = format!("holds {bytes} bytes, more than 1 MiB");
        lint.error(
            "tooLarge",
            &body.field("data"),
            what,
            "split it, or mount a volume",
        );
    }
}

fn check_key(key: &str, value: &Node<'_>, lint: &mut Lint<'_>) {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if key.is_empty() || key.len() > 253 || !key.bytes().all(inner) || key == "." || key == ".." {
        lint.error(
            "badName",
            value,
            "has a key that clusters do not take",
            "letters, digits and `-_.`",
        );
    }
}

/// Checks the ports of a Service.
pub(super) fn check_service(spec: &Node<'_>, lint: &mut Lint<'_>) {
    let ports = spec.field("ports").items();
    let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
    for port in &ports {
        let number = lint.whole(port, "port", 1);
        if !port.has("port") || number.is_some_and(|number| number > 65535) {
            lint.error(
                "outOfRange",
                &port.field("port"),
                "is not a port between 1 and 65535",
                "",
            );
        }
        let protocol = port.text("protocol").unwrap_or("TCP");
        if number.is_some_and(|number| !numbers.insert((number, protocol))) {
            let what = format!("is there twice for {protocol}");
            lint.error("duplicate", &port.field("port"), what, "keep one of them");
        }
        match port.name("name") {
            None if ports.len() > 1 => {
                let what = "is missing: a Service with several ports names them all";
                lint.error("missing", &port.field("name"), what, "");
            }
            Some(name) if !names.insert(name) => {
                lint.error(
                    "duplicate",
                    &port.field("name"),
                    format!("`{name}` is there twice"),
                    "",
                );
            }
            _ => {}
        }
    }
}
