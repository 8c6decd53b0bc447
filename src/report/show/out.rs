//! One object being written in both forms at once.
//!
//! Invariant: text and JSON are filled by the same calls in the same order, so neither can forget a field.

use core::fmt::Display;
use serde_json::{Map, Value};

/// Text and JSON object so far.
#[derive(Default)]
pub(super) struct Obj {
    text: String,
    map: Map<String, Value>,
}

impl Obj {
    /// In the text only.
    pub fn say(&mut self, text: impl Display) -> &mut Self {
        use core::fmt::Write as _;
        let _ = write!(self.text, "{text}");
        self
    }

    /// In JSON only.
    pub fn key(&mut self, key: &str, value: impl Into<Value>) -> &mut Self {
        self.map.insert(key.to_owned(), value.into());
        self
    }

    /// In both: `text` and `key: value`.
    pub fn both(&mut self, key: &str, value: impl Into<Value>, text: impl Display) -> &mut Self {
        self.say(text).key(key, value)
    }

    /// `word value ` in the text and `key: value` in JSON.
    pub fn word<V: Display + Clone + Into<Value>>(
        &mut self,
        key: &str,
        word: &str,
        value: V,
    ) -> &mut Self {
        self.say(format_args!("{word} {value} "));
        self.key(key, value)
    }

    /// `word on ` or `word off ` in the text, a boolean in JSON.
    pub fn on_off(&mut self, key: &str, word: &str, on: bool) -> &mut Self {
        self.say(format_args!("{word} {} ", if on { "on" } else { "off" }));
        self.key(key, on)
    }

    /// Another object's text here, its value under `key`.
    pub fn nest(&mut self, key: &str, inner: Obj) -> &mut Self {
        self.text.push_str(&inner.text);
        self.key(key, inner.map)
    }

    /// Several objects' texts here, their values as an array under `key`.
    pub fn nest_all(&mut self, key: &str, inner: Vec<Obj>) -> &mut Self {
        let mut list = Vec::with_capacity(inner.len());
        for o in inner {
            self.text.push_str(&o.text);
            list.push(Value::Object(o.map));
        }
        self.key(key, list)
    }

    /// The text with its line end.
    pub fn line(mut self) -> String {
        self.text.push('\n');
        self.text
    }

    /// The text as it is.
    pub fn into_text(self) -> String {
        self.text
    }

    /// The JSON object.
    pub fn value(self) -> Value {
        Value::Object(self.map)
    }
}
