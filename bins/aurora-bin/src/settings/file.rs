//! A configuration file: YAML with a version, taken apart into keys.

use std::collections::BTreeMap;

use serde_json::Value;

use super::spec::{Kind, Spec};

/// The version of the file's format that this program knows.
const VERSION: u64 = 1;

/// Reads the text of a file into the values of the settings; every key must be one.
pub(super) fn parse(text: &str, spec: &Spec, problems: &mut Vec<String>) -> BTreeMap<String, Value> {
    let mut document = match serde_saphyr::from_str::<Value>(text) {
        Ok(Value::Object(document)) => document,
        Ok(_) => {
            problems.push("is not a mapping of settings; begin it with `version: 1`".into());
            return BTreeMap::new();
        }
        Err(error) => {
            problems.push(format!("is not YAML: {error}"));
            return BTreeMap::new();
        }
    };
    match document.remove("version") {
        Some(version) if version.as_u64() == Some(VERSION) => {}
        Some(version) => problems.push(format!(
            "has version {version}; this program knows version {VERSION}"
        )),
        None => problems.push(format!("has no version; begin it with `version: {VERSION}`")),
    }
    let mut values = BTreeMap::new();
    flatten("", Value::Object(document), spec, &mut values);
    for key in values.keys() {
        if !spec.all().any(|setting| setting.key == key) {
            let meant = nearest(key, spec).map(|near| format!("; did you mean `{near}`?"));
            problems.push(format!(
                "has the unknown setting `{key}`{}",
                meant.unwrap_or_default()
            ));
        }
    }
    values
}

fn flatten(path: &str, value: Value, spec: &Spec, values: &mut BTreeMap<String, Value>) {
    let whole = spec
        .all()
        .any(|setting| setting.key == path && setting.kind == Kind::Structure);
    match value {
        Value::Object(members) if !whole && (path.is_empty() || !members.is_empty()) => {
            for (name, member) in members {
                let path = if path.is_empty() {
                    name
                } else {
                    format!("{path}.{name}")
                };
                flatten(&path, member, spec, values);
            }
        }
        value => {
            values.insert(path.to_owned(), value);
        }
    }
}

/// The setting whose key is at most two letters away.
fn nearest<'a>(key: &str, spec: &'a Spec) -> Option<&'a str> {
    spec.all()
        .map(|setting| (distance(key, setting.key), setting.key))
        .filter(|(distance, _)| *distance <= 2)
        .min()
        .map(|(_, near)| near)
}

/// How many letters must be put in, taken out or changed.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, theirs) in other.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *theirs);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_letters() {
        for (one, other, expected) in [
            ("", "", 0),
            ("listen", "listn", 1),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }
}
