//! From manifest texts to the manifests of each target.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::manifest::{Manifest, Origin};

use super::tree::{Kind, Node};
use super::{DeployFile, Files, ManifestFrom, Problem};

/// The largest manifest file that is read, in bytes.
pub const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;

/// Documents of one manifest file beyond this number are refused.
const MAX_DOCUMENTS: usize = 1024;

/// Each target holds its own manifests: this many bytes of text, counted for each target that they are for.
const MAX_COPIED_BYTES: usize = 128 * 1024 * 1024;

/// Reads the objects of one manifest text, in order; `List` objects come out as their items.
///
/// # Errors
/// Every problem found: syntax, size, documents that are not Kubernetes objects.
pub fn read_manifests(text: &str, name: &str) -> Result<Vec<Manifest>, Vec<Problem>> {
    read_from(text, name, 0)
}

/// The manifests of each target of a deploy file, in the order of the file.
///
/// # Errors
/// Every problem of every text, also paths whose texts did not come along.
pub fn manifests(
    deploy: &DeployFile,
    files: &Files,
    name: &str,
) -> Result<BTreeMap<String, Vec<Manifest>>, Vec<Problem>> {
    let mut of_target: BTreeMap<String, Vec<Manifest>> = deploy
        .targets
        .keys()
        .map(|target| (target.clone(), Vec::new()))
        .collect();
    let mut problems = Vec::new();
    let mut room = MAX_COPIED_BYTES;
    for (index, source) in deploy.manifests.iter().enumerate() {
        let mut read = Vec::new();
        let bytes = match &source.from {
            ManifestFrom::Inline(text) => text.len(),
            ManifestFrom::Path(path) => files
                .0
                .get(path)
                .into_iter()
                .flatten()
                .map(|file| file.text.len())
                .sum(),
        };
        let copies = source.targets.as_ref().map_or(of_target.len(), Vec::len);
        let Some(left) = room.checked_sub(bytes.saturating_mul(copies)) else {
            let message = format!(
                "the manifests have more than {MAX_COPIED_BYTES} bytes, counted for each of the targets they are for"
            );
            let problem = Problem::error("tooLarge", format!("/manifests/{index}"), message)
                .with_hint("say with `targets` which manifests are for which targets");
            problems.push(problem.at(name, source.line, 1));
            break;
        };
        room = left;
        match &source.from {
            ManifestFrom::Inline(text) => match read_from(text, name, source.line.saturating_sub(1)) {
                Ok(manifests) => read.extend(manifests),
                Err(found) => problems.extend(found),
            },
            ManifestFrom::Path(path) => match files.0.get(path) {
                Some(texts) => {
                    for file in texts {
                        match read_from(&file.text, &file.name, 0) {
                            Ok(manifests) => read.extend(manifests),
                            Err(found) => problems.extend(found),
                        }
                    }
                }
                None => {
                    let message = format!("the manifests of `{path}` did not come with the deploy file");
                    let hint = "clients send them in `files`; `aurora deploy start -f` does";
                    let pointer = format!("/manifests/{index}/path");
                    problems.push(Problem::error("missing", pointer, message).with_hint(hint).at(
                        name,
                        source.line,
                        1,
                    ));
                }
            },
        }
        for (target, manifests) in &mut of_target {
            if source.targets.as_ref().is_none_or(|only| only.contains(target)) {
                manifests.extend(read.iter().cloned());
            }
        }
    }
    if problems.is_empty() {
        Ok(of_target)
    } else {
        Err(problems)
    }
}

fn read_from(text: &str, name: &str, first_line: usize) -> Result<Vec<Manifest>, Vec<Problem>> {
    if text.len() > MAX_MANIFEST_BYTES {
        let message = format!(
            "the manifest has {} bytes; at most {MAX_MANIFEST_BYTES} are read",
            text.len()
        );
        return Err(vec![
            Problem::error("tooLarge", "", message).at(name, first_line, 0),
        ]);
    }
    let documents = Node::documents(text, MAX_DOCUMENTS).map_err(|problem| {
        let (line, column) = (problem.line + first_line, problem.column);
        vec![problem.at(name, line, column)]
    })?;
    let mut manifests = Vec::new();
    let mut problems = Vec::new();
    for (document, node) in documents.iter().enumerate() {
        let origin = Origin {
            file: name.to_owned(),
            document,
            line: node.place.line + first_line,
        };
        collect(node, &origin, first_line, &mut manifests, &mut problems);
    }
    if problems.is_empty() {
        Ok(manifests)
    } else {
        Err(problems)
    }
}

fn collect(
    node: &Node,
    origin: &Origin,
    first_line: usize,
    manifests: &mut Vec<Manifest>,
    problems: &mut Vec<Problem>,
) {
    let Kind::Map(entries) = &node.kind else {
        let message = format!("expected a Kubernetes object, found {}", node.word());
        problems.push(Problem::error("notAnObject", "", message).at(
            &origin.file,
            origin.line,
            node.place.column,
        ));
        return;
    };
    let field = |name: &str| {
        entries
            .iter()
            .find(|(key, _)| key.text == name)
            .map(|(_, value)| value)
    };
    let text = |name: &str| {
        field(name).and_then(|node| {
            if let Kind::Text(text) = &node.kind {
                Some(text)
            } else {
                None
            }
        })
    };
    for (name, example) in [("apiVersion", "apps/v1"), ("kind", "Deployment")] {
        if text(name).is_none_or(|value| value.is_empty()) {
            let message = format!("`{name}` is missing");
            let hint = format!("for example `{name}: {example}`");
            problems.push(
                Problem::error("missing", format!("/{name}"), message)
                    .with_hint(hint)
                    .at(&origin.file, origin.line, 1),
            );
        }
    }
    let is_list = text("kind").is_some_and(|kind| kind.ends_with("List"));
    if let (
        true,
        Some(Node {
            kind: Kind::List(items),
            ..
        }),
    ) = (is_list, field("items"))
    {
        for item in items {
            let origin = Origin {
                line: item.place.line + first_line,
                ..origin.clone()
            };
            collect(item, &origin, first_line, manifests, problems);
        }
        return;
    }
    let body = node.to_json();
    if body
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .is_none_or(str::is_empty)
        && body.pointer("/metadata/generateName").is_none()
    {
        let message = "`metadata.name` is missing";
        problems.push(Problem::error("missing", "/metadata/name", message).at(&origin.file, origin.line, 1));
    }
    manifests.push(Manifest::new(body, origin.clone()));
}
