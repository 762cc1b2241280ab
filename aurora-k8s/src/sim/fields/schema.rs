//! Which fields the kinds have and how their lists and maps merge, read from `kinds.schema`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

use super::set::Element;

/// A reference to one type of the schema.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Ty(usize);

/// What values of a type look like.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    /// Whatever the value is: maps merge key by key, lists are replaced.
    Any,
    /// One value.
    Scalar(Scalar),
    /// A list.
    List {
        /// What its items are.
        of: Ty,
        /// How two lists become one.
        merge: ListMerge,
    },
    /// A struct (declared fields), a map (`rest`), or both.
    Map {
        /// The declared fields.
        fields: BTreeMap<String, Ty>,
        /// What other keys hold; none: they are refused.
        rest: Option<Ty>,
        /// The map is replaced as a whole.
        atomic: bool,
        /// The fields that must be there.
        required: Vec<String>,
    },
}

/// The scalars that the API server tells apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Scalar {
    Boolean,
    Numeric,
    String,
    /// A string or a number (quantities, ports, percentages).
    Untyped,
}

/// How two lists become one.
#[derive(Clone, Debug)]
pub(crate) enum ListMerge {
    /// The newer list replaces the older.
    Atomic,
    /// Items are told apart by these keys; a key may have a default.
    Keys(Vec<(String, Option<Value>)>),
    /// Items are told apart by their value.
    Set,
}

impl Ty {
    /// The type of objects of a kind; undeclared kinds have typed metadata and are free otherwise.
    pub(crate) fn of_kind(group: &str, kind: &str) -> Self {
        let schema = &*SCHEMA;
        schema
            .kinds
            .get(&format!("{group}/{kind}"))
            .copied()
            .unwrap_or(schema.free)
    }

    pub(crate) fn shape(self) -> &'static Shape {
        &SCHEMA.types[self.0]
    }

    /// The type of what `element` leads to.
    pub(crate) fn step(self, element: &Element) -> Self {
        match (self.shape(), element) {
            (Shape::List { of, .. }, _) => *of,
            (Shape::Map { fields, rest, .. }, Element::Field(name)) => {
                fields.get(name).copied().or(*rest).unwrap_or(ANY)
            }
            _ => ANY,
        }
    }
}

const ANY: Ty = Ty(0);
const SOURCE: &str = include_str!("kinds.schema");
static SCHEMA: LazyLock<Schema> = LazyLock::new(|| Reader::default().read(SOURCE));

#[derive(Debug)]
struct Schema {
    types: Vec<Shape>,
    kinds: BTreeMap<String, Ty>,
    free: Ty,
}

/// Reads `kinds.schema`; a mistake in that file is caught by this module's tests.
#[derive(Debug, Default)]
struct Reader {
    blocks: BTreeMap<String, Block>,
    done: BTreeMap<String, Ty>,
    types: Vec<Shape>,
}

#[derive(Clone, Debug, Default)]
struct Block {
    base: Option<String>,
    fields: Vec<(String, String)>,
    open: bool,
}

