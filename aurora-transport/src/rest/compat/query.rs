//! The one GraphQL query there is: `pipelineById`, as clients of the older product write it.
//!
//! This is no GraphQL server. A document of another shape is refused with what is supported, and the
//! text, its words and its nesting are bounded before anything is looked up.

use std::collections::BTreeSet;

/// The longest query that is read; the older client's has some 200 bytes.
const MAX_QUERY: usize = 8 * 1024;
/// The most words and signs in it.
const MAX_TOKENS: usize = 400;
/// How deep fields of pipelines may be in one another.
const MAX_DEPTH: usize = 4;

/// A query that can be answered: for which pipeline, and which fields of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Query {
    /// Where the pipeline's id stands.
    pub(super) id: Id,
    /// What is asked about it, in order.
    pub(super) fields: Vec<Field>,
}

/// Where the id stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Id {
    /// In the query itself.
    Literal(String),
    /// In the variable of this name.
    Variable(String),
}

/// A field of a pipeline.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Field {
    /// The application; with its name or without.
    Application(Vec<ApplicationField>),
    /// The pipeline that it waits for.
    BlockedBy(Vec<Self>),
    /// Its id.
    Id,
    /// The pipeline that came in its place.
    ReplacedBy(Vec<Self>),
    /// Where it stands.
    Status,
    /// The name of the type.
    TypeName,
}

/// A field of an application.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ApplicationField {
    /// Its name.
    Name,
    /// The name of the type.
    TypeName,
}

/// Why a text is no query that can be answered.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}; this API answers `query ($pipelineID: uuid!) {{ pipelineById(id: $pipelineID) {{ … }} }}`")]
pub(super) struct Unanswerable(String);

