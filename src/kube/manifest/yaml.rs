//! YAML text to a tree, through granit-parser's events (the parser under serde-saphyr).
//!
//! The events are used directly because serde-saphyr's `Spanned` gives a value's place but not its
//! key's, and typing a document straight from text cannot tell unknown fields apart. A syntax error
//! gets the operator's likely mistake as help: tabs, Helm templates, unclosed quotes.

use std::borrow::Cow;

use granit_parser::{
    ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, StructureStyle, Tag,
};

use crate::base::Finding;
use crate::base::limits::DOCUMENT_DEPTH_MAX;

use super::Documents;
use super::build::{Builder, Place, Stop};
use super::scalar;
use super::tree::Value;

/// Reads all documents of `text`, which starts where the builder's base says.
pub(super) fn read<'a>(text: &'a str, mut builder: Builder<'a>) -> Documents<'a> {
    let mut options = granit_parser::options! {
        emit_unresolved_aliases: true,
        flow_nesting_limit: DOCUMENT_DEPTH_MAX + 1,
        block_nesting_limit: DOCUMENT_DEPTH_MAX + 1,
    };
    options.set_emit_comments(false);
    let mut reader = Reader {
        text,
        tag_warned: false,
    };
    for next in Parser::new_from_str_with_options(text, options) {
        let outcome = match next {
            Ok((event, span)) => reader.event(&mut builder, event, &span),
            Err(error) => Err(syntax_error(&mut builder, text, &error)),
        };
        if outcome.is_err() {
            break;
        }
    }
    builder.finish()
}

struct Reader<'a> {
    text: &'a str,
    tag_warned: bool,
}

impl<'a> Reader<'a> {
    fn event(
        &mut self,
        builder: &mut Builder<'a>,
        event: Event<'a>,
        span: &granit_parser::Span,
    ) -> Result<(), Stop> {
        let at = place(builder, &span.start);
        let end = offset(builder, &span.end);
        let written = || span.slice(self.text).unwrap_or_default();
        match event {
            Event::DocumentStart(..) => builder.document(),
            Event::Scalar(text, style, anchor, tag) => {
                let value = self.resolve(builder, at, text, style, tag.as_deref())?;
                return builder.scalar(at, end, value, anchor);
            }
            Event::SequenceStart(style, anchor, _) => {
                refuse_template(builder, at, self.text, span, style)?;
                return builder.open(at, false, anchor);
            }
            Event::MappingStart(style, anchor, _) => {
                refuse_template(builder, at, self.text, span, style)?;
                return builder.open(at, true, anchor);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                // A block's end event stands at the next token; its content ends with its last child.
                let bracket = written().ends_with([']', '}']);
                return builder.close(bracket.then_some(end));
            }
            Event::Alias(anchor) => return builder.alias(at, end, anchor, written()),
            Event::UnresolvedAlias(name) => return Err(builder.unknown_alias(at, &name)),
            _ => {}
        }
        Ok(())
    }

    fn resolve(
        &mut self,
        builder: &mut Builder<'a>,
        at: Place,
        text: Cow<'a, str>,
        style: ScalarStyle,
        tag: Option<&Tag>,
    ) -> Result<Value<'a>, Stop> {
        let plain = style == ScalarStyle::Plain;
        let Some(tag) = tag else {
            return Ok(if plain {
                scalar::resolve(text)
            } else {
                Value::Str(text)
            });
        };
        match tag.core_suffix() {
            Some("str") => Ok(Value::Str(text)),
            Some("int" | "float" | "bool" | "null") => Ok(scalar::resolve(text)),
            Some("binary") => Err(builder.stop(
                at,
                "the tag !!binary is not supported",
                "write the decoded text, or use binaryData",
            )),
            _ => {
                if !self.tag_warned {
                    let message = format!(
                        "the tag {} means nothing to Kubernetes and is ignored",
                        tag.original()
                    );
                    builder.note(Finding::warning(builder.span(at), message, ""));
                    self.tag_warned = true;
                }
                Ok(if plain {
                    scalar::resolve(text)
                } else {
                    Value::Str(text)
                })
            }
        }
    }
}

