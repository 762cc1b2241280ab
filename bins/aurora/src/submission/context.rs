//! Run-wide variables of the command line, put into the text of a deploy file without moving its lines more than needed.

use aurora_core::deploy_file::{Problem, parse};
use serde_json::Value;

/// The text with these variables; those of the file that they name are replaced.
pub(super) fn with(text: &str, variables: &[(String, String)]) -> Result<String, Problem> {
    let changed = if text.trim_start().starts_with('{') {
        in_json(text, variables)
    } else {
        in_yaml(text, variables)
    };
    let changed = changed.ok_or_else(cannot)?;
    // What is wrong with the file itself is told by whoever reads it next, with its place.
    let Ok(parsed) = parse(&changed, "") else {
        return if parse(text, "").is_ok() {
            Err(cannot())
        } else {
            Ok(changed)
        };
    };
    let taken = |(key, value): &(String, String)| parsed.deploy.context.get(key) == Some(value);
    // Of a variable that is given twice the last one counts.
    let last = |at: usize| !variables[at + 1..].iter().any(|(key, _)| *key == variables[at].0);
    let all = variables
        .iter()
        .enumerate()
        .all(|(at, pair)| !last(at) || taken(pair));
    if all { Ok(changed) } else { Err(cannot()) }
}

fn cannot() -> Problem {
    let message = "variables cannot be added to a file of this form";
    Problem::error("cannotAddContext", "/context", message)
        .with_hint("write `context:` with one variable a line below it, or write the variables into the file")
}

fn in_json(text: &str, variables: &[(String, String)]) -> Option<String> {
    let Ok(Value::Object(mut file)) = serde_json::from_str(text) else {
        return None;
    };
    let context = file
        .entry("context")
        .or_insert_with(|| Value::Object(Default::default()));
    if context.is_null() {
        *context = Value::Object(Default::default());
    }
    let context = context.as_object_mut()?;
    for (key, value) in variables {
        context.insert(key.clone(), value.clone().into());
    }
    Some(Value::Object(file).to_string())
}

fn in_yaml(text: &str, variables: &[(String, String)]) -> Option<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let Some(at) = lines.iter().position(|line| line.starts_with("context:")) else {
        let all: serde_json::Map<String, Value> = variables
            .iter()
            .map(|(key, value)| (key.clone(), value.clone().into()))
            .collect();
        // JSON is YAML.
        lines.push(format!("context: {}", Value::Object(all)));
        return Some(lines.join("\n") + "\n");
    };
    let rest = lines[at]["context:".len()..].trim();
    if !rest.is_empty() && !rest.starts_with('#') {
        return None;
    }
    let indent = |line: &str| line.len() - line.trim_start().len();
    let is_block = |line: &String| line.trim().is_empty() || line.starts_with([' ', '#']);
    let end = lines[at + 1..]
        .iter()
        .position(|line| !is_block(line))
        .map_or(lines.len(), |length| at + 1 + length);
    let content = |line: &&String| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let depth = lines[at + 1..end]
        .iter()
        .find(content)
        .map_or(2, |line| indent(line));
    let mut block = Vec::new();
    let mut dropping = false;
    for line in &lines[at + 1..end] {
        if content(&line) && indent(line) == depth {
            let key = line
                .trim()
                .split(':')
                .next()
                .unwrap_or_default()
                .trim_matches(['"', '\'']);
            dropping = variables.iter().any(|(name, _)| name == key);
        }
        if !dropping {
            block.push(line.clone());
        }
    }
    let mut added = std::collections::BTreeMap::new();
    added.extend(variables.iter().map(|(key, value)| (key, value)));
    let added = added.iter().map(|(key, value)| {
        format!(
            "{:depth$}{}: {}",
            "",
            Value::from(key.as_str()),
            Value::from(value.as_str())
        )
    });
    let mut changed: Vec<String> = lines[..=at].to_vec();
    changed.extend(added);
    changed.extend(block);
    changed.extend_from_slice(&lines[end..]);
    Some(changed.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: &str = "application: x\ntargets: {t: {account: a, namespace: n, strategy: s}}\nstrategies: {s: {canary: {steps: [{setWeight: {weight: 10}}]}}}\nmanifests: [{path: m}]\n";

    fn context(text: &str, variables: &[(&str, &str)]) -> Result<Vec<(String, String)>, Problem> {
        let variables: Vec<(String, String)> = variables
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let changed = with(text, &variables)?;
        Ok(parse(&changed, "").unwrap().deploy.context.into_iter().collect())
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn variables_join_those_of_the_file_and_win() {
        let block = format!("{REST}context:\n  # ours\n  a: one\n  b: two\ndescription: d\n");
        for (text, given, expected) in [
            (REST.to_owned(), &[("a", "1: 2 # x")][..], &[("a", "1: 2 # x")][..]),
            (block.clone(), &[("a", "new"), ("c", "3")], &[("a", "new"), ("b", "two"), ("c", "3")]),
            (block, &[("b", "last")], &[("a", "one"), ("b", "last")]),
            (format!("context:\n{REST}"), &[("a", "1")], &[("a", "1")]),
            (
                r#"{"application":"x","context":{"a":"1"},"targets":{"t":{"account":"a","namespace":"n","strategy":"s"}},"strategies":{"s":{"canary":{"steps":[{"setWeight":{"weight":10}}]}}},"manifests":[{"path":"m"}]}"#.to_owned(),
                &[("a", "2"), ("b", "3")],
                &[("a", "2"), ("b", "3")],
            ),
        ] {
            assert_eq!(context(&text, given).unwrap(), pairs(expected), "{text}");
        }
    }

    #[test]
    fn the_lines_above_the_context_stay_where_they_are() {
        let text = format!("{REST}context:\n  a: one\n");
        let changed = with(&text, &pairs(&[("b", "2")])).unwrap();
        assert!(changed.starts_with(REST), "{changed}");
    }

    #[test]
    fn what_cannot_be_changed_is_refused() {
        let flow = format!("{REST}context: {{a: one}}\n");
        assert_eq!(
            context(&flow, &[("a", "1")]).unwrap_err().code,
            "cannotAddContext"
        );
    }
}
