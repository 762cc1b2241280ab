//! The vocabulary of the table that says what may stand in a deploy file.
//!
//! Reading checks a file against the table, the JSON Schema and the page of fields are printed from it: the three
//! cannot differ.

mod definitions;
mod steps;
mod top;
mod traffic;

pub(crate) use definitions::{ANALYSIS, QUERY, WEBHOOK};
pub(crate) use steps::{
    ANALYSIS_STEP, CANARY_STEP, CONSTRAINT_STEP, EXPOSE_STEP, LONGEST, PAUSE, SPAN, STRATEGY, SWITCH_STEP,
    WEBHOOK_STEP,
};
pub(crate) use top::{MANIFEST, ROOT, TARGET};
pub(crate) use traffic::{ISTIO, SERVICE_PAIR, SMI, TRAFFIC};

/// What a value may be.
#[derive(Debug)]
pub(crate) enum Shape {
    /// Whatever the client says; kept as it is.
    Anything,
    /// True or false.
    Bool,
    /// The way it is written, and then older or other ways to write the same.
    Forms(&'static [Self]),
    /// A list with at least so many entries.
    List { of: &'static Self, least: usize },
    /// A map with free keys.
    Map(&'static Self),
    /// A map with free keys and at least one entry.
    FullMap(&'static Self),
    /// A map with free keys whose values may be null.
    NullableMap(&'static Self),
    /// Part of the schema for something Aurora does not do; the text says what that is.
    NotOurs(&'static str),
    /// An older form of the same, read with a warning; what it is, and what to write.
    Older(&'static Self, &'static str, &'static str),
    /// Any finite number.
    Number,
    /// A map with known keys.
    Object(&'static Object),
    /// A text that follows a rule.
    Text(&'static Rule),
    /// A whole number of a range.
    Whole { least: u64, most: u64 },
    /// One word of a list.
    Words(&'static Words),
}

/// A map with known keys.
#[derive(Debug)]
pub(crate) struct Object {
    /// The name of its definition.
    pub(crate) name: &'static str,
    /// What it is, for people.
    pub(crate) about: &'static str,
    /// Its keys.
    pub(crate) fields: &'static [Field],
    /// What must hold between them.
    pub(crate) bonds: &'static [Bond],
}

/// A key of a map.
#[derive(Debug)]
pub(crate) struct Field {
    /// How it is written.
    pub(crate) key: &'static str,
    /// An older spelling, read with a warning.
    pub(crate) alias: Option<&'static str>,
    /// What its value may be.
    pub(crate) shape: Shape,
    /// Whether it must be there.
    pub(crate) required: bool,
    /// What it means, for people.
    pub(crate) about: &'static str,
    /// What to write where it is missing.
    pub(crate) hint: &'static str,
    /// What this version does with it.
    pub(crate) fate: Fate,
}

/// What this version does with a field that was read and checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It does something.
    Runs,
    /// It is kept and shown, and changes nothing.
    Shown,
    /// A run that uses it is refused by name.
    Later,
    /// Any file that has it is refused by name.
    NotOurs,
}

/// What must hold between the keys of a map. One that is null counts as absent.
#[derive(Debug)]
pub(crate) enum Bond {
    /// Exactly one of all its keys: a choice.
    OneKey,
    /// Exactly one of these.
    ExactlyOne(&'static [&'static str]),
    /// At least one of these.
    AtLeastOne(&'static [&'static str]),
    /// The first only where the second is there too.
    Needs(&'static str, &'static str),
    /// The first only where the second has this value.
    OnlyWith(&'static str, &'static str, &'static str),
    /// A pause waits for a while or for a person, not both.
    TimedOrApproved,
}

/// A rule for texts.
#[derive(Debug)]
pub(crate) struct Rule {
    /// The same as `holds`, for other programs; empty where every text is good.
    pub(crate) pattern: &'static str,
    /// The code of the problem.
    pub(crate) code: &'static str,
    /// What the text is to be.
    pub(crate) wanted: &'static str,
    /// What to do.
    pub(crate) hint: &'static str,
    /// Whether a text follows the rule.
    pub(crate) holds: fn(&str) -> bool,
}

/// Words of which a value is one.
#[derive(Debug)]
pub(crate) struct Words {
    /// What they are.
    pub(crate) what: &'static str,
    /// The code of the problem.
    pub(crate) code: &'static str,
    /// The words as they are written.
    pub(crate) all: &'static [&'static str],
    /// Whether other upper and lower case is read too, with a warning.
    pub(crate) any_case: bool,
    /// Words that are known and refused, and why.
    pub(crate) refused: &'static [(&'static str, &'static str)],
}

impl Field {
    const fn new(key: &'static str, shape: Shape, about: &'static str) -> Self {
        Self {
            key,
            alias: None,
            shape,
            required: false,
            about,
            hint: "",
            fate: Fate::Runs,
        }
    }

    const fn required(mut self, hint: &'static str) -> Self {
        self.required = true;
        self.hint = hint;
        self
    }

    const fn alias(mut self, alias: &'static str) -> Self {
        self.alias = Some(alias);
        self
    }

    const fn later(mut self) -> Self {
        self.fate = Fate::Later;
        self
    }

    const fn shown(mut self) -> Self {
        self.fate = Fate::Shown;
        self
    }

    const fn not_ours(key: &'static str, why: &'static str) -> Self {
        let mut field = Self::new(key, Shape::NotOurs(why), why);
        field.fate = Fate::NotOurs;
        field
    }
}

impl Object {
    /// Whether it is a step of some list of steps: all of them can be a pause.
    pub(crate) fn is_step(&self) -> bool {
        self.field("pause").is_some()
    }

    /// The field that a key names, also by its older spelling.
    pub(crate) fn field(&self, key: &str) -> Option<&'static Field> {
        self.fields
            .iter()
            .find(|field| field.key == key || field.alias == Some(key))
    }
}

fn not_blank(text: &str) -> bool {
    !text.trim().is_empty()
}

/// Any text.
pub(crate) static ANY_TEXT: Rule = Rule {
    pattern: "",
    code: "",
    wanted: "a text",
    hint: "",
    holds: |_| true,
};

/// A text that is not blank.
pub(crate) static NAME: Rule = Rule {
    pattern: r"\S",
    code: "empty",
    wanted: "a text that is not blank",
    hint: "give it a value, or leave the key out",
    holds: not_blank,
};

/// A text with variables.
pub(crate) static TEMPLATE: Rule = Rule {
    pattern: r"\S",
    code: "empty",
    wanted: "a text that is not blank; variables stand in it as {{armory.…}}, {{context.…}} and {{secrets.…}}",
    hint: "give it a value, or leave the key out",
    holds: not_blank,
};

/// The name of a Kubernetes object.
pub(crate) static OBJECT_NAME: Rule = Rule {
    pattern: r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$",
    code: "badName",
    wanted: "a name of up to 253 lower-case letters, digits, dots and dashes",
    hint: "it begins and ends with a letter or digit",
    holds: |text| is_name(text, 253, |b| b.is_ascii_lowercase() || b.is_ascii_digit(), b".-"),
};

static NAMESPACE: Rule = Rule {
    pattern: r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
    code: "badName",
    wanted: "a namespace of 1 to 63 lower-case letters, digits and dashes",
    hint: "it begins and ends with a letter or digit",
    holds: |text| is_name(text, 63, |b| b.is_ascii_lowercase() || b.is_ascii_digit(), b"-"),
};

static APPLICATION: Rule = Rule {
    pattern: r"^[A-Za-z0-9]([A-Za-z0-9._ -]{0,61}[A-Za-z0-9])?$",
    code: "badName",
    wanted: "a name of 1 to 63 letters, digits, dashes, dots, underscores and spaces",
    hint: "it begins and ends with a letter or digit",
    holds: |text| is_name(text, 63, |b| b.is_ascii_alphanumeric(), b"-_. "),
};

static ACCOUNT: Rule = Rule {
    pattern: r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
    code: "badName",
    wanted: "an agent's name of 1 to 63 letters, digits, dots, dashes and underscores",
    hint: "it begins with a letter or digit",
    holds: |text| crate::account::AccountName::new(text).is_ok(),
};

static PERCENT: Rule = Rule {
    pattern: r"^(100|[1-9]?[0-9])%$",
    code: "wrongType",
    wanted: "a whole number of pods, or a share such as 25%",
    hint: "from 0% to 100%",
    holds: |text| {
        let digits = text.strip_suffix('%').unwrap_or_default();
        let plain = digits.len() == 1 || !digits.starts_with('0');
        plain
            && digits.bytes().all(|b| b.is_ascii_digit())
            && digits.parse().is_ok_and(|share: u8| share <= 100)
    },
};

/// Inner characters from `inner` too, but neither first nor last.
fn is_name(text: &str, most: usize, edge: fn(u8) -> bool, inner: &[u8]) -> bool {
    let edges = |b: Option<u8>| b.is_some_and(edge);
    text.len() <= most
        && text.bytes().all(|b| edge(b) || inner.contains(&b))
        && edges(text.bytes().next())
        && edges(text.bytes().last())
}
