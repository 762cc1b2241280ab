//! The table of the deploy file as a JSON Schema, for editors and other programs.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::schema::{Bond, Field, Object, ROOT, Shape, Words};

/// The deploy file's JSON Schema, draft 2020-12.
///
/// It is printed from the table that [`parse`](super::parse) checks files against. What holds between parts that
/// are far from each other is not in it: names that must be defined, cycles, lengths of time, variables.
///
/// ```
/// let schema = aurora_core::deploy_file::json_schema();
/// assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
/// assert!(schema["$defs"]["Target"]["properties"]["account"].is_object());
/// ```
pub fn json_schema() -> Value {
    let mut definitions = BTreeMap::new();
    let mut root = object(&ROOT, &mut definitions);
    root["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    root["$id"] = "urn:aurora:deploy-file:v1".into();
    root["title"] = "Aurora deploy file".into();
    root["$defs"] = definitions
        .into_iter()
        .map(|(name, schema)| (name.to_owned(), schema))
        .collect::<Map<_, _>>()
        .into();
    root
}

type Definitions = BTreeMap<&'static str, Value>;

fn shape(shape: &'static Shape, definitions: &mut Definitions) -> Value {
    match shape {
        Shape::Anything => json!({}),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Number => json!({"type": "number"}),
        Shape::Whole { least, most } => json!({"type": "integer", "minimum": least, "maximum": most}),
        Shape::Text(rule) if rule.pattern.is_empty() => json!({"type": "string"}),
        Shape::Text(rule) => json!({"type": "string", "pattern": rule.pattern}),
        Shape::Words(words) => self::words(words),
        Shape::List { of, least } => {
            let mut list = json!({"type": "array", "items": self::shape(of, definitions)});
            if *least > 0 {
                list["minItems"] = (*least).into();
            }
            list
        }
        Shape::Map(of) => json!({"type": "object", "additionalProperties": self::shape(of, definitions)}),
        Shape::FullMap(of) => {
            json!({"type": "object", "additionalProperties": self::shape(of, definitions), "minProperties": 1})
        }
        Shape::NullableMap(of) => {
            json!({"type": "object", "additionalProperties": or_null(self::shape(of, definitions))})
        }
        Shape::Object(of) => {
            if !definitions.contains_key(of.name) {
                // Taken before it is filled, should a definition ever hold itself.
                definitions.insert(of.name, Value::Null);
                let schema = object(of, definitions);
                definitions.insert(of.name, schema);
            }
            json!({"$ref": format!("#/$defs/{}", of.name)})
        }
        Shape::Forms(forms) => {
            let forms: Vec<Value> = forms.iter().map(|form| self::shape(form, definitions)).collect();
            json!({"anyOf": forms})
        }
        Shape::Older(of, what, write) => {
            let mut schema = self::shape(of, definitions);
            schema["description"] = format!("{what}: {write}.").into();
            schema["deprecated"] = true.into();
            schema
        }
        Shape::NotOurs(_) => json!({"type": "null"}),
    }
}

fn words(words: &Words) -> Value {
    let plain = json!({"type": "string", "enum": words.all});
    if !words.any_case {
        return plain;
    }
    let either = |c: char| {
        if c.is_ascii_alphabetic() {
            format!("[{}{}]", c.to_ascii_lowercase(), c.to_ascii_uppercase())
        } else {
            c.to_string()
        }
    };
    let each: Vec<String> = words
        .all
        .iter()
        .map(|word| word.chars().map(either).collect())
        .collect();
    let pattern = format!("^({})$", each.join("|"));
    json!({"anyOf": [plain, {"type": "string", "pattern": pattern, "deprecated": true}]})
}

fn object(object: &'static Object, definitions: &mut Definitions) -> Value {
    let mut properties = Map::new();
    let mut required: Vec<&str> = Vec::new();
    let mut all_of: Vec<Value> = Vec::new();
    for field in object.fields {
        let mut schema = shape(&field.shape, definitions);
        match field.alias {
            None if field.required => required.push(field.key),
            None => schema = or_null(schema),
            Some(alias) => {
                // Either spelling will do, and one of them may be there as null.
                schema = or_null(schema);
                let mut older = schema.clone();
                older["description"] = format!("An older spelling of `{}`.", field.key).into();
                older["deprecated"] = true.into();
                properties.insert(alias.to_owned(), older);
                all_of.push(json!({"not": {"allOf": [spelled(field.key), spelled(alias)]}}));
                if field.required {
                    all_of.push(has(field));
                }
            }
        }
        schema["description"] = describe(field).into();
        properties.insert(field.key.to_owned(), schema);
    }
    all_of.extend(object.bonds.iter().map(|bond| self::bond(object, bond)));
    let mut schema = json!({
        "type": "object",
        "description": object.about,
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    // A single choice stands at the top, where editors look for it.
    match all_of.as_slice() {
        [] => {}
        [Value::Object(only)] => {
            for (key, value) in only {
                schema[key] = value.clone();
            }
        }
        _ => schema["allOf"] = all_of.into(),
    }
    schema
}

fn describe(field: &Field) -> String {
    match field.shape {
        Shape::NotOurs(why) => format!("Not here: it {why}."),
        _ => field.about.to_owned(),
    }
}

fn bond(object: &'static Object, bond: &Bond) -> Value {
    let has = |key: &str| object.field(key).map_or(Value::Bool(false), has);
    let all = |keys: &[&str]| -> Vec<Value> { keys.iter().map(|key| has(key)).collect() };
    match bond {
        Bond::OneKey => {
            let keys: Vec<&str> = object.fields.iter().map(|field| field.key).collect();
            json!({"oneOf": all(&keys)})
        }
        Bond::ExactlyOne(keys) => json!({"oneOf": all(keys)}),
        Bond::AtLeastOne(keys) => json!({"anyOf": all(keys)}),
        Bond::Needs(key, other) => json!({"if": has(key), "then": has(other)}),
        Bond::OnlyWith(key, other, value) => json!({
            "if": has(key),
            "then": {"required": [other], "properties": {*other: {"const": value}}},
        }),
        Bond::TimedOrApproved => {
            let approved =
                json!({"required": ["untilApproved"], "properties": {"untilApproved": {"const": true}}});
            let without =
                |keys: &[&str]| -> Vec<Value> { keys.iter().map(|key| json!({"not": has(key)})).collect() };
            let mut timed = all(&["duration", "unit"]);
            timed.extend(without(&["requiresRoles", "approvalExpiration"]));
            timed.push(json!({"not": approved}));
            let mut person = vec![approved];
            person.extend(without(&["duration", "unit"]));
            json!({"oneOf": [
                {"title": "for a while", "allOf": timed},
                {"title": "for a person", "allOf": person},
            ]})
        }
    }
}

/// A key is there and not null, in either spelling.
fn has(field: &Field) -> Value {
    match field.alias {
        None => spelled(field.key),
        Some(alias) => json!({"anyOf": [spelled(field.key), spelled(alias)]}),
    }
}

fn spelled(key: &str) -> Value {
    json!({"required": [key], "properties": {key: {"not": {"type": "null"}}}})
}

/// A key without a value counts as absent.
fn or_null(mut schema: Value) -> Value {
    let null = json!({"type": "null"});
    if let Some(Value::Array(forms)) = schema.get_mut("anyOf") {
        forms.push(null);
        return schema;
    }
    if schema.get("$ref").is_some() {
        return json!({"anyOf": [schema, {"type": "null"}]});
    }
    if let Some(Value::String(kind)) = schema.get("type").cloned()
        && kind != "null"
    {
        schema["type"] = json!([kind, "null"]);
    }
    if let Some(Value::Array(words)) = schema.get_mut("enum") {
        words.push(Value::Null);
    }
    schema
}
