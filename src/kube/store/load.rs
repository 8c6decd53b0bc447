//! From documents to the store: lists are opened, kinds looked up, names checked, duplicates refused.
//!
//! Keeps going after every mistake. A document's tree lives only while its objects are typed.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use crate::base::limits::DOCUMENTS_MAX;
use crate::base::{Finding, Severity, Span};
use crate::kube::manifest::{self, Input, NodeId, Tree, Value};

use super::check::Check;
use super::kinds::{KINDS, Kind, misnamed};
use super::name::Name;
use super::source::Source;
use super::{Object, RawObject, Store, Table, cross, refer};

/// Lists inside lists: kubectl makes none, one level is generous.
const LIST_DEPTH_MAX: u32 = 4;

pub(super) fn load(inputs: &[Input]) -> (Store, Vec<Finding>) {
    let (mut store, mut findings) = (Store::default(), Vec::new());
    let mut names = BTreeMap::new();
    let mut documents = 0_usize;
    for input in inputs {
        let before = findings.len();
        let mut loader = Loader {
            input,
            store: &mut store,
            findings: &mut findings,
            raw_names: &mut names,
        };
        for mut read in manifest::documents(input) {
            loader.findings.append(&mut read.findings);
            for &root in read.tree.roots() {
                documents += 1;
                if documents > DOCUMENTS_MAX {
                    let message = format!("more than {DOCUMENTS_MAX} documents");
                    findings.push(Finding::error(
                        read.tree.span(root),
                        message,
                        "split the input",
                    ));
                    return (store, findings);
                }
                loader.document(&read.tree, root, None, 0);
            }
        }
        let found = findings.get_mut(before..).unwrap_or_default();
        found.sort_by_key(|finding| (finding.span.line, finding.span.column));
    }
    store.index();
    count_unknown(&store, &mut findings);
    fold_repeated(&mut findings);
    // An object that could not be read would be missed as well: say only what is known.
    if !findings.iter().any(Finding::is_error) {
        refer::check(&store, &mut findings);
        cross::missing(&store, &mut findings);
    }
    cross::check(&store, &mut findings);
    (store, findings)
}

/// A field that this API version does not know stands in each of ten thousand Pods: say it once, with a
/// count.
fn fold_repeated(findings: &mut Vec<Finding>) {
    let mut first: BTreeMap<String, (usize, u32)> = BTreeMap::new();
    let mut kept: Vec<Finding> = Vec::new();
    for finding in findings.drain(..) {
        if finding.severity == Severity::Warning {
            if let Some((_, repeated)) = first.get_mut(&finding.message) {
                *repeated += 1;
                continue;
            }
            first.insert(finding.message.clone(), (kept.len(), 0));
        }
        kept.push(finding);
    }
    for (index, repeated) in first.into_values().filter(|(_, repeated)| *repeated > 0) {
        if let Some(finding) = kept.get_mut(index) {
            let places = if repeated == 1 { "place" } else { "places" };
            finding
                .message
                .push_str(&format!(", here and in {repeated} other {places}"));
        }
    }
    *findings = kept;
}

/// Kinds without a type that a controller reads from their text all the same (`kube::cni::calico`,
/// `kube::controllers`, `kube::proxy`).
const READ_AS_TEXT: [(&str, &str); 6] = [
    ("v1", "Endpoints"),
    ("networking.k8s.io/v1", "ServiceCIDR"),
    ("networking.k8s.io/v1beta1", "ServiceCIDR"),
    ("kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration"),
    ("crd.projectcalico.org/v1", "IPPool"),
    ("projectcalico.org/v3", "IPPool"),
];

/// One note for every kind that is kept but not used.
fn count_unknown(store: &Store, findings: &mut Vec<Finding>) {
    for ((api_version, kind), objects) in &store.unknown {
        if READ_AS_TEXT.contains(&(api_version.as_str(), kind.as_str())) {
            continue;
        }
        if let Some(first) = objects.first() {
            let message = format!("{} {kind} ({api_version}) kept, not used", objects.len());
            findings.push(Finding::note(first.source.span(), message));
        }
    }
}

