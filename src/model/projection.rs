//! Which fields of a service's answer reach a client: those that are listed, and nothing else.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The deepest path, in names.
const DEEPEST: usize = 16;

/// The listed fields of an answer: `name`, `address.city`, `contracts[].number`, `tags[]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Projection(BTreeMap<String, Node>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    /// A string, a number, a boolean or null. An object or an array would show what nobody listed.
    Scalar,
    Object(Projection),
    Array(Box<Node>),
}

impl Projection {
    /// Parses the list.
    ///
    /// # Errors
    /// Which path is wrong, and why.
    pub fn parse<'a>(fields: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut root = Self::default();
        for field in fields {
            let steps: Vec<&str> = field.split('.').collect();
            if steps.len() > DEEPEST {
                return Err(format!("`{field}` has more than {DEEPEST} names"));
            }
            root.add(field, &steps)?;
        }
        Ok(root)
    }

    fn add(&mut self, field: &str, steps: &[&str]) -> Result<(), String> {
        let malformed = || {
            format!("`{field}` is not a path like name, address.city, contracts[].number or tags[]")
        };
        let (step, rest) = steps.split_first().ok_or_else(malformed)?;
        let name = step.trim_end_matches("[]");
        let depth = (step.len() - name.len()) / 2;
        if name.is_empty() || name.contains(['[', ']']) || name.contains(char::is_control) {
            return Err(malformed());
        }
        let new = || {
            let inner = if rest.is_empty() { Node::Scalar } else { Node::Object(Self::default()) };
            (0..depth).fold(inner, |inner, _| Node::Array(Box::new(inner)))
        };
        let contradicts = || format!("`{field}` contradicts another field of the list");
        let mut node = self.0.entry(name.to_owned()).or_insert_with(new);
        for _ in 0..depth {
            let Node::Array(inner) = node else { return Err(contradicts()) };
            node = inner;
        }
        match node {
            Node::Scalar if rest.is_empty() => Ok(()),
            Node::Object(inner) if !rest.is_empty() => inner.add(field, rest),
            _ => Err(contradicts()),
        }
    }

    /// The listed fields of an object; what is missing or has another type is null.
    pub fn of(&self, object: &Map<String, Value>) -> Value {
        let fields = self.0.iter().map(|(name, node)| (name.clone(), node.of(object.get(name))));
        Value::Object(fields.collect())
    }
}

impl Node {
    fn of(&self, value: Option<&Value>) -> Value {
        match (self, value) {
            (
                Self::Scalar,
                Some(value @ (Value::String(_) | Value::Number(_) | Value::Bool(_))),
            ) => value.clone(),
            (Self::Object(inner), Some(Value::Object(object))) => inner.of(object),
            (Self::Array(inner), Some(Value::Array(items))) => {
                items.iter().map(|item| inner.of(Some(item))).collect()
            }
            // Of an array, each item is null by itself.
            _ => Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Projection;

    fn project(fields: &[&str], answer: Value) -> Value {
        let projection = Projection::parse(fields.iter().copied()).expect("paths");
        projection.of(answer.as_object().expect("an object"))
    }

    #[test]
    fn t182_only_listed_fields_remain_and_others_are_null() {
        let fields = ["name", "address.city", "contracts[].number", "tags[]", "grid[][].x"];
        let answer = json!({
            "name": "Vera", "secret": 1, "address": { "city": "Perm", "zip": "614000" },
            "contracts": [{ "number": 7, "sum": 1e6 }, "no object", { "sum": 2 }, null],
            "tags": ["a", { "secret": 1 }, ["b"], null, true], "grid": [[{ "x": 1, "y": 2 }], {}],
        });
        assert_eq!(
            project(&fields, answer),
            json!({
                "name": "Vera", "address": { "city": "Perm" },
                "contracts": [{ "number": 7 }, null, { "number": null }, null],
                "tags": ["a", null, null, null, true], "grid": [[{ "x": 1 }], null],
            })
        );
        let differing = json!({
            "name": { "first": "Vera", "secret": 1 }, "address": "Perm", "contracts": { "number": 7 },
            "tags": "a",
        });
        let none = json!({
            "name": null, "address": null, "contracts": null, "tags": null, "grid": null,
        });
        assert_eq!(project(&fields, differing), none);
        assert_eq!(project(&fields, json!({})), none);
    }

    #[test]
    fn malformed_and_contradicting_paths_are_rejected() {
        for fields in [
            &[""][..],
            &["a..b"],
            &["a["],
            &["a[0]"],
            &["[]"],
            &["a]"],
            &["a[].[]"],
            &["a", "a.b"],
            &["a.b", "a"],
            &["a[]", "a"],
            &["a[].b", "a.b"],
            &["a[]", "a[].b"],
        ] {
            let parsed = Projection::parse(fields.iter().copied());
            assert!(parsed.is_err(), "{fields:?}");
        }
        let repeated = Projection::parse(["a.b", "a.c", "a.b"]).expect("fields");
        assert_eq!(repeated, Projection::parse(["a.c", "a.b"]).expect("fields"));
        let deep = vec!["a"; 17].join(".");
        assert!(Projection::parse([deep.as_str()]).is_err());
    }
}
