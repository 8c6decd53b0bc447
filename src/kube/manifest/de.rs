//! A serde deserializer over a tree's node, as strict as the API server's JSON decoder.
//!
//! k8s-openapi's types announce their field names in `deserialize_struct`; that list finds unknown
//! fields, so they become warnings with a place and a suggestion, and serde_ignored is not needed. Go's
//! rules hold: a null field of a struct is an absent one, `80.0` is the integer 80, nothing else is
//! coerced (`encoding/json`; apimachinery `pkg/util/json`). Recursion is bounded by
//! `DOCUMENT_DEPTH_MAX`.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};

use super::error::{Error, did_you_mean};
use super::path::{Path, Segment};
use super::tree::{Entry, NodeId, Tree, Value};
use crate::base::Finding;

/// Fields that are read over: `metadata.managedFields` is bookkeeping of server-side apply, often
/// larger than the object, and kubectl hides it too.
const SKIPPED: &[(&str, &str)] = &[("ObjectMeta", "managedFields")];

/// What one pass over an object shares.
#[derive(Debug)]
pub(super) struct Pass<'de> {
    pub tree: &'de Tree<'de>,
    /// Nodes that an earlier pass refused; they count as absent.
    pub refused: Vec<NodeId>,
    /// Unknown fields by their key's node, so that one behind several aliases is told once.
    pub warnings: RefCell<BTreeMap<NodeId, Finding>>,
}

/// The deserializer of one node.
#[derive(Clone, Copy, Debug)]
pub(super) struct De<'c, 'de> {
    pub pass: &'c Pass<'de>,
    pub id: NodeId,
    pub path: Option<&'c Path<'c>>,
    /// Set inside `Quantity`, which takes numbers for strings (apimachinery
    /// `resource.Quantity.UnmarshalJSON`).
    pub quantity: bool,
}

impl<'c, 'de> De<'c, 'de> {
    fn value(&self) -> &'de Value<'de> {
        self.pass.tree.value(self.id)
    }

    fn placed(&self, error: Error) -> Error {
        error.at(self.id, || {
            self.path.map_or_else(String::new, Path::to_string)
        })
    }

    fn expected<T>(&self, what: &str) -> Result<T, Error> {
        let found = self.pass.tree.describe(self.id);
        let written = self.pass.tree.source(self.id);
        let help = match self.value() {
            _ if written.starts_with("{{") => "render the Helm template first".into(),
            Value::Str(text) if text.contains("{{") => "render the Helm template first".into(),
            Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Float(_)
                if what == "a string" =>
            {
                format!("write it in quotes: \"{written}\"")
            }
            Value::Str(text)
                if (what.contains("integer") || what == "a number")
                    && text.parse::<f64>().is_ok() =>
            {
                "remove the quotes".into()
            }
            Value::Str(text) if what == "true or false" && matches!(&**text, "true" | "false") => {
                "remove the quotes".into()
            }
            _ => String::new(),
        };
        Err(self.placed(Error::new(format!("expected {what}, found {found}"), help)))
    }

    /// The node as an integer within the type's range.
    fn integer(&self, min: i128, max: i128) -> Result<i128, Error> {
        let value = match self.value() {
            Value::Int(value) => Some(i128::from(*value)),
            Value::Uint(value) => Some(i128::from(*value)),
            // Go's JSON writes a whole float without a point, so kubectl accepts it as an integer.
            Value::Float(value) if value.fract() == 0.0 && value.abs() < 9e15 => {
                Some(*value as i128)
            }
            _ => None,
        };
        match value {
            Some(value) if (min..=max).contains(&value) => Ok(value),
            Some(_) => self.expected(&format!("an integer between {min} and {max}")),
            None => self.expected("an integer"),
        }
    }

    fn is_refused(&self, id: NodeId) -> bool {
        !self.pass.refused.is_empty() && self.pass.refused.contains(&id)
    }

    fn unknown_field(&self, entry: Entry, fields: &'static [&'static str]) {
        let tree = self.pass.tree;
        let key = tree.str(entry.key).unwrap_or_default();
        let path = Path {
            parent: self.path,
            segment: Segment::Key(key),
        };
        let mut help = did_you_mean(key, fields);
        if help.is_empty() {
            help = "it is ignored".into();
        }
        let finding = Finding::warning(
            tree.span(entry.key),
            format!("unknown field `{path}`"),
            help,
        );
        self.pass
            .warnings
            .borrow_mut()
            .entry(entry.key)
            .or_insert(finding);
    }
}

/// Integers differ only in range and visitor method.
macro_rules! integers {
    ($($method:ident $visit:ident $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let value = self.integer(<$type>::MIN.into(), <$type>::MAX.into())?;
            // In range by the line above; the fallback is never taken.
            let value = <$type>::try_from(value).unwrap_or_default();
            visitor.$visit(value).map_err(|e: Error| self.placed(e))
        }
    )*};
}

impl<'de> Deserializer<'de> for De<'_, 'de> {
    type Error = Error;

