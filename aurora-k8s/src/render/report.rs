//! Collects what is wrong and what people should know, each with its place in the user's file.

use std::fmt::Write as _;

use aurora_core::deploy_file::Problem;
use aurora_core::manifest::Origin;

/// The manifest that a problem is about.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Kind and name as people wrote them.
    pub(super) named: String,
    /// File and line.
    pub(super) origin: Origin,
    /// Where the object is inside the document: not empty for members of a List.
    pub(super) prefix: String,
    /// The object was a Deployment: places in its strategy are those of a Rollout.
    pub(super) converted: bool,
}

impl Place {
    /// The pointer into the manifest as the user wrote it.
    fn pointer(&self, pointer: &str) -> String {
        let written = match pointer.strip_prefix("/spec/strategy/canary") {
            Some("") if self.converted => "/spec/strategy".to_owned(),
            Some(rest) if self.converted => format!("/spec/strategy/rollingUpdate{rest}"),
            // Nothing of it stands in the Deployment.
            None if self.converted && pointer.starts_with("/spec/strategy/blueGreen") => String::new(),
            _ => pointer.to_owned(),
        };
        format!("{}{written}", self.prefix)
    }
}

/// So many problems and notes are told; nobody reads more, and collecting them must stay cheap.
const MOST: usize = 200;

/// Problems and notes of one rendering.
#[derive(Debug, Default)]
pub(super) struct Report {
    problems: Vec<Problem>,
    notes: Vec<String>,
    /// Problems and notes that are not told.
    untold: (usize, usize),
}

impl Report {
    /// Something that blocks; `what` continues the field's path.
    pub(super) fn error(&mut self, place: &Place, code: &str, pointer: &str, what: &str, hint: &str) {
        let pointer = place.pointer(pointer);
        let path = dotted(pointer.strip_prefix(place.prefix.as_str()).unwrap_or(&pointer));
        let message = if path.is_empty() {
            format!("{}: {what}", place.named)
        } else {
            format!("{}: {path} {what}", place.named)
        };
        let problem = Problem::error(code, pointer, message).with_hint(hint).at(
            &place.origin.file,
            place.origin.line,
            1,
        );
        self.add(problem);
    }

    /// Something that blocks and stands in the deploy file, not in a manifest.
    pub(super) fn error_in_file(&mut self, code: &str, pointer: String, message: String, hint: &str) {
        self.add(Problem::error(code, pointer, message).with_hint(hint));
    }

    fn add(&mut self, problem: Problem) {
        if self.problems.len() == MOST {
            self.untold.0 += 1;
        } else if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// How many problems there are.
    pub(super) fn count(&self) -> usize {
        self.problems.len() + self.untold.0
    }

    /// The notes, or the problems if there are any.
    pub(super) fn close(mut self) -> Result<Vec<String>, Vec<Problem>> {
        let (problems, notes) = self.untold;
        if problems > 0 {
            let message = format!("there are {problems} more problems");
            self.problems
                .push(Problem::error("more", "", message).with_hint("mend these first"));
        }
        if notes > 0 {
            self.notes.push(format!("there are {notes} more notes"));
        }
        if self.problems.is_empty() {
            Ok(self.notes)
        } else {
            Err(self.problems)
        }
    }

    /// Something people should know.
    pub(super) fn note(&mut self, place: &Place, what: &str) {
        self.say(format!("{}: {what}", place.named));
    }

    /// Something people should know that is about no single object.
    pub(super) fn say(&mut self, note: String) {
        if self.notes.len() == MOST {
            self.untold.1 += 1;
        } else if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

/// A pointer as people write paths: `spec.template.spec.containers[0].image`.
pub(super) fn dotted(pointer: &str) -> String {
    let mut path = String::new();
    for token in pointer.split('/').skip(1) {
        let key = token.replace("~1", "/").replace("~0", "~");
        // Writing to a String cannot fail.
        let _ = if key.bytes().all(|b| b.is_ascii_digit()) {
            write!(path, "[{key}]")
        } else if key.contains(['.', '/']) {
            write!(path, "[\"{key}\"]")
        } else if path.is_empty() {
            write!(path, "{key}")
        } else {
            write!(path, ".{key}")
        };
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_read_as_paths() {
        assert_eq!(dotted("/spec/containers/0/image"), "spec.containers[0].image");
        assert_eq!(dotted("/metadata/labels/a.b~1c"), "metadata.labels[\"a.b/c\"]");
        assert_eq!(dotted(""), "");
    }
}
