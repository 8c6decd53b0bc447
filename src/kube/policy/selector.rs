//! Label selectors, compiled: what a set of labels must have, and which requirement it fails.
//!
//! apimachinery `pkg/apis/meta/v1/helpers.go` (LabelSelectorAsSelector), `pkg/labels/selector.go`
//! (Requirement.Matches). matchLabels and matchExpressions are one list, all ANDed. Equal selectors are
//! equal values, whatever order they were written in. Does not validate: that is [`super::check`].

mod text;

use core::fmt;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Labels of a pod, a namespace or a node.
pub type Labels = BTreeMap<String, String>;

/// What is asked of one key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Op {
    /// Present, with one of these values.
    In(Vec<String>),
    /// Absent, or present with none of these values.
    NotIn(Vec<String>),
    /// Present; an empty value counts.
    Exists,
    /// Absent.
    DoesNotExist,
}

/// One condition.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// What is asked of it.
    pub op: Op,
}

impl Requirement {
    /// Whether labels meet it.
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.op {
            Op::In(values) => value.is_some_and(|value| values.contains(value)),
            Op::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Op::Exists => value.is_some(),
            Op::DoesNotExist => value.is_none(),
        }
    }
}

impl fmt::Display for Requirement {
    /// As kubectl writes it: `app=web`, `tier in (a,b)`, `!legacy`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.op {
            Op::In(values) if values.len() == 1 => write!(f, "{key}={}", values.concat()),
            Op::In(values) => write!(f, "{key} in ({})", values.join(",")),
            Op::NotIn(values) if values.len() == 1 => write!(f, "{key}!={}", values.concat()),
            Op::NotIn(values) => write!(f, "{key} notin ({})", values.join(",")),
            Op::Exists => f.write_str(key),
            Op::DoesNotExist => write!(f, "!{key}"),
        }
    }
}

/// A conjunction of requirements; without any it matches everything.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

impl Selector {
    /// Matches everything.
    pub fn everything() -> Self {
        Selector::default()
    }

    /// Compiles the API's form. An operator that the API does not know matches nothing: validation has
    /// refused such an object before.
    pub fn of(selector: &LabelSelector) -> Self {
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            let op = Op::In(vec![value.clone()]);
            let key = key.clone();
            requirements.push(Requirement { key, op });
        }
        for expression in selector.match_expressions.iter().flatten() {
            let mut values = expression.values.clone().unwrap_or_default();
            values.sort();
            values.dedup();
            let op = match expression.operator.as_str() {
                "NotIn" => Op::NotIn(values),
                "Exists" => Op::Exists,
                "DoesNotExist" => Op::DoesNotExist,
                "In" => Op::In(values),
                _ => Op::In(Vec::new()),
            };
            let key = expression.key.clone();
            requirements.push(Requirement { key, op });
        }
        requirements.sort();
        requirements.dedup();
        Selector { requirements }
    }

    /// Asks for these values.
    pub fn equal(pairs: Vec<(String, String)>) -> Self {
        let pairs = pairs.into_iter();
        let mut requirements: Vec<Requirement> = pairs
            .map(|(key, value)| Requirement {
                key,
                op: Op::In(vec![value]),
            })
            .collect();
        requirements.sort();
        requirements.dedup();
        Selector { requirements }
    }

    /// Its requirements, by key.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether it has no requirement.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether labels meet every requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|r| r.matches(labels))
    }

    /// The requirements that labels do not meet.
    pub fn unmet<'s>(&'s self, labels: &'s Labels) -> impl Iterator<Item = &'s Requirement> + 's {
        self.requirements.iter().filter(|r| !r.matches(labels))
    }
}

impl fmt::Display for Selector {
    /// Its requirements with commas between them; `{}` when it matches everything.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.requirements.is_empty() {
            return f.write_str("{}");
        }
        for (index, requirement) in self.requirements.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(json: serde_json::Value) -> Selector {
        Selector::of(&serde_json::from_value(json).expect("a selector"))
    }

    #[test]
    fn corners_of_the_operators() {
        let labels: Labels = [("app".into(), "web".into()), ("x".into(), String::new())].into();
        let expression = |key: &str, operator: &str, values: &[&str]| {
            let e = serde_json::json!({"key": key, "operator": operator, "values": values});
            selector(serde_json::json!({"matchExpressions": [e]})).matches(&labels)
        };
        assert!(expression("app", "In", &["db", "web"]) && !expression("gone", "In", &["web"]));
        assert!(expression("gone", "NotIn", &["web"]) && !expression("app", "NotIn", &["web"]));
        assert!(expression("x", "Exists", &[]) && !expression("x", "DoesNotExist", &[]));
        assert!(expression("gone", "DoesNotExist", &[]));
        assert!(selector(serde_json::json!({"matchLabels": {"x": ""}})).matches(&labels));
        assert!(!selector(serde_json::json!({"matchLabels": {"gone": ""}})).matches(&labels));
        assert!(selector(serde_json::json!({"matchLabels": null})).is_everything());
    }

    #[test]
    fn order_does_not_matter_and_text_is_kubectls() {
        let a = selector(serde_json::json!({"matchLabels": {"b": "1", "a": "2"},
            "matchExpressions": [{"key": "c", "operator": "NotIn", "values": ["y", "x"]}]}));
        let b = selector(serde_json::json!({"matchLabels": {"a": "2", "b": "1"},
            "matchExpressions": [{"key": "c", "operator": "NotIn", "values": ["x", "y"]}]}));
        assert_eq!(a, b);
        assert_eq!(a.to_string(), "a=2,b=1,c notin (x,y)");
        assert_eq!(Selector::everything().to_string(), "{}");
    }
}
