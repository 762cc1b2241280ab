//! Reading a deploy file and the manifests it names from disk, as they are submitted.

mod context;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use aurora_core::deploy_file::{
    DeployFile, Document, FileText, Files, MAX_DEPLOY_FILE_BYTES, MAX_MANIFEST_BYTES, MAX_SUBMIT_BYTES,
    ManifestFrom, ManifestSource, Problem, fetch_manifests, is_url, manifests, parse,
};
use aurora_core::manifest::Manifest;
use aurora_transport::http::{ReqwestCaller, Roots};

use crate::online::anywhere;

/// A deploy file, its manifests' texts, and what was noticed while reading them.
#[derive(Debug)]
pub(crate) struct Submission {
    /// The deploy file's text.
    pub text: String,
    /// The deploy file.
    pub deploy: DeployFile,
    /// The manifests' texts by the path that the file names.
    pub files: Files,
    /// The manifests of each target.
    pub manifests: BTreeMap<String, Vec<Manifest>>,
    /// Warnings.
    pub warnings: Vec<Problem>,
    /// The deploy file as it was written.
    pub document: Document,
}

/// Directories nested deeper than this are not searched.
const MAX_DIRECTORY_DEPTH: usize = 16;

/// What the command line puts in place of what the file says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Overrides<'a> {
    /// Another name of the application.
    pub application: Option<&'a str>,
    /// Run-wide variables beside those of the file.
    pub context: &'a [(String, String)],
}

impl<'a> Overrides<'a> {
    /// Only the name of the application, if that.
    const fn named(application: Option<&'a str>) -> Self {
        Self {
            application,
            context: &[],
        }
    }
}

/// Reads a deploy file and everything it names; what lies at a URL is left to the server.
///
/// # Errors
/// Every problem found in the deploy file, or else in the manifests.
pub(crate) fn read(file: &Path, application: Option<&str>) -> Result<Submission, Vec<Problem>> {
    read_with(file, Overrides::named(application))
}

/// The same, with what the command line says in place of the file.
///
/// # Errors
/// Every problem found in the deploy file, or else in the manifests.
pub(crate) fn read_with(file: &Path, overrides: Overrides<'_>) -> Result<Submission, Vec<Problem>> {
    let mut read = texts(file, overrides)?;
    let here = |source: &ManifestSource| !matches!(&source.from, ManifestFrom::Path(path) if is_url(path));
    let mut local = read.deploy.clone();
    local.manifests.retain(here);
    read.manifests = manifests(&local, &read.files, &file.display().to_string())?;
    Ok(read)
}

/// Reads a deploy file and everything it names, also what lies at a URL.
///
/// # Errors
/// Every problem found in the deploy file, or else in the manifests.
pub(crate) async fn read_all(file: &Path, application: Option<&str>) -> Result<Submission, Vec<Problem>> {
    let name = file.display().to_string();
    let mut read = texts(file, Overrides::named(application))?;
    // The user named the address on the own machine: any network is theirs to reach.
    let caller = anywhere().and_then(|rules| Ok(ReqwestCaller::new(rules, Roots::System)?));
    let caller = caller.map_err(|error| vec![Problem::error("notFetched", "", error.to_string())])?;
    fetch_manifests(Some(&caller), &read.deploy, &mut read.files, &name, None).await?;
    read.manifests = manifests(&read.deploy, &read.files, &name)?;
    Ok(read)
}

/// Reads a deploy file and the texts of the paths it names.
fn texts(file: &Path, overrides: Overrides<'_>) -> Result<Submission, Vec<Problem>> {
    let name = file.display().to_string();
    let text = read_text(file, &name, MAX_DEPLOY_FILE_BYTES).map_err(|problem| vec![problem])?;
    let text = match overrides.application {
        Some(application) => rename(&text, application).map_err(|problem| vec![problem.at(&name, 1, 1)])?,
        None => text,
    };
    let text = if overrides.context.is_empty() {
        text
    } else {
        context::with(&text, overrides.context).map_err(|problem| vec![problem.at(&name, 1, 1)])?
    };
    let parsed = parse(&text, &name)?;
    let (deploy, mut files, mut warnings) = (parsed.deploy, parsed.files, parsed.warnings);
    let mut problems = Vec::new();
    for (index, source) in deploy.manifests.iter().enumerate() {
        let ManifestFrom::Path(path) = &source.from else {
            continue;
        };
        if files.0.contains_key(path) || is_url(path) {
            continue;
        }
        let pointer = format!("/manifests/{index}/path");
        let place = |problem: Problem| {
            Problem {
                pointer: pointer.clone(),
                ..problem
            }
            .at(&name, source.line, 1)
        };
        match find(file, path) {
            Some((found, beside)) => {
                if !beside {
                    let message = format!(
                        "`{path}` is not beside the deploy file; it was taken from the working directory"
                    );
                    warnings.push(place(Problem::warning("workingDirectory", "", message)));
                }
                match read_path(&found) {
                    Ok(texts) if texts.is_empty() => {
                        let message = format!("`{path}` holds no .yaml or .yml file");
                        problems.push(place(Problem::error("empty", "", message)));
                    }
                    Ok(texts) => drop(files.0.insert(path.clone(), texts)),
                    Err(problem) => problems.push(place(problem)),
                }
            }
            None => {
                let message =
                    format!("there is no `{path}` beside the deploy file or in the working directory");
                problems.push(place(
                    Problem::error("missing", "", message).with_hint("paths are relative to the deploy file"),
                ));
            }
        }
    }
    let total: usize = files
        .0
        .values()
        .flatten()
        .map(|file| file.text.len())
        .sum::<usize>()
        + text.len();
    if total > MAX_SUBMIT_BYTES {
        let message =
            format!("deploy file and manifests have {total} bytes; at most {MAX_SUBMIT_BYTES} are taken");
        problems.push(Problem::error("tooLarge", "", message).at(&name, 0, 0));
    }
    if !problems.is_empty() {
        let not_yet = deploy.not_yet().into_iter();
        problems.extend(not_yet.map(|problem| parsed.document.locate(problem)));
        return Err(problems);
    }
    Ok(Submission {
        text,
        deploy,
        files,
        manifests: BTreeMap::new(),
        warnings,
        document: parsed.document,
    })
}

