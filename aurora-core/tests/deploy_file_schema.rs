//! The JSON Schema of the deploy file and its parser say the same about a file's form, in both directions.

#![expect(clippy::unwrap_used, reason = "a test reports by panicking")]

use std::sync::LazyLock;

use aurora_core::deploy_file::{Problem, json_schema, parse_submit};
use jsonschema::Validator;
use proptest::prelude::*;
use proptest::test_runner::TestRng;
use serde_json::{Map, Value, json};

/// Codes of problems that are about meaning, not form: names that must be defined or differ, cycles, lengths of
/// time and limits that depend on two values, the text inside templates. No schema can say these.
const MEANING: [&str; 14] = [
    "badTemplate",
    "cycle",
    "emptyRange",
    "needsDefinition",
    "noRoom",
    "outOfRange",
    "sameName",
    "sameService",
    "sameTarget",
    "tooLong",
    "tooShort",
    "unknownName",
    "unknownVariable",
    "undefinedProvider",
];

const COMPLETE: &str = include_str!("deploy_files/complete.yaml");

static SCHEMA: LazyLock<Value> = LazyLock::new(json_schema);
static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| jsonschema::draft202012::new(&SCHEMA).unwrap());

/// The first problem of a file's form that the parser finds.
fn broken_form(file: &Value) -> Option<Problem> {
    let problems = parse_submit(&file.to_string(), "deploy.json").err()?;
    let mut errors = problems.into_iter().filter(Problem::is_error);
    errors.find(|problem| !MEANING.contains(&problem.code.as_str()))
}

fn agree(file: &Value) -> Result<(), String> {
    let parser = broken_form(file);
    let schema = VALIDATOR.iter_errors(file).next();
    match (&parser, &schema) {
        (None, None) | (Some(_), Some(_)) => Ok(()),
        (Some(problem), None) => Err(format!(
            "only the parser refuses it: {problem} at {}\n{file:#}",
            problem.pointer
        )),
        (None, Some(error)) => Err(format!(
            "only the schema refuses it: {error} at {}\n{file:#}",
            error.instance_path()
        )),
    }
}

fn complete() -> Value {
    let parsed = parse_submit(COMPLETE, "complete.yaml").unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert!(parsed.warnings.is_empty(), "{:#?}", parsed.warnings);
    parsed.document.to_json(&parsed.files)
}

/// Every place of a value, as pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    let below = |key: &str| format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(key, value)| places(value, &below(key), found)),
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                places(value, &below(&index.to_string()), found);
            }
        }
        _ => {}
    }
}

#[test]
fn the_schema_is_a_schema_and_takes_the_complete_file() {
    if let Err(error) = jsonschema::meta::validate(&SCHEMA) {
        panic!("{error} at {}", error.instance_path());
    }
    let file = complete();
    agree(&file).unwrap();
    assert!(VALIDATOR.is_valid(&file));
}

