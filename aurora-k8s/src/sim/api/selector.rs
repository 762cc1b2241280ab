//! Label and field selectors of list, watch and delete-collection requests.

use serde_json::Value;

use super::error::ApiError;
use super::request::Query;

/// Which objects a request is about.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Selector {
    labels: Vec<LabelTerm>,
    fields: Vec<FieldTerm>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum LabelTerm {
    Exists(String),
    In(String, Vec<String>),
    NotExists(String),
    NotIn(String, Vec<String>),
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct FieldTerm {
    path: String,
    equal: bool,
    value: String,
}

impl Selector {
    /// Reads `labelSelector` and `fieldSelector` for objects of this kind.
    pub(crate) fn parse(query: &Query, kind: &str) -> Result<Self, ApiError> {
        Ok(Self {
            labels: query.text("labelSelector").map_or(Ok(Vec::new()), labels)?,
            fields: query
                .text("fieldSelector")
                .map_or(Ok(Vec::new()), |text| fields(text, kind))?,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Adds the condition that the object has this name.
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.fields.push(FieldTerm {
            path: "metadata.name".to_owned(),
            equal: true,
            value: name.to_owned(),
        });
        self
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.labels
            .iter()
            .all(|term| term.matches(&object["metadata"]["labels"]))
            && self.fields.iter().all(|term| term.matches(object))
    }
}

impl LabelTerm {
    fn matches(&self, labels: &Value) -> bool {
        let held = |key: &str| labels[key].as_str();
        match self {
            Self::Exists(key) => held(key).is_some(),
            Self::NotExists(key) => held(key).is_none(),
            Self::In(key, values) => held(key).is_some_and(|held| values.iter().any(|it| it == held)),
            Self::NotIn(key, values) => held(key).is_none_or(|held| values.iter().all(|it| it != held)),
        }
    }
}

impl FieldTerm {
    fn matches(&self, object: &Value) -> bool {
        let held = self.path.split('.').fold(object, |value, field| &value[field]);
        let held = match held {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        (held == self.value) == self.equal
    }
}

fn labels(text: &str) -> Result<Vec<LabelTerm>, ApiError> {
    let wrong = |term: &str| {
        ApiError::bad_request(format!(
            "unable to parse requirement: found '{term}', expected: a key with an operator and values"
        ))
    };
    let mut terms = Vec::new();
    for term in split_outside_parentheses(text) {
        let term = term.trim();
        let term = if let Some(key) = term.strip_prefix('!').map(str::trim).filter(|key| is_key(key)) {
            LabelTerm::NotExists(key.to_owned())
        } else if let Some((key, value)) = term.split_once("!=") {
            LabelTerm::NotIn(key.trim().to_owned(), vec![value.trim().to_owned()])
        } else if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
            LabelTerm::In(key.trim().to_owned(), vec![value.trim().to_owned()])
        } else if let Some((head, values)) = term.split_once('(') {
            let values = values.strip_suffix(')').ok_or_else(|| wrong(term))?;
            let values = values.split(',').map(|value| value.trim().to_owned()).collect();
            match head.split_whitespace().collect::<Vec<_>>().as_slice() {
                [key, "in"] => LabelTerm::In((*key).to_owned(), values),
                [key, "notin"] => LabelTerm::NotIn((*key).to_owned(), values),
                _ => return Err(wrong(term)),
            }
        } else if is_key(term) {
            LabelTerm::Exists(term.to_owned())
        } else {
            return Err(wrong(term));
        };
        let (LabelTerm::Exists(key)
        | LabelTerm::NotExists(key)
        | LabelTerm::In(key, _)
        | LabelTerm::NotIn(key, _)) = &term;
        if !is_key(key) {
            return Err(wrong(key));
        }
        terms.push(term);
    }
    Ok(terms)
}

fn is_key(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|at| at.is_ascii_alphanumeric() || matches!(at, '-' | '_' | '.' | '/'))
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let (mut start, mut depth) = (0, 0_usize);
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                out.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out
}

fn fields(text: &str, kind: &str) -> Result<Vec<FieldTerm>, ApiError> {
    let mut terms = Vec::new();
    for term in text.split(',').filter(|term| !term.trim().is_empty()) {
        let (path, equal, value) = if let Some((path, value)) = term.split_once("!=") {
            (path, false, value)
        } else if let Some((path, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
            (path, true, value)
        } else {
            return Err(ApiError::bad_request(format!("invalid field selector: {term}")));
        };
        let path = path.trim();
        if !is_selectable(path, kind) {
            return Err(ApiError::bad_request(format!(
                "field label not supported: {path}"
            )));
        }
        terms.push(FieldTerm {
            path: path.to_owned(),
            equal,
            value: value.trim().to_owned(),
        });
    }
    Ok(terms)
}

fn is_selectable(path: &str, kind: &str) -> bool {
    match path {
        "metadata.name" | "metadata.namespace" => true,
        "status.phase" => matches!(kind, "Pod" | "Namespace"),
        "spec.nodeName" | "spec.restartPolicy" | "spec.schedulerName" | "spec.serviceAccountName" => {
            kind == "Pod"
        }
        "type" => matches!(kind, "Event" | "Secret"),
        "reason" | "reportingComponent" | "source" => kind == "Event",
        _ => kind == "Event" && path.starts_with("involvedObject."),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn selector(query: &str, kind: &str) -> Result<Selector, ApiError> {
        Selector::parse(&Query::parse(query), kind)
    }

    #[test]
    fn label_selectors_choose_as_kubernetes_does() {
        let object = json!({"metadata": {"labels": {"app": "web", "tier": "a"}}});
        for (text, wanted) in [
            ("app=web", true),
            ("app==web,tier=b", false),
            ("app!=web", false),
            ("other!=x", true),
            ("app in (web, api),tier", true),
            ("app notin (web)", false),
            ("other notin (web)", true),
            ("!other", true),
            ("!app", false),
        ] {
            let found = selector(&format!("labelSelector={text}"), "Pod").unwrap();
            assert_eq!(found.matches(&object), wanted, "{text}");
        }
        assert!(selector("labelSelector=app in web", "Pod").is_err());
        assert!(selector("labelSelector=a b=c", "Pod").is_err());
    }

    #[test]
    fn field_selectors_know_the_fields_of_the_kind() {
        let event = json!({"involvedObject": {"name": "web"}, "type": "Warning"});
        let chosen = selector("fieldSelector=involvedObject.name=web,type!=Normal", "Event").unwrap();
        assert!(chosen.matches(&event));
        assert!(selector("fieldSelector=involvedObject.name=web", "Pod").is_err());
        assert!(selector("fieldSelector=spec.replicas=1", "Rollout").is_err());
        let pod = json!({"metadata": {"name": "a"}, "status": {"phase": "Running"}});
        assert!(
            !selector("fieldSelector=status.phase!=Running", "Pod")
                .unwrap()
                .matches(&pod)
        );
        assert!(Selector::default().named("a").matches(&pod));
    }
}