fn place(builder: &Builder<'_>, marker: &Marker) -> Place {
    let before = if marker.line() == 1 {
        builder.base.column
    } else {
        0
    };
    let column = u32::try_from(marker.col())
        .unwrap_or(u32::MAX)
        .saturating_add(1);
    let line = u32::try_from(marker.line()).unwrap_or(u32::MAX);
    Place {
        offset: offset(builder, marker),
        line: builder.base.line.saturating_add(line),
        column: column.saturating_add(before),
    }
}

fn offset(builder: &Builder<'_>, marker: &Marker) -> u32 {
    let within = u32::try_from(marker.byte_offset().unwrap_or(0)).unwrap_or(u32::MAX);
    builder.base.offset.saturating_add(within)
}

/// `{{ .Values.x }}` is a flow mapping with a mapping for its key: say what it really is.
fn refuse_template(
    builder: &mut Builder<'_>,
    at: Place,
    text: &str,
    span: &granit_parser::Span,
    style: StructureStyle,
) -> Result<(), Stop> {
    let rest = text
        .get(span.start.byte_offset().unwrap_or(0)..)
        .unwrap_or_default();
    if style == StructureStyle::Flow && rest.starts_with("{{") {
        return Err(template(builder, at, rest));
    }
    Ok(())
}

fn template(builder: &mut Builder<'_>, at: Place, rest: &str) -> Stop {
    let line = rest.lines().next().unwrap_or_default();
    let end = line.find("}}").map_or(line.len(), |end| end + 2);
    let written = super::tree::shorten(line.get(..end).unwrap_or(line)).replace("\\\"", "\"");
    let message = format!("`{written}` is a Helm template that was not rendered");
    builder.stop(
        at,
        message,
        "render it first: `helm template RELEASE CHART | podpath -f -`",
    )
}

/// The parser's error, or the mistake behind it.
fn syntax_error(builder: &mut Builder<'_>, text: &str, error: &ScanError) -> Stop {
    let at = place(builder, error.marker());
    if let Some((line, column, rest)) = first_template(text) {
        let line = builder.base.line.saturating_add(line);
        return template(
            builder,
            Place {
                offset: 0,
                line,
                column,
            },
            rest,
        );
    }
    let help = match error.kind() {
        ErrorKind::TabInIndentation
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabNotAllowed
        | ErrorKind::TabInPlainScalar => "indent with spaces: YAML allows no tabs there",
        ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidColonPlacement => {
            "check the indentation of this line against the line above; a value with `: ` in it needs quotes"
        }
        ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::ExpectedBlockSequenceEntry
        | ErrorKind::ExpectedDocumentStart
        | ErrorKind::SimpleKeyExpected
        | ErrorKind::InvalidIndentation => {
            "check the indentation: fields of one object start in the same column"
        }
        ErrorKind::UnclosedQuotedScalar => "close the quote that was opened here",
        ErrorKind::InvalidQuotedScalarIndent => "is a quote in a line above not closed?",
        ErrorKind::RecursionLimitExceeded => "no Kubernetes object is nested this deep",
        _ => "",
    };
    builder.stop(at, format!("not valid YAML: {}", error.info()), help)
}

/// The first `{{` outside a comment: line, column and the text from there.
fn first_template(text: &str) -> Option<(u32, u32, &str)> {
    for (index, line) in text.lines().enumerate() {
        let code = line.split(" #").next().unwrap_or_default();
        if line.trim_start().starts_with('#') {
            continue;
        }
        if let Some(at) = code.find("{{") {
            let column = code.get(..at)?.chars().count() + 1;
            return Some((
                u32::try_from(index + 1).ok()?,
                u32::try_from(column).ok()?,
                line.get(at..)?,
            ));
        }
    }
    None
}