#[test]
fn one_change_anywhere_in_the_complete_file_is_judged_alike() {
    let file = complete();
    let mut pointers = Vec::new();
    places(&file, "", &mut pointers);
    assert!(pointers.len() > 250, "{}", pointers.len());
    let others = [
        json!(null),
        json!(true),
        json!(7),
        json!(7.5),
        json!(-1),
        json!(5.0),
        json!(""),
        json!("x"),
        json!("Minutes"),
        json!("50%"),
        json!([]),
        json!(["x"]),
        json!({}),
        json!({"x": "y"}),
        json!([{"x": "y"}]),
        json!({"duration": 1, "unit": "hours"}),
    ];
    let (mut refused, mut taken, mut wrong) = (0, 0, Vec::new());
    for pointer in &pointers {
        let mut changed: Vec<Value> = others
            .iter()
            .map(|other| {
                let mut file = file.clone();
                *file.pointer_mut(pointer).unwrap() = other.clone();
                file
            })
            .collect();
        if let Some(Value::Object(map)) = file.pointer(pointer) {
            // One key too many, an empty one, one too few.
            for key in ["unknown", "targets", "unit", "alias"] {
                let mut file = file.clone();
                let map = file.pointer_mut(pointer).and_then(Value::as_object_mut).unwrap();
                map.entry(key).or_insert(json!("x"));
                changed.push(file);
            }
            for key in map.keys() {
                let mut file = file.clone();
                file.pointer_mut(pointer)
                    .and_then(Value::as_object_mut)
                    .unwrap()
                    .remove(key);
                changed.push(file);
            }
        }
        for file in changed {
            match agree(&file) {
                Ok(()) if VALIDATOR.is_valid(&file) => taken += 1,
                Ok(()) => refused += 1,
                Err(difference) => wrong.push(format!("{pointer}: {}", difference.lines().next().unwrap())),
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differences:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(refused > 3_000 && taken > 500, "{refused} refused, {taken} taken");
}

#[test]
fn older_spellings_are_in_the_schema_too() {
    let steps = |steps: Value| json!({"strategies": {"s": {"canary": {"steps": steps}}}});
    let table = [
        steps(json!([{"setWeight": 10}])),
        steps(json!([{"pause": {"duration": 1, "units": "HOURS"}}])),
        steps(json!([{"pause": {"duration": 1, "units": "hours", "unit": "hours"}}])),
        steps(json!([{"pause": {"untilApproved": true, "units": "hours"}}])),
        steps(
            json!([{"pause": {"untilApproved": true, "approvalDuration": {"duration": 1, "unit": "hours"}}}]),
        ),
        steps(json!([{"pause": {"untilApproved": false, "duration": 1, "unit": "hours"}}])),
        steps(json!([{"pause": {"untilApproved": false, "duration": 1, "unit": null, "units": "hours"}}])),
        json!({"context": [{"a": "b"}, {"c": "d"}]}),
        json!({"contextOverrides": {"a": "b"}}),
        json!({"contextOverrides": {"a": "b"}, "context": {}}),
        json!({"trafficManagement": {"kubernetes": [{"activeService": "web"}]}}),
        json!({"strategies": {"s": {"blueGreen": {"shutdownOldVersionAfter": []}}}}),
        json!({"strategies": {"s": {"blueGreen": {"activeService": "web", "previewService": "web-preview"}}}}),
        json!({"artifacts": null, "providerOptions": null, "targetFilters": null}),
        json!({"artifacts": []}),
        json!({"kind": "lambda"}),
        json!({"files": {"": null}}),
    ];
    for part in table {
        let mut file = json!({
            "application": "x",
            "targets": {"t": {"account": "a", "strategy": "s"}},
            "manifests": [{"path": "m.yaml"}],
            "strategies": {"s": {"rolling": {}}},
        });
        file.as_object_mut()
            .unwrap()
            .extend(part.as_object().unwrap().clone());
        agree(&file).unwrap_or_else(|difference| panic!("{difference}"));
    }
}

/// A value that a schema describes, drawn at random; now and then one that it does not.
fn drawn(schema: &Value, rng: &mut TestRng, slips: bool) -> Value {
    if slips && rng.random_ratio(1, 60) {
        let slips = [
            json!(null),
            json!(3),
            json!("slip"),
            json!([]),
            json!({}),
            json!({"slip": 1}),
            json!(["slip"]),
        ];
        return slips[rng.random_range(0..slips.len())].clone();
    }
    if let Some(Value::String(reference)) = schema.get("$ref") {
        let target = SCHEMA.pointer(reference.trim_start_matches('#')).unwrap();
        return drawn(target, rng, slips);
    }
    if let Some(Value::Array(words)) = schema.get("enum") {
        return words[rng.random_range(0..words.len())].clone();
    }
    if schema.get("properties").is_none()
        && let Some(Value::Array(forms)) = schema.get("anyOf")
    {
        return drawn(&forms[rng.random_range(0..forms.len())], rng, slips);
    }
    let kinds: Vec<&str> = match schema.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => return json!({"free": [1, "x"]}),
    };
    match kinds[rng.random_range(0..kinds.len())] {
        "boolean" => rng.random_ratio(1, 2).into(),
        "number" => json!(f64::from(rng.random_range(-1_000..1_000_i32)) / 8.0),
        "integer" => {
            let least = schema["minimum"].as_u64().unwrap();
            json!(rng.random_range(least..=schema["maximum"].as_u64().unwrap().min(least + 90)))
        }
        "string" => text(schema, rng),
        "array" => {
            let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
            let count = rng.random_range(least..least + 3);
            (0..count).map(|_| drawn(&schema["items"], rng, slips)).collect()
        }
        "object" => map(schema, rng, slips),
        _ => Value::Null,
    }
}

fn text(schema: &Value, rng: &mut TestRng) -> Value {
    let any = [
        "a", "web", "a b", "web.next", "10%", "Web", "minutes", "HOURS", "Manual", "x-1", "v1", " ",
    ];
    let pattern = schema.get("pattern").and_then(Value::as_str);
    let fits: Vec<&str> = match pattern {
        Some(pattern) => {
            let pattern = jsonschema::options().build(&json!({"pattern": pattern})).unwrap();
            any.into_iter()
                .filter(|text| pattern.is_valid(&json!(text)))
                .collect()
        }
        None => any.to_vec(),
    };
    match fits.as_slice() {
        // Words in any case.
        [] => json!("POST"),
        fits => json!(fits[rng.random_range(0..fits.len())]),
    }
}

fn map(schema: &Value, rng: &mut TestRng, slips: bool) -> Value {
    let mut map = Map::new();
    let Some(Value::Object(properties)) = schema.get("properties") else {
        for name in &["a", "web", "x"][..rng.random_range(1..=3)] {
            map.insert(
                (*name).to_owned(),
                drawn(&schema["additionalProperties"], rng, slips),
            );
        }
        return map.into();
    };
    let required = schema
        .get("required")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let choice =
        schema.get("oneOf").is_some() && required.is_empty() && !properties.contains_key("untilApproved");
    let only = rng.random_range(0..properties.len());
    for (index, (key, of)) in properties.iter().enumerate() {
        let wanted = if choice && properties.len() <= 5 {
            index == only
        } else {
            required.contains(&json!(key)) || rng.random_ratio(2, 5)
        };
        if wanted {
            map.insert(key.clone(), drawn(of, rng, slips));
        }
    }
    map.into()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn files_drawn_from_the_schema_are_judged_alike(rng in any::<()>().prop_perturb(|(), rng| rng), slips: bool) {
        let mut rng = rng;
        let file = drawn(&SCHEMA, &mut rng, slips);
        agree(&file).map_err(TestCaseError::fail)?;
    }
}