    integers!(
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64, deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64
    );

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value() {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Int(value) => visitor.visit_i64(*value),
            Value::Uint(value) => visitor.visit_u64(*value),
            Value::Float(value) if value.fract() == 0.0 && value.abs() < 9e15 => {
                visitor.visit_i64(*value as i64)
            }
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Str(text) => visitor.visit_borrowed_str(text),
            Value::Seq(_) => return self.deserialize_seq(visitor),
            Value::Map(_) => return self.deserialize_map(visitor),
        }
        .map_err(|e| self.placed(e))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value() {
            Value::Bool(value) => visitor.visit_bool(*value).map_err(|e| self.placed(e)),
            // Go leaves the zero value when it meets null.
            Value::Null => visitor.visit_bool(false).map_err(|e| self.placed(e)),
            _ => self.expected("true or false"),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let value = match self.value() {
            Value::Int(value) => *value as f64,
            Value::Uint(value) => *value as f64,
            Value::Float(value) => *value,
            _ => return self.expected("a number"),
        };
        visitor.visit_f64(value).map_err(|e| self.placed(e))
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value() {
            Value::Str(text) => visitor.visit_borrowed_str(text),
            Value::Null => visitor.visit_borrowed_str(""),
            Value::Int(_) | Value::Uint(_) | Value::Float(_) if self.quantity => {
                visitor.visit_borrowed_str(self.pass.tree.source(self.id))
            }
            _ => return self.expected("a string"),
        }
        .map_err(|e| self.placed(e))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value() {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
        .map_err(|e| self.placed(e))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value() {
            Value::Null => visitor.visit_unit().map_err(|e| self.placed(e)),
            _ => self.expected("null"),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let inner = De {
            quantity: name == "Quantity",
            ..self
        };
        match visitor.visit_newtype_struct(inner) {
            // jiff's own words are about characters, not about manifests.
            Err(_) if matches!(name, "Time" | "MicroTime") => {
                self.expected("a time such as 2026-01-31T12:00:00Z")
            }
            result => result.map_err(|e| self.placed(e)),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value() {
            Value::Seq(_) | Value::Null => {
                let items = self.pass.tree.items(self.id);
                visitor
                    .visit_seq(Items {
                        de: self,
                        items,
                        index: 0,
                    })
                    .map_err(|e| self.placed(e))
            }
            _ => self.expected("a list"),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value() {
            Value::Map(_) | Value::Null => {
                let entries = self.pass.tree.entries(self.id);
                let fields = Fields {
                    de: self,
                    entries,
                    known: None,
                    value: None,
                };
                visitor.visit_map(fields).map_err(|e| self.placed(e))
            }
            _ => self.expected("an object"),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value() {
            Value::Map(_) => {
                let entries = self.pass.tree.entries(self.id);
                let fields = Fields {
                    de: self,
                    entries,
                    known: Some((name, fields)),
                    value: None,
                };
                visitor.visit_map(fields).map_err(|e| self.placed(e))
            }
            _ => self.expected(&format!("an object ({name})")),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value() {
            Value::Str(text) => {
                let text: &'de str = text;
                let variant: de::value::StrDeserializer<'_, Error> = text.into_deserializer();
                visitor.visit_enum(variant).map_err(|e| self.placed(e))
            }
            _ => self.expected("a string"),
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
}

/// The items of a list.
struct Items<'c, 'de> {
    de: De<'c, 'de>,
    items: &'de [NodeId],
    index: usize,
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        loop {
            let Some(id) = self.items.get(self.index).copied() else {
                return Ok(None);
            };
            let path = Path {
                parent: self.de.path,
                segment: Segment::Index(self.index),
            };
            self.index += 1;
            if self.de.is_refused(id) {
                continue;
            }
            let item = De {
                pass: self.de.pass,
                id,
                path: Some(&path),
                quantity: false,
            };
            return seed.deserialize(item).map(Some);
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len().saturating_sub(self.index))
    }
}

/// The fields of a struct, or the entries of a map when no names are known.
struct Fields<'c, 'de> {
    de: De<'c, 'de>,
    entries: &'de [Entry],
    known: Option<(&'static str, &'static [&'static str])>,
    value: Option<Entry>,
}

impl<'de> Fields<'_, 'de> {
    /// Whether the entry is shown to the type; an unknown one is reported here.
    fn wanted(&self, entry: Entry, key: &str) -> bool {
        if self.de.is_refused(entry.value) {
            return false;
        }
        let Some((name, fields)) = self.known else {
            return true;
        };
        if !fields.contains(&key) {
            self.de.unknown_field(entry, fields);
            return false;
        }
        *self.de.pass.tree.value(entry.value) != Value::Null && !SKIPPED.contains(&(name, key))
    }
}

impl<'de> MapAccess<'de> for Fields<'_, 'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        while let Some((entry, rest)) = self.entries.split_first() {
            self.entries = rest;
            let key = self.de.pass.tree.str(entry.key).unwrap_or_default();
            if !self.wanted(*entry, key) {
                continue;
            }
            self.value = Some(*entry);
            let path = Path {
                parent: self.de.path,
                segment: Segment::Key(key),
            };
            let place = |e: Error| e.at(entry.key, || path.to_string());
            return seed
                .deserialize(BorrowedStrDeserializer::new(key))
                .map(Some)
                .map_err(place);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some(entry) = self.value.take() else {
            return Err(Error::new("a value was asked for before its key", ""));
        };
        let key = self.de.pass.tree.str(entry.key).unwrap_or_default();
        let path = Path {
            parent: self.de.path,
            segment: Segment::Key(key),
        };
        seed.deserialize(De {
            pass: self.de.pass,
            id: entry.value,
            path: Some(&path),
            quantity: false,
        })
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}
