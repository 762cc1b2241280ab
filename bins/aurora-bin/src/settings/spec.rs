//! The table of a binary's settings, and the names that follow from each key.

use clap::{Arg, ArgAction, Command};

/// A binary and what can be set.
#[derive(Debug)]
pub struct Spec {
    /// The program's name.
    pub name: &'static str,
    /// What it is, in one line.
    pub about: &'static str,
    /// Where its health listener is by default.
    pub health: &'static str,
    /// Its own settings; the common ones come on top.
    pub settings: &'static [Setting],
}

/// One setting: `tls.certificateFile` in the file is `AURORA_TLS_CERTIFICATE_FILE` in the environment and
/// `--tls-certificate-file` on the command line.
///
/// Keys do not end in `port` or `serviceHost`: Kubernetes sets variables like `AURORA_HUB_PORT` by itself.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The path in the file, dots between levels.
    pub key: &'static str,
    pub(super) value: &'static str,
    pub(super) help: &'static str,
    pub(super) default: Option<&'static str>,
    pub(super) kind: Kind,
}

/// What a setting holds and where it may come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// Several texts; commas between them outside of the file.
    List,
    /// A text that must not be on a command line, where every user of the machine sees it.
    Secret,
    /// Something with parts, only in the file.
    Structure,
    /// Yes or no; without a value on the command line.
    Switch,
    /// One text.
    Text,
}

impl Setting {
    const fn new(key: &'static str, value: &'static str, help: &'static str, kind: Kind) -> Self {
        Self {
            key,
            value,
            help,
            default: None,
            kind,
        }
    }

    /// One text; `value` names it in the help.
    pub const fn text(key: &'static str, value: &'static str, help: &'static str) -> Self {
        Self::new(key, value, help, Kind::Text)
    }

    /// Several texts.
    pub const fn list(key: &'static str, value: &'static str, help: &'static str) -> Self {
        Self::new(key, value, help, Kind::List)
    }

    /// A secret: no flag sets it.
    pub const fn secret(key: &'static str, help: &'static str) -> Self {
        Self::new(key, "SECRET", help, Kind::Secret)
    }

    /// Something with parts: only the file sets it.
    pub const fn structure(key: &'static str, help: &'static str) -> Self {
        Self::new(key, "", help, Kind::Structure)
    }

    /// Yes or no; no where nothing is said.
    pub const fn switch(key: &'static str, help: &'static str) -> Self {
        Self::new(key, "BOOL", help, Kind::Switch)
    }

    /// What it is where nothing is said.
    #[must_use]
    pub const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    /// The environment variable, if it has one.
    pub(super) fn variable(&self) -> Option<String> {
        (self.kind != Kind::Structure)
            .then(|| format!("AURORA_{}", words(self.key, '_').to_ascii_uppercase()))
    }

    /// The flag without its dashes, if it has one.
    pub(super) fn flag(&self) -> Option<String> {
        (!matches!(self.kind, Kind::Secret | Kind::Structure)).then(|| words(self.key, '-'))
    }
}

/// The words of a key, lower case, with this between them.
fn words(key: &str, between: char) -> String {
    let mut text = String::new();
    for letter in key.chars() {
        match letter {
            '.' => text.push(between),
            _ if letter.is_ascii_uppercase() => {
                text.push(between);
                text.push(letter.to_ascii_lowercase());
            }
            _ => text.push(letter),
        }
    }
    text
}

/// The settings that every binary has.
pub(super) const COMMON: &[Setting] = &[
    Setting::text(
        "log.level",
        "FILTER",
        "What is logged: a level, or module=level pairs",
    )
    .or("info"),
    Setting::text("log.format", "FORMAT", "How it is logged: text or json").or("text"),
    Setting::text(
        "health.listen",
        "ADDRESS",
        "Where /livez, /readyz and /metrics are served; off for nowhere",
    ),
    Setting::text(
        "grace",
        "TIME",
        "How long work in hand may take when told to stop",
    )
    .or("20s"),
];

impl Spec {
    /// All settings, the binary's own first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Setting> {
        self.settings.iter().chain(COMMON)
    }

    /// The command line.
    pub(super) fn command(&self) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .help("A YAML file with `version: 1` and any of the settings [env: AURORA_CONFIG]");
        let arguments = self.all().filter_map(argument);
        Command::new(self.name)
            .version(env!("CARGO_PKG_VERSION"))
            .about(self.about)
            .after_help(self.footnote())
            .arg(config)
            .args(arguments)
    }

    /// What the list of flags cannot say.
    fn footnote(&self) -> String {
        let mut text = String::from(
            "Flags win over environment variables, those over the file, and that over defaults.\n\
             Exit codes: 0 stopped as told, 1 failed, 2 wrong usage, 64 wrong configuration.",
        );
        for setting in self.all().filter(|setting| setting.flag().is_none()) {
            let variable = setting.variable().map(|name| format!(" [env: {name}]"));
            text.push_str(&format!(
                "\n\nOnly elsewhere: {}{}\n  {}",
                setting.key,
                variable.unwrap_or_default(),
                setting.help
            ));
        }
        text
    }
}

fn argument(setting: &Setting) -> Option<Arg> {
    let (flag, variable) = (setting.flag()?, setting.variable()?);
    let default = setting
        .default
        .map(|default| format!(" [default: {default}]"))
        .unwrap_or_default();
    // The command line is built once and lives as long as the process.
    let flag: &'static str = Box::leak(flag.into_boxed_str());
    let argument = Arg::new(setting.key)
        .long(flag)
        .help(format!("{} [env: {variable}]{default}", setting.help));
    Some(match setting.kind {
        Kind::Switch => argument.action(ArgAction::SetTrue),
        _ => argument.value_name(setting.value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_the_key() {
        let setting = Setting::text("tls.certificateFile", "FILE", "");
        assert_eq!(setting.variable().as_deref(), Some("AURORA_TLS_CERTIFICATE_FILE"));
        assert_eq!(setting.flag().as_deref(), Some("tls-certificate-file"));
        assert_eq!(Setting::secret("clientSecret", "").flag(), None);
        assert_eq!(Setting::structure("clients", "").variable(), None);
    }
}
