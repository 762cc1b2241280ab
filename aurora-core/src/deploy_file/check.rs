//! Holding a tree against the table: unknown keys, missing ones, wrong types, old spellings.

use super::schema::{Bond, Field, Object, Rule, Shape, Words};
use super::suggest::nearest;
use super::tree::{Key, Kind, Node};
use super::walk::{At, Walk};

impl Walk<'_> {
    /// Notes everything about a node's form that the table does not allow.
    pub(crate) fn check(&mut self, at: &At<'_>, shape: &'static Shape) {
        match shape {
            Shape::Anything => {}
            Shape::Bool => {
                if !matches!(at.node.kind, Kind::Bool(_)) {
                    self.wrong_kind(at, "true or false");
                }
            }
            Shape::Number => {
                if !matches!(at.node.kind, Kind::Number(_)) {
                    self.wrong_kind(at, "a number");
                }
            }
            Shape::Whole { least, most } => self.check_whole(at, *least, *most),
            Shape::Text(rule) => self.check_text(at, rule),
            Shape::Words(words) => self.check_word(at, words),
            Shape::List { of, least } => self.check_list(at, of, *least),
            Shape::Map(of) => self.check_map(at, of, false),
            Shape::FullMap(of) => {
                if matches!(&at.node.kind, Kind::Map(entries) if entries.is_empty()) {
                    self.error(at, "empty", "the map is empty", "give it at least one entry");
                }
                self.check_map(at, of, false);
            }
            Shape::NullableMap(of) => self.check_map(at, of, true),
            Shape::Object(object) => self.check_object(at, object),
            Shape::Forms(forms) => self.check_forms(at, forms),
            Shape::Older(of, what, write) => {
                self.warn(at, "alias", *what, write);
                self.check(at, of);
            }
            Shape::NotOurs(why) => {
                let key = at.pointer.rsplit('/').next().unwrap_or_default();
                self.error(at, "unsupported", format!("`{key}` {why}"), "take it out");
            }
        }
    }

    fn wrong_kind(&mut self, at: &At<'_>, expected: &str) {
        let message = format!("expected {expected}, found {}", at.node.word());
        self.error(at, "wrongType", message, "");
    }

    fn check_whole(&mut self, at: &At<'_>, least: u64, most: u64) {
        if at
            .node
            .whole()
            .is_some_and(|value| (least..=most).contains(&value))
        {
            return;
        }
        let found = match &at.node.kind {
            Kind::Number(number) => number.to_string(),
            _ => at.node.word().to_owned(),
        };
        let message = format!("expected a whole number from {least} to {most}, found {found}");
        self.error(at, "wrongType", message, "");
    }

    fn check_text(&mut self, at: &At<'_>, rule: &Rule) {
        match &at.node.kind {
            Kind::Text(text) if (rule.holds)(text) => {}
            Kind::Text(text) if text.trim().is_empty() => {
                let hint = "give it a value, or leave the key out";
                self.error(at, "empty", "the text is empty", hint);
            }
            Kind::Text(text) => {
                let shown: String = text.chars().take(80).collect();
                let message = format!("`{shown}` is not {}", rule.wanted);
                self.error(at, rule.code, message, rule.hint);
            }
            Kind::Bool(_) | Kind::Number(_) => {
                let message = format!("expected a text, found {}", at.node.word());
                self.error(at, "wrongType", message, "put it in quotes");
            }
            _ => self.wrong_kind(at, "a text"),
        }
    }

    fn check_word(&mut self, at: &At<'_>, words: &Words) {
        let Kind::Text(text) = &at.node.kind else {
            let message = format!("expected {}, found {}", words.what, at.node.word());
            self.error(at, "wrongType", message, &one_of(words.all));
            return;
        };
        if words.all.contains(&text.as_str()) {
            return;
        }
        if let Some((_, why)) = words.refused.iter().find(|(word, _)| word == text) {
            self.error(at, "unsupported", *why, "");
            return;
        }
        if words.any_case
            && let Some(word) = words.all.iter().find(|word| word.eq_ignore_ascii_case(text))
        {
            let hint = format!("write `{word}`");
            let message = format!("`{text}` is read as `{word}`");
            self.warn(at, "alias", message, &hint);
            return;
        }
        let hint = match nearest(text, words.all.iter().copied()) {
            Some(word) => format!("did you mean `{word}`?"),
            None => one_of(words.all),
        };
        let shown: String = text.chars().take(40).collect();
        self.error(at, words.code, format!("`{shown}` is not {}", words.what), &hint);
    }

    fn check_list(&mut self, at: &At<'_>, of: &'static Shape, least: usize) {
        let Kind::List(items) = &at.node.kind else {
            self.wrong_kind(at, "a list");
            return;
        };
        if items.len() < least {
            let hint = "give it at least one entry, or leave the key out";
            self.error(at, "empty", "the list is empty", hint);
        }
        for item in at.items() {
            self.check(&item, of);
        }
    }

    fn check_map(&mut self, at: &At<'_>, of: &'static Shape, nullable: bool) {
        let Kind::Map(entries) = &at.node.kind else {
            self.wrong_kind(at, "a map");
            return;
        };
        if matches!(of, Shape::Anything) {
            return;
        }
        for (key, node) in entries {
            if !nullable || !matches!(node.kind, Kind::Null) {
                self.check(&at.below(node, &key.text), of);
            }
        }
    }

    /// The first form whose kind of node this is; the first of all where it is none of them.
    fn check_forms(&mut self, at: &At<'_>, forms: &'static [Shape]) {
        let plain = |shape: &'static Shape| match shape {
            Shape::Older(of, ..) => *of,
            shape => shape,
        };
        let fits = |shape: &&'static Shape| {
            matches!(
                (plain(shape), &at.node.kind),
                (Shape::Text(_) | Shape::Words(_), Kind::Text(_))
                    | (Shape::Whole { .. } | Shape::Number, Kind::Number(_))
                    | (Shape::List { .. }, Kind::List(_))
                    | (
                        Shape::Map(_) | Shape::FullMap(_) | Shape::NullableMap(_) | Shape::Object(_),
                        Kind::Map(_)
                    )
                    | (Shape::Anything, _)
            )
        };
        if let Some(shape) = forms.iter().find(fits).or(forms.first()) {
            self.check(at, shape);
        }
    }

    fn check_object(&mut self, at: &At<'_>, object: &'static Object) {
        let Kind::Map(entries) = &at.node.kind else {
            self.wrong_kind(at, "a map");
            return;
        };
        let mut seen: Vec<&'static Field> = Vec::new();
        let mut unknown = false;
        for (key, node) in entries {
            let Some(field) = object.field(&key.text) else {
                unknown = true;
                self.unknown_key(at, key, object);
                continue;
            };
            if matches!(node.kind, Kind::Null) {
                continue;
            }
            let value = at.below(node, &key.text);
            if seen.iter().any(|other| other.key == field.key) {
                let message = format!("`{}` stands here a second time, in another spelling", field.key);
                self.error(&value, "exclusive", message, "keep one of them");
                continue;
            }
            if key.text != field.key {
                let message = format!("`{}` is an older spelling", key.text);
                self.warn(&value, "alias", message, &format!("write `{}`", field.key));
            }
            seen.push(field);
            self.check(&value, &field.shape);
        }
        // A mistyped key was told already, and is most likely what was meant.
        for field in object.fields {
            if field.required && !seen.iter().any(|other| other.key == field.key) {
                let message = format!("`{}` is missing", field.key);
                let missing = at.below(at.node, field.key);
                self.error(&missing, "missing", message, field.hint);
            }
        }
        if !unknown {
            for bond in object.bonds {
                self.check_bond(at, object, bond);
            }
        }
    }

    fn unknown_key(&mut self, at: &At<'_>, key: &Key, object: &Object) {
        if self.is_full() {
            return;
        }
        let known = || {
            object
                .fields
                .iter()
                .filter(|field| !matches!(field.shape, Shape::NotOurs(_)))
        };
        let hint = match nearest(&key.text, known().map(|field| field.key)) {
            Some(word) => format!("did you mean `{word}`?"),
            None => format!(
                "known here: {}",
                known().map(|field| field.key).collect::<Vec<_>>().join(", ")
            ),
        };
        let shown: String = key.text.chars().take(80).collect();
        let place = Node {
            place: key.place,
            kind: Kind::Null,
        };
        let at = At {
            node: &place,
            pointer: at.pointer_to(&key.text),
        };
        self.error(&at, "unknownKey", format!("unknown key `{shown}`"), &hint);
    }

    fn check_bond(&mut self, at: &At<'_>, object: &'static Object, bond: &Bond) {
        let has = |key: &str| at.get(object, key).is_some();
        match bond {
            Bond::OneKey => {
                let keys: Vec<&str> = object.fields.iter().map(|field| field.key).collect();
                self.exactly_one(at, object, &keys);
            }
            Bond::ExactlyOne(keys) => self.exactly_one(at, object, keys),
            Bond::AtLeastOne(keys) => {
                if !keys.iter().any(|key| has(key)) {
                    self.error(
                        at,
                        "missing",
                        format!("at least one of {} is needed", quoted(keys)),
                        "",
                    );
                }
            }
            Bond::Needs(key, other) => {
                if let Some(found) = at.get(object, key)
                    && !has(other)
                {
                    self.error(&found, "needs", format!("`{key}` needs `{other}` beside it"), "");
                }
            }
            Bond::OnlyWith(key, other, value) => {
                if let Some(found) = at.get(object, key)
                    && at.get(object, other).and_then(|at| at.node.text()) != Some(*value)
                {
                    let message = format!("`{key}` only goes with `{other}: {value}`");
                    self.error(&found, "needs", message, "");
                }
            }
            Bond::TimedOrApproved => self.check_pause(at, object),
        }
    }

    fn exactly_one(&mut self, at: &At<'_>, object: &'static Object, keys: &[&str]) {
        let mut there = keys.iter().filter_map(|key| at.get(object, key));
        match (there.next(), there.next()) {
            (Some(_), None) => {}
            (None, _) => {
                let message = format!("exactly one of {} is needed", quoted(keys));
                self.error(at, "missing", message, "");
            }
            (Some(_), Some(second)) => {
                let message = format!("exactly one of {} can stand here", quoted(keys));
                let hint = if object.is_step() {
                    "one step per entry: give the other an entry of its own"
                } else {
                    "take the others out"
                };
                self.error(&second, "exclusive", message, hint);
            }
        }
    }

    fn check_pause(&mut self, at: &At<'_>, object: &'static Object) {
        let get = |key: &str| at.get(object, key);
        let (duration, unit) = (get("duration"), get("unit"));
        if get("untilApproved").and_then(|at| at.node.boolean()) == Some(true) {
            if let Some(timed) = duration.as_ref().or(unit.as_ref()) {
                let message = "a pause is either timed or `untilApproved`, not both";
                self.error(timed, "exclusive", message, "take one out");
            }
            return;
        }
        for key in ["requiresRoles", "approvalExpiration"] {
            if let Some(part) = get(key) {
                let message = format!("`{key}` only goes with `untilApproved: true`");
                self.error(&part, "needs", message, "");
            }
        }
        match (duration, unit) {
            (Some(_), Some(_)) => {}
            (Some(duration), None) => {
                self.error(
                    &duration,
                    "needs",
                    "`duration` needs a `unit`",
                    "seconds, minutes or hours",
                );
            }
            (None, Some(unit)) => self.error(&unit, "needs", "`unit` needs a `duration`", ""),
            (None, None) => {
                let hint = "give it `duration` and `unit`, or `untilApproved: true`";
                self.error(at, "missing", "the pause waits for nothing", hint);
            }
        }
    }
}

fn one_of(words: &[&str]) -> String {
    format!("one of {}", words.join(", "))
}

fn quoted(keys: &[&str]) -> String {
    let quoted: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}
