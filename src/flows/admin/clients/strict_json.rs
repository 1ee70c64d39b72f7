//! Strict parsing of JSON from untrusted clients: what two parsers could read differently is
//! refused.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

/// The maximum length in bytes; twenty keys and twenty URIs take a third of it.
pub const LONGEST: usize = 64 * 1024;

/// Parses an object; repeated members are refused at any depth.
///
/// # Errors
/// What is wrong, without repeating anything of the text.
pub fn object(bytes: &[u8]) -> Result<Map<String, Value>, &'static str> {
    match value(bytes)? {
        Value::Object(members) => Ok(members),
        _ => Err("the metadata must be a JSON object"),
    }
}

/// As [`object`], for any JSON value.
///
/// # Errors
/// As [`object`].
pub fn value(bytes: &[u8]) -> Result<Value, &'static str> {
    if bytes.len() > LONGEST {
        return Err("the metadata must be at most 64 KiB");
    }
    let read: Result<Strict, _> = serde_json::from_slice(bytes);
    match read {
        Ok(Strict(value)) => Ok(value),
        Err(error) if error.is_data() => Err("the metadata must not repeat a member"),
        Err(_) => Err("the metadata must be JSON"),
    }
}

/// A JSON value without repeated members.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut items = vec![];
        while let Some(Strict(item)) = from.next_element()? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some((name, Strict(value))) = from.next_entry::<String, _>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("the metadata must not repeat a member"));
            }
        }
        Ok(members.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_given_twice_is_refused_at_any_depth() {
        assert!(object(br#"{"a":1,"b":[{"c":null,"d":1.5,"e":"f"}]}"#).is_ok());
        for bad in [
            &br#"{"a":1,"a":1}"#[..],
            br#"{"b":[{"c":1,"c":2}]}"#,
            br#"{"a":1,"\u0061":1}"#,
            b"[]",
            b"{} {}",
            b"{",
            b"\xff",
            b"",
        ] {
            assert!(object(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert!(object("[".repeat(50_000).as_bytes()).is_err());
        assert!(object(format!("{{\"a\":\"{}\"}}", "x".repeat(LONGEST)).as_bytes()).is_err());
    }
}
