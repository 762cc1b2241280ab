//! Settings from flags, environment, file and defaults, with every mistake said at once.

mod file;
mod spec;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use aurora_core::secret::Secret;
use clap::ArgMatches;
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::spec::Kind;
pub use self::spec::{Setting, Spec};

/// What a binary was told, from all sides.
pub struct Settings {
    spec: &'static Spec,
    flags: BTreeMap<&'static str, String>,
    variables: BTreeMap<&'static str, String>,
    file: Option<(PathBuf, BTreeMap<String, Value>)>,
    problems: Vec<String>,
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InvalidConfig {
    /// One sentence for each mistake.
    pub problems: Vec<String>,
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} mistake(s) in the configuration", self.problems.len())?;
        self.problems
            .iter()
            .try_for_each(|problem| write!(f, "\n  - {problem}"))
    }
}

impl std::error::Error for InvalidConfig {}

impl fmt::Debug for Settings {
    /// Shows which settings were given and no value: some are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("name", &self.spec.name)
            .field("flags", &self.flags.keys())
            .field("variables", &self.variables.keys())
            .field("file", &self.file.as_ref().map(|(path, _)| path))
            .finish_non_exhaustive()
    }
}

/// Where a value came from.
enum Origin {
    Default,
    File(String),
    Flag(String),
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File(path) => f.write_str(path),
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

impl Settings {
    /// Parses a command line.
    ///
    /// # Errors
    /// clap's, which also prints help and version.
    pub fn arguments(
        spec: &Spec,
        arguments: impl IntoIterator<Item = impl Into<std::ffi::OsString> + Clone>,
    ) -> Result<ArgMatches, clap::Error> {
        spec.command().try_get_matches_from(arguments)
    }

    /// Brings flags, variables and the file that they name together.
    pub fn gather(
        spec: &'static Spec,
        arguments: &ArgMatches,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let mut settings = Self {
            spec,
            flags: BTreeMap::new(),
            variables: BTreeMap::new(),
            file: None,
            problems: Vec::new(),
        };
        for setting in spec.all() {
            let given = match setting.kind {
                Kind::Secret | Kind::Structure => None,
                Kind::Switch => arguments.get_flag(setting.key).then(|| "true".to_owned()),
                Kind::List | Kind::Text => arguments.get_one::<String>(setting.key).cloned(),
            };
            if let Some(value) = given {
                settings.flags.insert(setting.key, value);
            }
            if let Some(value) = setting.variable().and_then(|name| variable(&name)) {
                settings.variables.insert(setting.key, value);
            }
        }
        let path = arguments
            .get_one::<String>("config")
            .cloned()
            .or_else(|| variable("AURORA_CONFIG"));
        if let Some(path) = path {
            settings.read_file(path.into());
        }
        settings
    }

    fn read_file(&mut self, path: PathBuf) {
        let mut found = Vec::new();
        let values = match std::fs::read_to_string(&path) {
            Ok(text) => file::parse(&text, self.spec, &mut found),
            Err(error) => {
                found.push(format!("cannot be read: {error}"));
                BTreeMap::new()
            }
        };
        let named = |problem| format!("{} {problem}", path.display());
        self.problems.extend(found.into_iter().map(named));
        self.file = Some((path, values));
    }

    fn setting(&self, key: &str) -> &'static Setting {
        self.spec
            .all()
            .find(|setting| setting.key == key)
            .expect("a binary reads only settings of its own table")
    }

    /// The value that wins, as a text, and where it came from.
    fn winner(&self, key: &str) -> Option<(Value, Origin)> {
        let setting = self.setting(key);
        let text = |value: &String| Value::String(value.clone());
        if let Some(value) = self.flags.get(key) {
            return Some((text(value), Origin::Flag(setting.flag().unwrap_or_default())));
        }
        if let Some(value) = self.variables.get(key) {
            return Some((
                text(value),
                Origin::Variable(setting.variable().unwrap_or_default()),
            ));
        }
        if let Some((path, values)) = &self.file
            && let Some(value) = values.get(key).filter(|value| !value.is_null())
        {
            return Some((
                value.clone(),
                Origin::File(format!("`{key}` in {}", path.display())),
            ));
        }
        let default = setting.default?;
        Some((Value::String(default.to_owned()), Origin::Default))
    }

    fn scalar(&mut self, key: &str) -> Option<(String, Origin)> {
        let (value, origin) = self.winner(key)?;
        match value {
            Value::String(text) => Some((text, origin)),
            Value::Bool(_) | Value::Number(_) => Some((value.to_string(), origin)),
            _ => {
                self.problems
                    .push(format!("{key}: one value is wanted ({origin})"));
                None
            }
        }
    }

    /// A text, if there is one.
    pub fn text(&mut self, key: &str) -> Option<String> {
        self.scalar(key).map(|(text, _)| text)
    }

    /// A text that must be there.
    pub fn required(&mut self, key: &str) -> Option<String> {
        let text = self.text(key).filter(|text| !text.is_empty());
        if text.is_none() {
            self.missing(key);
        }
        text
    }

