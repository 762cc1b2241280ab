//! `aurora backup` and `aurora restore`: a state directory copied while it is in use, and brought back.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use aurora_bin::exit::Exit;
use aurora_bin::tls::write_private;
use aurora_core::digest::Digest;
use aurora_core::port::clock::{Clock as _, SystemClock};
use aurora_store::sqlite::back_up;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cli::{BackupArgs, Output, RestoreArgs};
use crate::{context, print};

/// Says what a backup consists of; written last, so that a backup without it is not one.
const LIST: &str = "backup.json";

/// The stores of a state directory.
const STORES: [&str; 2] = ["identities.sqlite", "pipelines.sqlite"];

/// Its keys and credentials. They are made once and then only grow, so they fit stores copied before or after.
const KEYS: [&str; 3] = ["secrets.json", "tls/ca.key", "tls/ca.pem"];

/// What a backup consists of.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Contents {
    version: u32,
    at: Timestamp,
    files: Vec<Copied>,
}

/// A file of a backup.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Copied {
    name: String,
    bytes: u64,
    digest: Digest,
}

impl Copied {
    fn of(directory: &Path, name: &str) -> Result<Self> {
        let path = directory.join(name);
        let body = fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(Self {
            name: name.to_owned(),
            bytes: body.len() as u64,
            digest: Digest::of(&body),
        })
    }
}

/// `aurora backup`.
pub(crate) fn backup(args: &BackupArgs, output: Output) -> Result<Exit> {
    if let Some(file) = &args.file {
        back_up(file, &args.to)?;
        return said(output, "backup", &args.to, 1);
    }
    let from = match &args.state_dir {
        Some(directory) => directory.clone(),
        None => context::default_state_dir()?,
    };
    ensure!(
        from.join("secrets.json").is_file(),
        "{} is no state directory of `aurora up`: name it with --state-dir",
        from.display()
    );
    make_empty(&args.to)?;
    for name in KEYS {
        let source = from.join(name);
        if source.is_file() {
            copy_private(&source, &args.to.join(name))?;
        }
    }
    for name in STORES {
        back_up(&from.join(name), &args.to.join(name))?;
    }
    let copied = KEYS
        .into_iter()
        .chain(STORES)
        .filter(|name| args.to.join(name).is_file());
    let contents = Contents {
        version: 1,
        at: SystemClock.now(),
        files: copied
            .map(|name| Copied::of(&args.to, name))
            .collect::<Result<_>>()?,
    };
    write_private(&args.to.join(LIST), &serde_json::to_string_pretty(&contents)?)?;
    said(output, "backup", &args.to, contents.files.len())
}

/// `aurora restore`.
pub(crate) fn restore(args: &RestoreArgs, output: Output) -> Result<Exit> {
    let list = args.from.join(LIST);
    let text = fs::read_to_string(&list).with_context(|| {
        format!(
            "{} is no backup, or one that was not finished",
            args.from.display()
        )
    })?;
    let contents: Contents =
        serde_json::from_str(&text).with_context(|| format!("{} cannot be read", list.display()))?;
    ensure!(
        contents.version == 1,
        "{} has version {}, which is newer than this program",
        list.display(),
        contents.version
    );
    for file in &contents.files {
        // Only names that a backup writes: a list from elsewhere must not reach other places.
        ensure!(
            KEYS.into_iter().chain(STORES).any(|name| name == file.name),
            "{} names `{}`, which belongs to no backup",
            list.display(),
            file.name
        );
        let found = Copied::of(&args.from, &file.name)?;
        ensure!(
            found.digest == file.digest,
            "{} is not what was backed up: take another backup",
            args.from.join(&file.name).display()
        );
    }
    make_empty(&args.state_dir)?;
    for file in &contents.files {
        copy_private(&args.from.join(&file.name), &args.state_dir.join(&file.name))?;
    }
    said(output, "restored", &args.state_dir, contents.files.len())
}

/// Makes a directory that must not hold anything yet.
fn make_empty(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("{} cannot be made", directory.display()))?;
    let mut entries =
        fs::read_dir(directory).with_context(|| format!("{} cannot be read", directory.display()))?;
    if entries.next().is_some() {
        bail!("{} is not empty: name a new directory", directory.display());
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("{} cannot be made private", directory.display()))?;
    }
    Ok(())
}

/// Copies a file so that only its owner can read it.
fn copy_private(from: &Path, to: &Path) -> Result<()> {
    let failed = || format!("{} cannot be copied to {}", from.display(), to.display());
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(failed)?;
    }
    let mut source = fs::File::open(from).with_context(failed)?;
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut target = options.open(to).with_context(failed)?;
    std::io::copy(&mut source, &mut target).with_context(failed)?;
    target.sync_all().with_context(failed)
}

fn said(output: Output, what: &str, place: &Path, files: usize) -> Result<Exit> {
    let answer = serde_json::json!({"type": what, "place": place, "files": files});
    print::document(output, &answer, |_| match what {
        "restored" => format!(
            "restored to {}: start it with `aurora up --state-dir {}`\n",
            place.display(),
            place.display()
        ),
        _ => format!(
            "{} is a backup that was read back and is sound; it holds keys: keep it private\n",
            place.display()
        ),
    })?;
    Ok(Exit::Succeeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_that_was_changed_or_lists_other_places_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("backup"), folder.path().join("state"));
        let args = RestoreArgs {
            from: from.clone(),
            state_dir: to.clone(),
        };
        fs::create_dir(&from).unwrap();
        let refused = |what: &str| {
            let error = format!("{:#}", restore(&args, Output::Json).unwrap_err());
            assert!(error.contains(what), "{error}");
            assert!(!to.exists(), "nothing is written");
        };
        refused("not finished");
        fs::write(from.join("secrets.json"), "{}").unwrap();
        let mut contents = Contents {
            version: 1,
            at: SystemClock.now(),
            files: vec![Copied::of(&from, "secrets.json").unwrap()],
        };
        let list = |contents: &Contents| {
            fs::write(from.join(LIST), serde_json::to_string(contents).unwrap()).unwrap();
        };
        list(&contents);
        fs::write(from.join("secrets.json"), "{ }").unwrap();
        refused("is not what was backed up");
        contents.files[0].name = "../elsewhere".into();
        list(&contents);
        refused("belongs to no backup");
    }
}