impl Reader {
    fn read(mut self, source: &str) -> Schema {
        self.types.push(Shape::Any);
        let mut kinds = Vec::new();
        let mut current = String::new();
        for line in source.lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if let Some(head) = line.strip_suffix('{') {
                let head = head.trim();
                let (name, base) = head
                    .split_once(':')
                    .map_or((head, None), |(name, base)| (name.trim(), Some(base.trim())));
                current = name.to_owned();
                if let Some(kind) = name.strip_prefix("kind ") {
                    kinds.push((kind.to_owned(), current.clone()));
                }
                let block = Block {
                    base: base.map(str::to_owned),
                    ..Block::default()
                };
                self.blocks.insert(current.clone(), block);
            } else if line == "..." {
                if let Some(block) = self.blocks.get_mut(&current) {
                    block.open = true;
                }
            } else if let Some((names, ty)) = line.split_once(':')
                && let Some(block) = self.blocks.get_mut(&current)
            {
                let names = names.split_whitespace();
                block
                    .fields
                    .extend(names.map(|name| (name.to_owned(), ty.trim().to_owned())));
            }
        }
        let free = self.block("Free");
        let kinds = kinds
            .into_iter()
            .map(|(kind, block)| (kind, self.block(&block)))
            .collect();
        Schema {
            types: self.types,
            kinds,
            free,
        }
    }

    fn add(&mut self, shape: Shape) -> Ty {
        self.types.push(shape);
        Ty(self.types.len() - 1)
    }

    fn block(&mut self, name: &str) -> Ty {
        if let Some(ty) = self.done.get(name) {
            return *ty;
        }
        // Reserved first, so that a type may contain itself.
        let ty = self.add(Shape::Any);
        self.done.insert(name.to_owned(), ty);
        let (texts, open) = self.fields(name);
        let mut fields = BTreeMap::new();
        let mut required = Vec::new();
        for (field, text) in texts {
            let field = match field.strip_suffix('*') {
                Some(field) => {
                    required.push(field.to_owned());
                    field.to_owned()
                }
                None => field,
            };
            fields.insert(field, self.ty(&text));
        }
        let rest = open.then_some(ANY);
        self.types[ty.0] = Shape::Map {
            fields,
            rest,
            atomic: false,
            required,
        };
        ty
    }

    fn fields(&self, name: &str) -> (BTreeMap<String, String>, bool) {
        let Some(block) = self.blocks.get(name) else {
            return (BTreeMap::new(), true);
        };
        let (mut fields, mut open) = block
            .base
            .as_deref()
            .map_or_else(Default::default, |base| self.fields(base));
        fields.extend(block.fields.iter().cloned());
        open |= block.open;
        (fields, open)
    }

    fn ty(&mut self, text: &str) -> Ty {
        let text = text.trim();
        let scalar = match text {
            "any" => return ANY,
            "bool" => Some(Scalar::Boolean),
            "int" => Some(Scalar::Numeric),
            "string" => Some(Scalar::String),
            "scalar" => Some(Scalar::Untyped),
            _ => None,
        };
        if let Some(scalar) = scalar {
            return self.add(Shape::Scalar(scalar));
        }
        if let Some(inner) = text.strip_prefix('!') {
            let inner = self.ty(inner);
            let mut shape = inner.shape_in(&self.types);
            if let Shape::Map { atomic, .. } = &mut shape {
                *atomic = true;
            }
            return self.add(shape);
        }
        if let Some(inner) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
            let rest = Some(self.ty(inner));
            return self.add(Shape::Map {
                fields: BTreeMap::new(),
                rest,
                atomic: false,
                required: Vec::new(),
            });
        }
        if let Some((inner, merge)) = text.strip_prefix('[').and_then(|text| text.rsplit_once(']')) {
            let of = self.ty(inner);
            let merge = match merge.trim().strip_prefix("by ") {
                Some(keys) => ListMerge::Keys(keys.split(',').map(list_key).collect()),
                None if merge.trim() == "set" => ListMerge::Set,
                None => ListMerge::Atomic,
            };
            return self.add(Shape::List { of, merge });
        }
        self.block(text)
    }
}

impl Ty {
    fn shape_in(self, types: &[Shape]) -> Shape {
        types[self.0].clone()
    }
}

fn list_key(text: &str) -> (String, Option<Value>) {
    match text.trim().split_once('=') {
        Some((name, default)) => (name.to_owned(), Some(Value::from(default))),
        None => (text.trim().to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_in_the_schema_file_is_declared() {
        let mut reader = Reader::default();
        reader.types.push(Shape::Any);
        let known: Vec<String> = SOURCE
            .lines()
            .filter_map(|line| line.trim().strip_suffix('{'))
            .map(|head| head.split(':').next().unwrap().trim().to_owned())
            .collect();
        for line in SOURCE.lines() {
            let line = line.split('#').next().unwrap();
            let Some((_, ty)) = line
                .split_once(':')
                .filter(|_| !line.contains('{') || line.contains('}'))
            else {
                continue;
            };
            let name: String = ty.chars().filter(|at| at.is_alphanumeric()).collect();
            if name.starts_with(char::is_uppercase) {
                let name = ty.trim().trim_start_matches(['!', '[', '{']);
                let name = name.split([']', '}']).next().unwrap();
                assert!(
                    known.iter().any(|block| block == name),
                    "`{name}` is not declared"
                );
            }
        }
    }

    #[test]
    fn rollout_volumes_are_replaced_and_deployment_volumes_are_merged() {
        let volumes = |group, kind| {
            let mut ty = Ty::of_kind(group, kind);
            for field in ["spec", "template", "spec", "volumes"] {
                ty = ty.step(&Element::field(field));
            }
            ty.shape()
        };
        assert!(matches!(volumes("argoproj.io", "Rollout"), Shape::Any));
        assert!(matches!(
            volumes("apps", "Deployment"),
            Shape::List {
                merge: ListMerge::Keys(_),
                ..
            }
        ));
        let open = |group, kind| matches!(Ty::of_kind(group, kind).shape(), Shape::Map { rest: Some(_), .. });
        assert!(!open("argoproj.io", "Rollout"));
        assert!(open("example.dev", "Thing"));
    }
}
