//! The house rules that a program can check: layering, sizes, first lines, words that do not belong here.

#![expect(clippy::unwrap_used, reason = "a test reports by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Code lines that a file may have at most; tests aside.
const WALL: usize = 600;

/// Files that may be longer, each with its reason.
const LONG_FILES: &[(&str, &str)] = &[];

const LIBRARIES: [&str; 5] = [
    "aurora-auth",
    "aurora-core",
    "aurora-k8s",
    "aurora-store",
    "aurora-transport",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the workspace")
        .to_owned()
}

fn files_under(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.map(|entry| entry.unwrap().path()) {
        let name = entry.file_name().unwrap().to_string_lossy().into_owned();
        if entry.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "node_modules" {
                files_under(&entry, ending, found);
            }
        } else if name.ends_with(ending) {
            found.push(entry);
        }
    }
    found.sort();
}

fn rust_files() -> Vec<(String, String)> {
    let mut found = Vec::new();
    files_under(&root(), ".rs", &mut found);
    found
        .into_iter()
        .map(|path| {
            let name = path
                .strip_prefix(root())
                .unwrap()
                .to_string_lossy()
                .replace('\\', "/");
            (name, fs::read_to_string(path).unwrap())
        })
        .filter(|(name, _)| !name.contains("/generated/"))
        .collect()
}

/// The names of a manifest's dependency table.
fn dependencies(manifest: &str, table: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == format!("[{table}]");
        } else if inside && let Some((name, _)) = line.split_once(['=', '.']) {
            let name = name.trim();
            if !name.is_empty() && !name.starts_with('#') {
                names.insert(name.to_owned());
            }
        }
    }
    names
}

fn manifest_of(package: &str) -> String {
    fs::read_to_string(root().join(package).join("Cargo.toml")).unwrap()
}

/// Lines of code: no blanks, no comments, nothing from the test module on.
fn code_lines(text: &str) -> usize {
    text.lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .count()
}

#[test]
fn the_core_reaches_no_socket_file_or_framework() {
    let names = dependencies(&manifest_of("aurora-core"), "dependencies");
    for banned in [
        "tonic",
        "prost",
        "axum",
        "hyper",
        "reqwest",
        "kube",
        "k8s-openapi",
        "rusqlite",
        "jsonwebtoken",
        "rustls",
    ] {
        assert!(!names.contains(banned), "aurora-core depends on {banned}");
    }
    let manifest = manifest_of("aurora-core");
    assert!(
        manifest.contains(r#"tokio = { workspace = true, features = ["sync", "time", "macros", "rt"] }"#)
    );
    for (name, text) in rust_files()
        .iter()
        .filter(|(name, _)| name.starts_with("aurora-core/src/"))
    {
        for banned in [
            "std::net",
            "std::fs",
            "std::env::",
            "tokio::net",
            "tokio::fs",
            "tokio::signal",
        ] {
            assert!(!text.contains(banned), "{name} mentions {banned}");
        }
    }
}

#[test]
fn adapters_depend_on_the_core_and_never_on_each_other() {
    for library in LIBRARIES {
        let names = dependencies(&manifest_of(library), "dependencies");
        let ours: Vec<_> = names.iter().filter(|name| name.starts_with("aurora")).collect();
        let expected: &[&str] = if library == "aurora-core" {
            &[]
        } else {
            &["aurora-core"]
        };
        assert_eq!(ours, expected, "{library}");
    }
}

#[test]
fn every_file_begins_with_what_it_owns() {
    for (name, text) in rust_files() {
        let first = text.lines().next().unwrap_or_default();
        assert!(first.starts_with("//!"), "{name} does not begin with a //! line");
    }
}

#[test]
fn no_file_is_longer_than_the_wall() {
    let long: BTreeMap<&str, &str> = LONG_FILES.iter().copied().collect();
    for (name, text) in rust_files() {
        let lines = code_lines(&text);
        let is_test = name.contains("/tests/") || name.ends_with("tests.rs");
        if name.ends_with("/main.rs") && !is_test {
            assert!(
                lines <= 100,
                "{name} has {lines} code lines; a main has at most 100"
            );
        }
        if !is_test && !long.contains_key(name.as_str()) {
            assert!(lines <= WALL, "{name} has {lines} code lines; the wall is {WALL}");
        }
    }
    for (name, reason) in LONG_FILES {
        let text =
            fs::read_to_string(root().join(name)).unwrap_or_else(|_| panic!("{name} is excused and gone"));
        assert!(
            code_lines(&text) > WALL,
            "{name} is excused ({reason}) and needs no excuse any more"
        );
    }
}

#[test]
fn names_say_what_a_thing_is() {
    for (name, _) in rust_files() {
        for part in name.split('/') {
            let stem = part.trim_end_matches(".rs");
            assert!(
                !["utils", "util", "helpers", "helper", "common", "misc", "manager"].contains(&stem),
                "{name}"
            );
        }
    }
}

#[test]
fn only_bins_read_the_environment_or_the_clock() {
    for (name, text) in rust_files() {
        let library = LIBRARIES
            .iter()
            .any(|library| name.starts_with(&format!("{library}/src/")));
        if !library {
            continue;
        }
        for banned in [
            "std::env::var",
            "SystemTime::now",
            "std::process::exit",
            "tokio::spawn(",
            "signal::ctrl_c",
        ] {
            for (number, line) in text.lines().enumerate() {
                let comment = line.trim_start().starts_with("//");
                assert!(
                    comment || !line.contains(banned),
                    "{name}:{} has {banned}",
                    number + 1
                );
            }
        }
    }
}

#[test]
fn wire_formats_do_not_leak_into_the_domain() {
    for (name, text) in rust_files()
        .iter()
        .filter(|(name, _)| name.starts_with("aurora-core/src/"))
    {
        assert!(!text.contains("prost::"), "{name} knows prost");
        assert!(!text.contains("axum::"), "{name} knows axum");
    }
}

#[test]
fn every_port_has_its_fake_and_its_laws() {
    let ports = root().join("aurora-core/src/port");
    for entry in fs::read_dir(ports)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
    {
        let port = entry.file_name().unwrap().to_string_lossy().into_owned();
        if port == "clock" {
            continue; // its fake is three lines and its contract one
        }
        for part in ["mod", "memory", "laws"] {
            let is_there =
                entry.join(format!("{part}.rs")).is_file() || entry.join(part).join("mod.rs").is_file();
            assert!(is_there, "port {port} has no {part}");
        }
        let bite = root().join(format!("aurora-core/tests/laws_bite_{port}"));
        let is_there = bite.with_extension("rs").is_file() || bite.join("main.rs").is_file();
        assert!(is_there, "nothing shows that the laws of {port} bite");
    }
}

#[test]
fn no_text_names_a_place_of_one_computer() {
    let mut found = Vec::new();
    for ending in [".rs", ".md", ".toml", ".yaml", ".proto", ".py", ".sh"] {
        files_under(&root(), ending, &mut found);
    }
    for path in found {
        let text = fs::read_to_string(&path).unwrap_or_default();
        for banned in [
            concat!("/wo", "rk/"),
            concat!("/ro", "ot/"),
            concat!("crates", ".io/"),
            concat!("pypi", ".org"),
        ] {
            assert!(!text.contains(banned), "{} mentions {banned}", path.display());
        }
    }
}
