//! Hashes of pod templates and step lists, and names made of them.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::canonical;

/// Hash of a pod template in its canonical form, so that two spellings of one template are one revision.
pub(super) fn of_template(template: &Value) -> String {
    let mut template = template.clone();
    canonical::template(&mut template);
    of(&template)
}

/// Hash of any value, in the letters that Kubernetes takes for hashes.
pub(super) fn of(value: &Value) -> String {
    const LETTERS: &[u8] = b"bcdf2456789";
    let digest = Sha256::digest(sorted(value).to_string().as_bytes());
    digest
        .iter()
        .take(10)
        .map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]))
        .collect()
}

/// The value with sorted members, whatever order `serde_json` keeps.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut pairs: Vec<_> = members.iter().collect();
            pairs.sort_by_key(|(name, _)| name.as_str());
            Value::Object(
                pairs
                    .into_iter()
                    .map(|(name, value)| (name.clone(), sorted(value)))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}