/// An object before it is typed.
pub(super) struct Item<'t> {
    tree: &'t Tree<'t>,
    id: NodeId,
    kind: &'static Kind,
    name: Name,
}

/// What an object of a typed list inherits from it.
#[derive(Clone)]
struct Inherited {
    api_version: String,
    kind: String,
}

/// Where an untyped object of this name stood first: (apiVersion, kind, namespace, name).
type RawNames = BTreeMap<(String, String, Name), Source>;

/// Puts the objects of one input into the store.
pub(super) struct Loader<'l> {
    input: &'l Input,
    store: &'l mut Store,
    findings: &'l mut Vec<Finding>,
    raw_names: &'l mut RawNames,
}

impl Loader<'_> {
    fn error(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.findings.push(Finding::error(span, message, help));
    }

    fn document(&mut self, tree: &Tree<'_>, id: NodeId, inherited: Option<&Inherited>, depth: u32) {
        match tree.value(id) {
            Value::Null => return,
            Value::Map(_) => {}
            _ => {
                let message = format!(
                    "expected a Kubernetes object with apiVersion and kind, found {}",
                    tree.describe(id)
                );
                self.error(tree.span(id), message, "");
                return;
            }
        }
        let said = |field| tree.get(id, field).is_some() || inherited.is_some();
        let near = |field| {
            tree.entries(id).iter().any(|e| {
                tree.str(e.key)
                    .is_some_and(|key| manifest::closest(key, [field]).is_some())
            })
        };
        if !["apiVersion", "kind"]
            .into_iter()
            .any(|field| said(field) || near(field))
        {
            let message = "expected a Kubernetes object with apiVersion and kind, found neither";
            self.error(tree.span(id), message, "is this a manifest?");
            return;
        }
        let api_version = self.head(
            tree,
            id,
            "apiVersion",
            inherited.map(|i| i.api_version.as_str()),
        );
        let kind = self.head(tree, id, "kind", inherited.map(|i| i.kind.as_str()));
        let (Some(api_version), Some(kind)) = (api_version, kind) else {
            return;
        };
        let is_list = tree
            .get(id, "items")
            .is_some_and(|i| matches!(tree.value(i), Value::Seq(_) | Value::Null));
        match kind.strip_suffix("List") {
            Some(item) if is_list || item.is_empty() => {
                self.list(tree, id, &api_version, item, depth)
            }
            _ => self.object(tree, id, &api_version, &kind),
        }
    }

    /// `apiVersion` or `kind`.
    fn head(
        &mut self,
        tree: &Tree<'_>,
        id: NodeId,
        field: &str,
        inherited: Option<&str>,
    ) -> Option<String> {
        let node = match tree.get(id, field) {
            Some(node) if *tree.value(node) != Value::Null => node,
            _ if inherited.is_some() => return inherited.map(str::to_owned),
            _ => {
                let near = tree
                    .entries(id)
                    .iter()
                    .filter_map(|e| tree.str(e.key).map(|key| (key, e.key)));
                let near: Vec<_> = near.collect();
                let close = near
                    .iter()
                    .find(|(key, _)| manifest::closest(key, [field]).is_some());
                let span = tree.span(close.map_or(id, |(_, key)| *key));
                let help = close.map_or_else(
                    || format!("add `{field}:`, or remove the file if it is not a manifest"),
                    |(key, _)| format!("did you mean `{field}` instead of `{key}`?"),
                );
                self.error(span, format!("the object has no `{field}`"), help);
                return None;
            }
        };
        match tree.str(node) {
            Some(text) if !text.is_empty() => Some(text.to_owned()),
            _ => {
                let message = format!("{field}: expected a string, found {}", tree.describe(node));
                self.error(tree.span(node), message, "");
                None
            }
        }
    }

    /// `kind: List`, or a typed one whose items need not say what they are.
    fn list(&mut self, tree: &Tree<'_>, id: NodeId, api_version: &str, item: &str, depth: u32) {
        if depth >= LIST_DEPTH_MAX {
            self.error(
                tree.span(id),
                format!("lists are nested deeper than {LIST_DEPTH_MAX} levels"),
                "",
            );
            return;
        }
        const FIELDS: &[&str] = &["apiVersion", "items", "kind", "metadata"];
        for entry in tree.entries(id) {
            let key = tree.str(entry.key).unwrap_or_default();
            if !FIELDS.contains(&key) {
                let help = manifest::closest(key, FIELDS.iter().copied());
                let help = help.map_or("it is ignored".into(), |name| {
                    format!("did you mean `{name}`?")
                });
                self.findings.push(Finding::warning(
                    tree.span(entry.key),
                    format!("unknown field `{key}`"),
                    help,
                ));
            }
        }
        let Some(items) = tree.get(id, "items") else {
            self.error(tree.span(id), "the List has no `items`", "add `items:`");
            return;
        };
        if !matches!(tree.value(items), Value::Seq(_) | Value::Null) {
            let message = format!("items: expected a list, found {}", tree.describe(items));
            self.error(tree.span(items), message, "");
        }
        let inherited = Inherited {
            api_version: api_version.to_owned(),
            kind: item.to_owned(),
        };
        let inherited = (!item.is_empty()).then_some(inherited);
        for &object in tree.items(items) {
            self.document(tree, object, inherited.as_ref(), depth + 1);
        }
    }

    fn object(&mut self, tree: &Tree<'_>, id: NodeId, api_version: &str, kind: &str) {
        let row = KINDS
            .iter()
            .find(|row| row.kind == kind && row.api_version == api_version);
        if let Some(row) = row {
            if let Some(name) = self.name(tree, id, row) {
                (row.load)(
                    self,
                    Item {
                        tree,
                        id,
                        kind: row,
                        name,
                    },
                );
            }
            return;
        }
        if let Some((message, help)) = misnamed(api_version, kind) {
            let field = if message.contains("apiVersion") {
                "apiVersion"
            } else {
                "kind"
            };
            self.error(tree.span(tree.lookup(id, field)), message, help);
            return;
        }
        self.raw(tree, id, api_version, kind);
    }

    fn raw(&mut self, tree: &Tree<'_>, id: NodeId, api_version: &str, kind: &str) {
        let source = Source::new(self.input, tree, id, &[]);
        let text = |path| {
            tree.try_lookup(id, path)
                .ok()
                .and_then(|node| tree.str(node))
                .map(str::to_owned)
        };
        let name = text("metadata.name")
            .map(|name| Name::new(text("metadata.namespace").unwrap_or_default(), name));
        if let Some(name) = &name {
            let key = (api_version.to_owned(), kind.to_owned(), name.clone());
            if let Some(first) = self.raw_names.get(&key) {
                let same = first.text() == source.text();
                let (first, span) = (first.span(), source.span());
                self.duplicate(kind, name, &first, span, same);
                return;
            }
            self.raw_names.insert(key, source.clone());
        }
        let key = (api_version.to_owned(), kind.to_owned());
        self.store
            .unknown
            .entry(key)
            .or_default()
            .push(RawObject { name, source });
    }

    /// The object's checked name; without one it cannot be stored.
    fn name(&mut self, tree: &Tree<'_>, id: NodeId, row: &Kind) -> Option<Name> {
        let metadata = tree.lookup(id, "metadata");
        if metadata != id && !matches!(tree.value(metadata), Value::Map(_) | Value::Null) {
            let found = tree.describe(metadata);
            self.error(
                tree.span(metadata),
                format!("metadata: expected an object, found {found}"),
                "",
            );
            return None;
        }
        let name = tree.get(metadata, "name").filter(|_| metadata != id);
        let Some(node) = name.filter(|node| *tree.value(*node) != Value::Null) else {
            let help = match tree.get(metadata, "generateName") {
                Some(_) => "generateName needs an API server: write the name out",
                None => "add `metadata.name`",
            };
            self.error(
                tree.span(metadata),
                format!("the {} has no metadata.name", row.kind),
                help,
            );
            return None;
        };
        let Some(name) = tree.str(node) else {
            let message = format!(
                "metadata.name: expected a string, found {}",
                tree.describe(node)
            );
            self.error(
                tree.span(node),
                message,
                format!("write it in quotes: \"{}\"", tree.source(node)),
            );
            return None;
        };
        self.check_name(tree, node, "metadata.name", name, row.name);
        let namespace = tree
            .get(metadata, "namespace")
            .filter(|n| *tree.value(*n) != Value::Null);
        let written = namespace
            .and_then(|node| tree.str(node))
            .filter(|text| !text.is_empty());
        if !row.namespaced {
            if let (Some(node), Some(_)) = (namespace, written) {
                let message = format!("metadata.namespace: a {} belongs to no namespace", row.kind);
                self.findings.push(Finding::warning(
                    tree.span(node),
                    message,
                    "remove it; it is ignored",
                ));
            }
            return Some(Name::global(name));
        }
        if let (Some(node), Some(text)) = (namespace, written) {
            self.check_name(
                tree,
                node,
                "metadata.namespace",
                text,
                super::NameRule::Label,
            );
        }
        Some(Name::new(written.unwrap_or("default"), name))
    }

    fn check_name(
        &mut self,
        tree: &Tree<'_>,
        node: NodeId,
        path: &str,
        name: &str,
        rule: super::NameRule,
    ) {
        if let Err(expected) = rule.check(name) {
            let template = name.contains("{{");
            let help = if template {
                "render the Helm template first"
            } else {
                ""
            };
            let message = format!("{path}: expected {expected}, found {}", tree.describe(node));
            self.error(tree.span(node), message, help);
        }
    }

    /// Types an object, checks it and puts it into `table`.
    pub(super) fn put<T: DeserializeOwned + PartialEq>(
        &mut self,
        item: Item<'_>,
        table: fn(&mut Store) -> &mut Table<T>,
        check: fn(&T, &mut Check<'_>),
    ) {
        let Item {
            tree,
            id,
            kind,
            name,
        } = item;
        let (body, mut found) = manifest::typed::<T>(tree, id);
        let found_error = found.iter().any(Finding::is_error);
        self.findings.append(&mut found);
        let Some(body) = body else { return };
        let object = Object {
            name,
            body: Box::new(body),
            source: Source::new(self.input, tree, id, kind.points),
        };
        if let Some(first) = table(self.store).get(&object.name) {
            let (same, span) = (first.body == object.body, first.source.span());
            self.duplicate(kind.kind, &object.name, &span, object.source.span(), same);
            return;
        }
        // A field that was left out would be reported a second time as missing or zero.
        if !found_error {
            check(
                &object.body,
                &mut Check {
                    tree,
                    id,
                    findings: self.findings,
                },
            );
        }
        table(self.store).insert(object.name.clone(), object);
    }

    fn duplicate(&mut self, kind: &str, name: &Name, first: &Span, span: Span, same: bool) {
        let (severity, message, help) = if same {
            let message = format!("{kind} {name} is already defined at {first}, identically");
            (Severity::Warning, message, "remove one of the two")
        } else {
            let message = format!("{kind} {name} is already defined at {first}, differently");
            (Severity::Error, message, "remove or rename one of the two")
        };
        self.findings.push(Finding {
            severity,
            span,
            message,
            help: help.into(),
        });
    }
}
