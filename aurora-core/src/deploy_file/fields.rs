//! The table of the deploy file as rows, for pages and tools.

use super::schema::{CANARY_STEP, Fate, Field, Object, ROOT, SPAN, Shape};

/// A field of the deploy file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FieldInfo {
    /// Where it stands: `targets.<name>.account`, `manifests[].path`, `<step>.pause.duration`.
    pub path: String,
    /// What its value may be, in words; everything else is an error.
    pub value: String,
    /// Whether it must be there.
    pub required: bool,
    /// An older spelling that is read with a warning.
    pub older: Option<&'static str>,
    /// What this version does with it.
    pub fate: Fate,
    /// What it means.
    pub about: &'static str,
}

/// Every field of the deploy file, in the order of the schema; steps once, under `<step>`.
pub fn fields() -> Vec<FieldInfo> {
    let mut rows = Vec::new();
    object(&ROOT, "", &mut rows);
    object(&CANARY_STEP, "<step>.", &mut rows);
    rows
}

fn object(object: &'static Object, prefix: &str, rows: &mut Vec<FieldInfo>) {
    for field in object.fields {
        let path = format!("{prefix}{}", field.key);
        rows.push(row(field, path.clone()));
        below(&field.shape, &path, rows);
    }
}

/// The rows of what a value holds.
fn below(shape: &'static Shape, path: &str, rows: &mut Vec<FieldInfo>) {
    match shape {
        Shape::Object(of) if !of.is_step() && of.name != SPAN.name => object(of, &format!("{path}."), rows),
        Shape::List { of, .. } => below(of, &format!("{path}[]"), rows),
        Shape::Map(of) | Shape::FullMap(of) | Shape::NullableMap(of) => {
            below(of, &format!("{path}.<name>"), rows)
        }
        // Older forms hold the same.
        Shape::Forms(forms) => {
            for form in *forms {
                below(form, path, rows);
            }
        }
        Shape::Object(_)
        | Shape::Anything
        | Shape::Bool
        | Shape::NotOurs(_)
        | Shape::Number
        | Shape::Older(..)
        | Shape::Text(_)
        | Shape::Whole { .. }
        | Shape::Words(_) => {}
    }
}

fn row(field: &Field, path: String) -> FieldInfo {
    FieldInfo {
        path,
        value: value(&field.shape),
        required: field.required,
        older: field.alias,
        fate: field.fate,
        about: field.about,
    }
}

fn value(shape: &Shape) -> String {
    match shape {
        Shape::Anything => "anything".to_owned(),
        Shape::Bool => "true or false".to_owned(),
        Shape::Forms(forms) => forms.iter().map(value).collect::<Vec<_>>().join("; or "),
        Shape::List { of, least: 0 } => format!("list of: {}", value(of)),
        Shape::List { of, .. } => format!("list, not empty, of: {}", value(of)),
        Shape::Map(of) => format!("map of: {}", value(of)),
        Shape::FullMap(of) => format!("map, not empty, of: {}", value(of)),
        Shape::NullableMap(of) => format!("map of: {}, or nothing", value(of)),
        Shape::NotOurs(_) => "not accepted".to_owned(),
        Shape::Number => "number".to_owned(),
        Shape::Object(of) if of.name == SPAN.name => "`{duration, unit}`".to_owned(),
        Shape::Object(of) if of.is_step() => {
            let keys: Vec<&str> = of.fields.iter().map(|field| field.key).collect();
            format!("step: one of {}", keys.join(", "))
        }
        Shape::Object(of) => of.name.to_owned(),
        Shape::Older(of, ..) => format!("older: {}", value(of)),
        Shape::Text(rule) => rule.wanted.to_owned(),
        Shape::Whole { least, most } => format!("whole number from {least} to {most}"),
        Shape::Words(words) => words.all.join(", "),
    }
}
