//! Tests of layers, mistakes and secrets.

use serde::Deserialize;

use super::*;

static SPEC: Spec = Spec {
    name: "aurora-test",
    about: "A table of every kind",
    health: "127.0.0.1:0",
    settings: &[
        Setting::text("listen", "ADDRESS", "Where to serve").or("127.0.0.1:8443"),
        Setting::text("hub.url", "URL", "Where the hub is"),
        Setting::list("names", "NAMES", "Names"),
        Setting::switch("allowThings", "Allow things"),
        Setting::secret("clientSecret", "The secret"),
        Setting::text("clientSecretFile", "FILE", "The file with the secret"),
        Setting::structure("clients", "The clients"),
        Setting::text("pause", "TIME", "A time"),
    ],
};

fn settings(arguments: &[&str], variables: &[(&str, &str)], file: Option<&str>) -> Settings {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    let mut all = vec!["aurora-test".to_owned()];
    all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    if let Some(text) = file {
        std::fs::write(&path, text).unwrap();
        all.extend(["--config".to_owned(), path.display().to_string()]);
    }
    let matches = Settings::arguments(&SPEC, all).unwrap();
    Settings::gather(&SPEC, &matches, |name| {
        variables
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| (*value).to_owned())
    })
}

fn problems(settings: Settings) -> Vec<String> {
    match settings.finish(|| Some(())) {
        Ok(()) => Vec::new(),
        Err(invalid) => invalid.problems,
    }
}

#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let file = "version: 1\nlisten: 127.0.0.1:3\n";
    let variables = [("AURORA_LISTEN", "127.0.0.1:2")];
    for (arguments, variables, file, port) in [
        (&["--listen", "127.0.0.1:1"][..], &variables[..], Some(file), 1),
        (&[], &variables, Some(file), 2),
        (&[], &[], Some(file), 3),
        (&[], &[], None, 8443),
    ] {
        let mut settings = settings(arguments, variables, file);
        assert_eq!(
            settings.parsed::<SocketAddr>("listen").map(|at| at.port()),
            Some(port)
        );
        assert!(problems(settings).is_empty());
    }
}

#[test]
fn every_kind_is_read_from_the_file() {
    #[derive(Debug, Deserialize, PartialEq)]
    struct Client {
        id: String,
    }

    let file = "version: 1\nhub: {url: 'https://hub'}\nnames: [a, b]\nallowThings: true\nclientSecret: s3cret\n\
                clients: [{id: ci}]\npause: 250ms\n";
    let mut settings = settings(&[], &[], Some(file));
    assert_eq!(settings.required("hub.url").as_deref(), Some("https://hub"));
    assert_eq!(settings.list("names"), ["a", "b"]);
    assert!(settings.switch("allowThings"));
    assert!(
        settings
            .secret("clientSecret", "clientSecretFile")
            .unwrap()
            .equals("s3cret")
    );
    assert_eq!(
        settings.structure::<Vec<Client>>("clients"),
        Some(vec![Client { id: "ci".into() }])
    );
    assert_eq!(settings.time("pause"), Some(Duration::from_millis(250)));
    let shown = format!("{settings:?}");
    assert!(!shown.contains("s3cret"), "{shown}");
    assert!(problems(settings).is_empty());
}

#[test]
fn variables_and_flags_spell_lists_and_switches() {
    let mut settings = settings(&["--allow-things"], &[("AURORA_NAMES", "a, b,,c")], None);
    assert_eq!(settings.list("names"), ["a", "b", "c"]);
    assert!(settings.switch("allowThings"));
    assert!(problems(settings).is_empty());
}

#[test]
fn every_mistake_is_said_at_once_with_where_and_what_next() {
    let file = "version: 2\nlisten: nowhere\nlistn: 1\nhub: {uri: x}\nnames: {a: 1}\nclients: [{}]\n";
    let mut settings = settings(
        &[],
        &[("AURORA_ALLOW_THINGS", "perhaps"), ("AURORA_PAUSE", "5")],
        Some(file),
    );
    settings.parsed::<SocketAddr>("listen");
    settings.required("hub.url");
    settings.switch("allowThings");
    settings.time("pause");
    let found = problems(settings);
    for expected in [
        "has version 2; this program knows version 1",
        "has the unknown setting `listn`; did you mean `listen`?",
        "has the unknown setting `hub.uri`; did you mean `hub.url`?",
        "has the unknown setting `names.a`",
        "listen: `nowhere` is wrong",
        "`listen` in ",
        "hub.url: is missing; set it by --hub-url, AURORA_HUB_URL, `hub.url` in the file",
        "allowThings: `perhaps` is wrong",
        "(AURORA_ALLOW_THINGS)",
        "pause: `5` is wrong: write a number and a unit",
    ] {
        assert!(
            found.iter().any(|problem| problem.contains(expected)),
            "{expected}\n{found:#?}"
        );
    }
}

#[test]
fn a_file_that_is_none_is_one_mistake() {
    for (text, expected) in [
        ("- a\n", "is not a mapping"),
        ("listen: 1\n", "has no version"),
        ("version: 1\nversion: 1\n", "is not YAML"),
        ("version: 1\na: [\n", "is not YAML"),
        ("", "is not a mapping"),
    ] {
        let found = problems(settings(&[], &[], Some(text)));
        assert!(
            found.iter().any(|problem| problem.contains(expected)),
            "{text:?}: {found:?}"
        );
    }
    let matches = Settings::arguments(&SPEC, ["aurora-test", "--config", "/nonexistent/file"]).unwrap();
    let found = problems(Settings::gather(&SPEC, &matches, |_| None));
    assert!(found[0].contains("cannot be read"), "{found:?}");
}

#[test]
fn a_secret_comes_from_one_place_and_never_from_a_flag() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, "s3cret\n").unwrap();
    let path = path.display().to_string();
    let mut from_file = settings(&["--client-secret-file", &path], &[], None);
    assert!(
        from_file
            .secret("clientSecret", "clientSecretFile")
            .unwrap()
            .equals("s3cret")
    );
    let mut both = settings(
        &["--client-secret-file", &path],
        &[("AURORA_CLIENT_SECRET", "x")],
        None,
    );
    assert!(both.secret("clientSecret", "clientSecretFile").is_none());
    assert_eq!(problems(both).len(), 1);
    assert!(Settings::arguments(&SPEC, ["aurora-test", "--client-secret", "x"]).is_err());
}

#[test]
fn the_help_names_every_setting_with_its_variable() {
    let help = SPEC.command().render_long_help().to_string();
    for expected in [
        "--listen",
        "AURORA_HUB_URL",
        "AURORA_CLIENT_SECRET",
        "clients",
        "--health-listen",
        "[default: info]",
    ] {
        assert!(help.contains(expected), "{expected}\n{help}");
    }
}
