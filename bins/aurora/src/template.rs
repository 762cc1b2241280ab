//! `aurora schema` and `aurora template`: what helps to write a deploy file.

use std::fs::OpenOptions;
use std::io::Write as _;

use anyhow::{Context as _, Result};
use aurora_core::deploy_file::json_schema;

use crate::cli::{Output, TemplateArgs, TemplateKind};
use crate::print;
use aurora_bin::exit::Exit;

impl TemplateKind {
    const fn text(self) -> &'static str {
        match self {
            Self::Bluegreen => include_str!("../templates/bluegreen.yaml"),
            Self::Canary => include_str!("../templates/canary.yaml"),
            Self::Rolling => include_str!("../templates/rolling.yaml"),
        }
    }
}

/// Prints the JSON Schema of deploy files.
pub(crate) fn schema(output: Output) -> Result<Exit> {
    let schema = json_schema();
    let text = match output {
        Output::Yaml => print::yaml(&schema)?,
        Output::Json | Output::Text => serde_json::to_string_pretty(&schema)? + "\n",
    };
    print::write(&text)?;
    Ok(Exit::Succeeded)
}

/// Prints or writes a deploy file to start from; a file that is there stays as it is.
pub(crate) fn template(args: &TemplateArgs, output: Output) -> Result<Exit> {
    let Some(path) = &args.out else {
        print::write(args.kind.text())?;
        return Ok(Exit::Succeeded);
    };
    let file = match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let problem = format!(
                "{} is there already; name another file, or remove it first",
                path.display()
            );
            return print::failure(output, "exists", &problem, Exit::Usage);
        }
        Err(error) => return Err(error).with_context(|| format!("{} cannot be written", path.display())),
    };
    let mut file = file;
    file.write_all(args.kind.text().as_bytes())
        .with_context(|| format!("{} cannot be written", path.display()))?;
    print::note(&format!("wrote {}", path.display()));
    Ok(Exit::Succeeded)
}

#[cfg(test)]
mod tests {
    use aurora_core::deploy_file::parse;

    use super::*;

    const KINDS: [TemplateKind; 3] = [
        TemplateKind::Bluegreen,
        TemplateKind::Canary,
        TemplateKind::Rolling,
    ];

    #[test]
    fn every_template_is_a_deploy_file_that_runs() {
        for kind in KINDS {
            let parsed =
                parse(kind.text(), "template").unwrap_or_else(|problems| panic!("{kind:?}: {problems:#?}"));
            assert!(parsed.warnings.is_empty(), "{kind:?}: {:?}", parsed.warnings);
            assert!(parsed.deploy.not_yet().is_empty(), "{kind:?}");
        }
    }

    #[test]
    fn what_a_template_leaves_in_comments_is_good_too() {
        for kind in KINDS {
            // A comment that holds YAML begins a line, and its text begins with a key or a dash.
            let opened: String = kind
                .text()
                .lines()
                .map(|line| {
                    let bare = line.trim_start();
                    let inner = bare.strip_prefix("# ").unwrap_or_default();
                    let key = inner
                        .trim_start()
                        .trim_start_matches("- ")
                        .split(':')
                        .next()
                        .unwrap_or_default();
                    let yaml = inner.contains(':')
                        && !key.is_empty()
                        && key.bytes().all(|b| b.is_ascii_alphabetic());
                    if yaml && !inner.contains("deploy-file.schema") {
                        line.replacen("# ", "", 1) + "\n"
                    } else {
                        line.to_owned() + "\n"
                    }
                })
                .collect();
            assert!(opened.contains("\ndeploymentConfig:"), "{opened}");
            let parsed =
                parse(&opened, "template").unwrap_or_else(|problems| panic!("{problems:#?}\n{opened}"));
            assert!(parsed.deploy.not_yet().is_empty(), "{kind:?}");
        }
    }

    #[test]
    fn a_file_that_is_there_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let args = TemplateArgs {
            kind: TemplateKind::Canary,
            out: Some(dir.path().join("deploy.yaml")),
        };
        assert_eq!(template(&args, Output::Text).unwrap(), Exit::Succeeded);
        std::fs::write(dir.path().join("deploy.yaml"), "mine").unwrap();
        assert_eq!(template(&args, Output::Text).unwrap(), Exit::Usage);
        assert_eq!(
            std::fs::read_to_string(dir.path().join("deploy.yaml")).unwrap(),
            "mine"
        );
    }
}