impl Query {
    /// Reads a query.
    pub(super) fn read(text: &str) -> Result<Self, Unanswerable> {
        if text.len() > MAX_QUERY {
            return Err(Unanswerable(format!(
                "the query has {} bytes; at most {MAX_QUERY} are read",
                text.len()
            )));
        }
        let mut reader = Reader {
            tokens: tokens(text)?,
            next: 0,
        };
        let variable = reader.operation()?;
        reader.sign('{')?;
        reader.word("pipelineById", "a query is about")?;
        reader.sign('(')?;
        reader.word("id", "the argument of `pipelineById` is")?;
        reader.sign(':')?;
        let id = reader.id(variable.as_deref())?;
        reader.sign(')')?;
        let fields = reader.pipeline(1)?;
        reader.sign('}')?;
        match reader.peek() {
            None => Ok(Self { id, fields }),
            Some(token) => Err(Unanswerable(format!("{token} stands after the end of the query"))),
        }
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Token {
    Name(String),
    Sign(char),
    Text(String),
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => write!(f, "`{}`", name.chars().take(64).collect::<String>()),
            Self::Sign(sign) => write!(f, "`{sign}`"),
            Self::Text(_) => f.write_str("a text"),
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, Unanswerable> {
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(letter) = rest.next() {
        let token = match letter {
            // Commas mean nothing in GraphQL.
            ' ' | '\t' | '\r' | '\n' | ',' | '\u{feff}' => continue,
            '#' => {
                while rest.next_if(|letter| !matches!(letter, '\n' | '\r')).is_some() {}
                continue;
            }
            '{' | '}' | '(' | ')' | ':' | '!' | '$' => Token::Sign(letter),
            '"' => {
                let mut inside = String::new();
                while let Some(letter) = rest.next_if(|letter| !matches!(letter, '"' | '\\' | '\n')) {
                    inside.push(letter);
                }
                if rest.next() != Some('"') {
                    return Err(Unanswerable("a text has no end, or an escape".to_owned()));
                }
                Token::Text(inside)
            }
            letter if letter.is_ascii_alphabetic() || letter == '_' => {
                let mut name = String::from(letter);
                while let Some(letter) =
                    rest.next_if(|letter| letter.is_ascii_alphanumeric() || *letter == '_')
                {
                    name.push(letter);
                }
                Token::Name(name)
            }
            other => {
                return Err(Unanswerable(format!(
                    "`{}` is not understood",
                    other.escape_default()
                )));
            }
        };
        if tokens.len() == MAX_TOKENS {
            return Err(Unanswerable(format!(
                "the query has more than {MAX_TOKENS} words"
            )));
        }
        tokens.push(token);
    }
    Ok(tokens)
}

struct Reader {
    tokens: Vec<Token>,
    next: usize,
}

impl Reader {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.next).cloned();
        self.next += 1;
        token
    }

    fn is_sign(&self, sign: char) -> bool {
        matches!(self.peek(), Some(Token::Sign(found)) if *found == sign)
    }

    fn sign(&mut self, sign: char) -> Result<(), Unanswerable> {
        match self.take() {
            Some(Token::Sign(found)) if found == sign => Ok(()),
            found => Err(unexpected(&format!("`{sign}`"), found.as_ref())),
        }
    }

    fn name(&mut self, what: &str) -> Result<String, Unanswerable> {
        match self.take() {
            Some(Token::Name(name)) => Ok(name),
            found => Err(unexpected(what, found.as_ref())),
        }
    }

    fn word(&mut self, word: &str, why: &str) -> Result<(), Unanswerable> {
        match self.take() {
            Some(Token::Name(found)) if found == word => Ok(()),
            Some(found) => Err(Unanswerable(format!("{why} `{word}`, not {found}"))),
            None => Err(unexpected(&format!("`{word}`"), None)),
        }
    }

    /// `query Name ($variable: uuid!)`, each part of which may be absent; gives the variable.
    fn operation(&mut self) -> Result<Option<String>, Unanswerable> {
        if self.is_sign('{') {
            return Ok(None);
        }
        self.word("query", "the operation is a")?;
        if matches!(self.peek(), Some(Token::Name(_))) {
            self.next += 1;
        }
        if !self.is_sign('(') {
            return Ok(None);
        }
        self.sign('(')?;
        self.sign('$')?;
        let variable = self.name("a variable's name")?;
        self.sign(':')?;
        let kind = self.name("a variable's type")?;
        if !matches!(kind.as_str(), "uuid" | "ID" | "String") {
            return Err(Unanswerable(format!("a pipeline's id is a uuid, not a `{kind}`")));
        }
        if self.is_sign('!') {
            self.next += 1;
        }
        self.sign(')')?;
        Ok(Some(variable))
    }

    fn id(&mut self, variable: Option<&str>) -> Result<Id, Unanswerable> {
        match self.take() {
            Some(Token::Text(text)) => Ok(Id::Literal(text)),
            Some(Token::Sign('$')) => {
                let name = self.name("a variable's name")?;
                if variable != Some(name.as_str()) {
                    return Err(Unanswerable(format!("the variable `${name}` is not declared")));
                }
                Ok(Id::Variable(name))
            }
            found => Err(unexpected("an id", found.as_ref())),
        }
    }

    fn pipeline(&mut self, depth: usize) -> Result<Vec<Field>, Unanswerable> {
        if depth > MAX_DEPTH {
            return Err(Unanswerable(format!("fields are nested deeper than {MAX_DEPTH}")));
        }
        self.fields("a field of a pipeline", |reader, name| {
            Ok(match name {
                "__typename" => Field::TypeName,
                "application" => Field::Application(reader.application()?),
                "blockedByPipeline" => Field::BlockedBy(reader.pipeline(depth + 1)?),
                "id" => Field::Id,
                "replacedByPipeline" => Field::ReplacedBy(reader.pipeline(depth + 1)?),
                "status" => Field::Status,
                _ => {
                    let known = "id, status, application, blockedByPipeline, replacedByPipeline";
                    let name: String = name.chars().take(64).collect();
                    return Err(Unanswerable(format!(
                        "a pipeline has no field `{name}`; it has {known}"
                    )));
                }
            })
        })
    }

    fn application(&mut self) -> Result<Vec<ApplicationField>, Unanswerable> {
        self.fields("a field of an application", |_, name| match name {
            "__typename" => Ok(ApplicationField::TypeName),
            "name" => Ok(ApplicationField::Name),
            _ => {
                let name: String = name.chars().take(64).collect();
                Err(Unanswerable(format!(
                    "an application has no field `{name}`; it has name"
                )))
            }
        })
    }

    fn fields<T>(
        &mut self,
        what: &str,
        mut field: impl FnMut(&mut Self, &str) -> Result<T, Unanswerable>,
    ) -> Result<Vec<T>, Unanswerable> {
        self.sign('{')?;
        let (mut fields, mut names) = (Vec::new(), BTreeSet::new());
        while !self.is_sign('}') {
            let name = self.name(what)?;
            // Each may read another pipeline: how often is bounded by the depth alone.
            if !names.insert(name.clone()) {
                return Err(Unanswerable(format!("`{name}` is asked for twice in one place")));
            }
            fields.push(field(self, &name)?);
        }
        self.sign('}')?;
        if fields.is_empty() {
            return Err(Unanswerable(format!("between braces stands at least {what}")));
        }
        Ok(fields)
    }
}

fn unexpected(wanted: &str, found: Option<&Token>) -> Unanswerable {
    match found {
        Some(found) => Unanswerable(format!("{found} stands where {wanted} is expected")),
        None => Unanswerable(format!("the query ends where {wanted} is expected")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_clients_query_is_read() {
        let text = "\n  query ($pipelineID: uuid!) {\n    pipelineById(id: $pipelineID) {\n      id\n      status\n      blockedByPipeline {\n        id\n      }\n      application {\n        name\n      }\n    }\n  }\n";
        let query = Query::read(text).unwrap();
        assert_eq!(query.id, Id::Variable("pipelineID".to_owned()));
        let fields = [
            Field::Id,
            Field::Status,
            Field::BlockedBy(vec![Field::Id]),
            Field::Application(vec![ApplicationField::Name]),
        ];
        assert_eq!(query.fields, fields);
    }

    #[test]
    fn an_id_may_stand_in_the_query_itself() {
        let query = Query::read("{ pipelineById(id: \"0199\") { status } } # the end").unwrap();
        assert_eq!(query.id, Id::Literal("0199".to_owned()));
    }

    #[test]
    fn what_is_no_such_query_is_refused_with_what_would_be() {
        let deep = format!(
            "{{ pipelineById(id: \"x\") {} id {} }}",
            "{ blockedByPipeline ".repeat(40) + "{",
            "}".repeat(41)
        );
        for (text, says) in [
            ("", "ends where `query`"),
            ("mutation { stop }", "the operation is a `query`"),
            ("{ pipelines { id } }", "`pipelineById`"),
            ("{ pipelineById(id: $id) { id } }", "not declared"),
            ("query ($id: Int!) { pipelineById(id: $id) { id } }", "uuid"),
            ("{ pipelineById(id: \"x\") { secrets } }", "no field `secrets`"),
            (
                "{ pipelineById(id: \"x\") { application { owner } } }",
                "no field `owner`",
            ),
            ("{ pipelineById(id: \"x\") { } }", "at least"),
            (
                "{ pipelineById(id: \"x\") { blockedByPipeline { id } blockedByPipeline { id } } }",
                "twice in one place",
            ),
            ("{ pipelineById(id: \"x\") { id } } { id }", "after the end"),
            ("{ pipelineById(id: \"x) { id } }", "no end"),
            ("{ pipelineById(id: \"x\") { ...all } }", "not understood"),
            (deep.as_str(), "nested deeper"),
        ] {
            let error = Query::read(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
            assert!(error.contains("pipelineById(id: $pipelineID)"), "{error}");
        }
        let long = "{ ".repeat(MAX_QUERY);
        assert!(Query::read(&long).unwrap_err().0.contains("bytes"));
        let wordy = "a ".repeat(MAX_TOKENS + 1);
        assert!(Query::read(&wordy).unwrap_err().0.contains("words"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in "[{}()$:!\"a-z \\n#]{0,200}") {
            let _ = Query::read(&text);
        }
    }
}