    /// A value that must be there, of a type that reads itself from text.
    pub fn parsed<T: FromStr<Err: fmt::Display>>(&mut self, key: &str) -> Option<T> {
        if self.winner(key).is_none() {
            self.missing(key);
            return None;
        }
        self.optional(key)
    }

    /// The same, where it may be absent.
    pub fn optional<T: FromStr<Err: fmt::Display>>(&mut self, key: &str) -> Option<T> {
        let (text, origin) = self.scalar(key)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.problems
                    .push(format!("{key}: `{}` is wrong: {error} ({origin})", shown(&text)));
                None
            }
        }
    }

    /// A time such as `250ms`, `30s`, `5m` or `1h`.
    pub fn time(&mut self, key: &str) -> Option<Duration> {
        self.parsed::<Span>(key).map(|Span(time)| time)
    }

    /// Yes or no; no where nothing is said.
    pub fn switch(&mut self, key: &str) -> bool {
        self.winner(key).is_some() && self.optional(key).unwrap_or(false)
    }

    /// An address with a port, or `None` where it says `off`.
    pub fn address_or_off(&mut self, key: &str, default: &str) -> Option<SocketAddr> {
        let text = self.text(key).unwrap_or_else(|| default.to_owned());
        // Who wants none says so.
        if text == "off" {
            return None;
        }
        let address = text.parse();
        if address.is_err() {
            self.problem(key, "write an address with a port such as 127.0.0.1:9080, or off");
        }
        address.ok()
    }

    /// Several texts; none where nothing is said.
    pub fn list(&mut self, key: &str) -> Vec<String> {
        let Some((value, origin)) = self.winner(key) else {
            return Vec::new();
        };
        match value {
            Value::String(text) => text
                .split(',')
                .map(|part| part.trim().to_owned())
                .filter(|part| !part.is_empty())
                .collect(),
            Value::Array(items) => items
                .into_iter()
                .map(|item| match item {
                    Value::String(text) => text,
                    other => other.to_string(),
                })
                .collect(),
            _ => {
                self.problems.push(format!("{key}: a list is wanted ({origin})"));
                Vec::new()
            }
        }
    }

    /// Something with parts, if the file has it.
    pub fn structure<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        let (value, origin) = self.winner(key)?;
        match serde_json::from_value(value) {
            Ok(read) => Some(read),
            Err(error) => {
                self.problems.push(format!("{key}: {error} ({origin})"));
                None
            }
        }
    }

    /// A secret: itself, or the first line of the file that the setting `<key>File` names.
    pub fn secret(&mut self, key: &str, file_key: &str) -> Option<Secret> {
        match (self.text(key), self.text(file_key)) {
            (Some(_), Some(_)) => {
                self.problem(key, &format!("give either this or {file_key}, not both"));
                None
            }
            (Some(text), None) => Some(Secret::new(text)),
            (None, Some(_)) => {
                let text = self.file_of(file_key)?;
                Some(Secret::new(text.lines().next().unwrap_or_default().trim()))
            }
            (None, None) => None,
        }
    }

    /// What is in the file that a setting names, if it names one.
    pub fn file_of(&mut self, key: &str) -> Option<String> {
        let path = self.text(key)?;
        match std::fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) => {
                self.problem(key, &format!("{path} cannot be read: {error}"));
                None
            }
        }
    }

    /// Writes down what is wrong with a setting.
    pub fn problem(&mut self, key: &str, problem: &str) {
        let origin = match self.winner(key) {
            Some((_, origin)) => format!(" ({origin})"),
            None => String::new(),
        };
        self.problems.push(format!("{key}: {problem}{origin}"));
    }

    /// Writes down a problem that says by itself what it is about.
    pub fn note(&mut self, problem: String) {
        self.problems.push(problem);
    }

    fn missing(&mut self, key: &str) {
        let setting = self.setting(key);
        let flag = setting.flag().map(|flag| format!("--{flag}"));
        let ways: Vec<_> = flag
            .into_iter()
            .chain(setting.variable())
            .chain([format!("`{key}` in the file")])
            .collect();
        self.problems
            .push(format!("{key}: is missing; set it by {}", ways.join(", ")));
    }

    /// Builds the configuration, if nothing is wrong.
    ///
    /// # Errors
    /// [`InvalidConfig`] with everything that was found.
    pub fn finish<T>(self, build: impl FnOnce() -> Option<T>) -> Result<T, InvalidConfig> {
        if self.problems.is_empty()
            && let Some(built) = build()
        {
            return Ok(built);
        }
        Err(InvalidConfig {
            problems: self.problems,
        })
    }
}

/// A time with its unit.
struct Span(Duration);

impl FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let wrong = "write a number and a unit: 250ms, 30s, 5m or 1h";
        let digits = text.find(|letter: char| !letter.is_ascii_digit()).ok_or(wrong)?;
        let number: u64 = text[..digits].parse().map_err(|_| wrong)?;
        let unit = match &text[digits..] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => return Err(wrong),
        };
        let times = u32::try_from(number).map_err(|_| wrong)?;
        Ok(Self(unit * times))
    }
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}