/// Puts another application name into the text: the command line wins over the file's own line.
fn rename(text: &str, application: &str) -> Result<String, Problem> {
    if text.trim_start().starts_with(['{', '[']) {
        return match serde_json::from_str::<serde_json::Value>(text) {
            Ok(serde_json::Value::Object(mut file)) => {
                file.insert("application".to_owned(), application.into());
                Ok(serde_json::Value::from(file).to_string())
            }
            _ => {
                let message = "another application name cannot be put into a file of this form";
                Err(Problem::error("cannotRename", "", message).with_hint("write the name into the file"))
            }
        };
    }
    let quoted = serde_json::Value::from(application).to_string();
    let mut found = false;
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| {
            if line.starts_with("application:") {
                found = true;
                return format!("application: {quoted}");
            }
            line.to_owned()
        })
        .collect();
    if !found {
        lines.insert(0, format!("application: {quoted}"));
    }
    Ok(lines.join("\n") + "\n")
}

/// The path as found, and whether it lies beside the deploy file.
fn find(deploy_file: &Path, path: &str) -> Option<(PathBuf, bool)> {
    let beside = deploy_file.parent().unwrap_or(Path::new("")).join(path);
    if beside.exists() {
        return Some((beside, true));
    }
    let here = PathBuf::from(path);
    here.exists().then_some((here, false))
}

fn read_path(path: &Path) -> Result<Vec<FileText>, Problem> {
    let mut found = Vec::new();
    if path.is_dir() {
        list(path, &mut found, 0)?;
    } else {
        found.push(path.to_owned());
    }
    found
        .into_iter()
        .map(|path| {
            let name = path.display().to_string();
            Ok(FileText {
                text: read_text(&path, &name, MAX_MANIFEST_BYTES)?,
                name,
            })
        })
        .collect()
}

fn list(directory: &Path, found: &mut Vec<PathBuf>, depth: usize) -> Result<(), Problem> {
    let unreadable = |error: std::io::Error| {
        Problem::error(
            "unreadable",
            "",
            format!("{} cannot be read: {error}", directory.display()),
        )
    };
    if depth > MAX_DIRECTORY_DEPTH {
        return Err(Problem::error(
            "tooDeep",
            "",
            format!("{} is nested too deep", directory.display()),
        ));
    }
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        entries.push(entry.map_err(unreadable)?.path());
    }
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            list(&entry, found, depth + 1)?;
        } else if entry
            .extension()
            .is_some_and(|ending| ending == "yaml" || ending == "yml")
        {
            found.push(entry);
        }
    }
    Ok(())
}

fn read_text(path: &Path, name: &str, limit: usize) -> Result<String, Problem> {
    let unreadable =
        |error: std::io::Error| Problem::error("unreadable", "", format!("{name} cannot be read: {error}"));
    let size = fs::metadata(path).map_err(unreadable)?.len();
    if size > u64::try_from(limit).unwrap_or(u64::MAX) {
        let message = format!("{name} has {size} bytes; at most {limit} are read");
        return Err(Problem::error("tooLarge", "", message));
    }
    fs::read_to_string(path).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "application: x\ntargets: {t: {account: a, namespace: n, strategy: s}}\nstrategies: {s: {canary: {steps: [{setWeight: {weight: 10}}]}}}\nmanifests: [{path: m}]\n";

    #[test]
    fn a_directory_is_read_in_order_of_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("deploy.yaml"), FILE).unwrap();
        fs::create_dir_all(dir.path().join("m/deeper")).unwrap();
        let service = |name: &str| format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n");
        fs::write(dir.path().join("m/b.yml"), service("b")).unwrap();
        fs::write(dir.path().join("m/a.yaml"), service("a")).unwrap();
        fs::write(dir.path().join("m/deeper/c.yaml"), service("c")).unwrap();
        fs::write(dir.path().join("m/notes.txt"), "not a manifest").unwrap();
        let read = read(&dir.path().join("deploy.yaml"), Some("other")).unwrap();
        let names: Vec<_> = read.manifests["t"]
            .iter()
            .map(|manifest| manifest.object().name)
            .collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(read.deploy.application, "other");
    }

    #[test]
    fn another_application_name_is_put_into_every_form_or_refused() {
        assert_eq!(
            rename("kind: kubernetes\napplication: x\n", "y").unwrap(),
            "kind: kubernetes\napplication: \"y\"\n"
        );
        assert_eq!(
            rename("kind: kubernetes\n", "y").unwrap(),
            "application: \"y\"\nkind: kubernetes\n"
        );
        assert_eq!(
            rename(r#"{"application":"x"}"#, "y").unwrap(),
            r#"{"application":"y"}"#
        );
        assert_eq!(rename("{application: x}", "y").unwrap_err().code, "cannotRename");
    }

    #[test]
    fn an_absent_path_is_told_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("deploy.yaml"), FILE).unwrap();
        let problems = read(&dir.path().join("deploy.yaml"), None).unwrap_err();
        assert_eq!((problems[0].code.as_str(), problems[0].line), ("missing", 4));
    }
}
