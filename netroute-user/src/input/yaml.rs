//! YAML with line numbers: splits files into documents, words parse errors for a person and finds
//! the line of a key. Knows no object of ours.

use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// One document of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Document<'a> {
    pub text: &'a str,
    /// Lines of the file before it.
    pub lines_before: u32,
}

/// Why a document cannot be read; `line` counts from 1 in the whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlError {
    pub line: Option<u32>,
    pub message: String,
}

/// Splits at `---` lines, so that one broken document does not hide the others. Documents of
/// comments only are left out.
#[must_use]
pub fn documents(text: &str) -> Vec<Document<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut found, mut start, mut start_line, mut at) = (Vec::new(), 0, 0, 0);
    for (number, line) in (0u32..).zip(text.split_inclusive('\n')) {
        if is_marker(line) && at > start {
            found.push(Document { text: &text[start..at], lines_before: start_line });
            (start, start_line) = (at, number);
        }
        at += line.len();
    }
    found.push(Document { text: &text[start..], lines_before: start_line });
    found.retain(|document| !is_blank(document.text));
    found
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn is_blank(text: &str) -> bool {
    text.lines()
        .map(str::trim)
        .all(|line| line.is_empty() || line.starts_with(['#', '%']) || matches!(line, "---" | "..."))
}

impl Document<'_> {
    /// # Errors
    /// When the text is no YAML or not a `T`.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, YamlError> {
        serde_norway::from_str(self.text).map_err(|error| YamlError {
            line: error.location().and_then(|location| self.line(location.line())),
            message: wording(&error.to_string()),
        })
    }

    /// The line in the file where the value at `path` stands.
    #[must_use]
    pub fn locate(&self, path: &[Step<'_>]) -> Option<u32> {
        let error = Search(path).deserialize(serde_norway::Deserializer::from_str(self.text)).err()?;
        self.line(error.location()?.line())
    }

    fn line(&self, within: usize) -> Option<u32> {
        Some(self.lines_before + u32::try_from(within).ok()?)
    }
}

/// One step of the way to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// The way to a value as people write it: `spec.ports[1].nodePort`.
#[must_use]
pub fn written(path: &[Step<'_>]) -> String {
    let mut name = String::new();
    for step in path {
        match step {
            Step::Key(key) if name.is_empty() => name.push_str(key),
            Step::Key(key) => name.extend([".", key]),
            Step::Index(index) => name.push_str(&format!("[{index}]")),
        }
    }
    name
}

/// Walks to a value and fails there on purpose: the error carries the line, which serde gives in
/// no other way.
#[derive(Clone, Copy)]
struct Search<'a>(&'a [Step<'a>]);

impl<'de> DeserializeSeed<'de> for Search<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Search<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a path into the document")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((&Step::Key(wanted), rest)) = self.0.split_first() else { return Err(found()) };
        while let Some(key) = map.next_key::<String>()? {
            if key == wanted {
                return map.next_value_seed(Search(rest));
            }
            map.next_value::<IgnoredAny>()?;
        }
        Err(found())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((&Step::Index(wanted), rest)) = self.0.split_first() else { return Err(found()) };
        for _ in 0..wanted {
            seq.next_element::<IgnoredAny>()?;
        }
        match seq.next_element_seed(Search(rest))? {
            Some(()) => Ok(()),
            None => Err(found()),
        }
    }
}

fn found<E: serde::de::Error>() -> E {
    E::custom("found")
}

/// Turns serde's wording into the operator's: no position (it is given apart), "key" for "field",
/// and the nearest known key.
fn wording(message: &str) -> String {
    let message = &without_positions(message);
    if let Some((before, after)) = message.split_once("unknown field `")
        && let Some((key, known)) = after.split_once('`')
    {
        return format!("{before}unknown key \"{key}\"; {}", advice(key, &backquoted(known)));
    }
    if let Some((before, after)) = message.split_once("unknown variant `")
        && let Some((value, known)) = after.split_once('`')
    {
        return format!("{before}unknown value \"{value}\"; {}", advice(value, &backquoted(known)));
    }
    if let Some((before, after)) = message.split_once("missing field `") {
        return format!("{before}the key \"{}\" is missing", after.trim_end_matches('`'));
    }
    if let Some((before, after)) = message.split_once("duplicate field `") {
        return format!("{before}the key \"{}\" is there twice", after.trim_end_matches('`'));
    }
    message.to_owned()
}

/// libyaml counts from the beginning of the document and may say it twice.
fn without_positions(message: &str) -> String {
    let mut parts = message.split(" at line ");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let after = part.trim_start_matches(|c: char| c.is_ascii_digit());
        let after = after.strip_prefix(" column ").unwrap_or(after);
        text.push_str(after.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    text
}

fn backquoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// What to write instead.
#[must_use]
pub fn advice(written: &str, known: &[&str]) -> String {
    match nearest(written, known.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if known.is_empty() => "no key is known here".to_owned(),
        None => format!("known are: {}", known.join(", ")),
    }
}

/// The known word that `written` was most likely meant to be.
#[must_use]
pub fn nearest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_lowercase();
    known
        .map(|word| (strsim::damerau_levenshtein(&written, &word.to_lowercase()), word))
        .filter(|&(distance, word)| distance <= 1 + word.len() / 4)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Two {
        #[expect(dead_code, reason = "only parsed")]
        device: String,
    }

    #[test]
    fn documents_keep_their_line_numbers_and_comment_only_ones_are_left_out() {
        let text = "# head\n---\na: 1\n--- # second\nb: 2\n---\n# nothing\n---\nc: 3";
        let found: Vec<_> = documents(text).iter().map(|d| (d.lines_before, d.text.len())).collect();
        assert_eq!(found, [(1, 9), (3, 18), (7, 8)]);
        assert_eq!(documents(text)[2].locate(&[Step::Key("c")]), Some(9));
    }

    #[test]
    fn dashes_inside_a_value_do_not_split() {
        assert_eq!(documents("a: b---c\n ---x\n----\n").len(), 1);
    }

    #[test]
    fn locate_finds_list_items_and_their_keys() {
        let text = "x: [1,\n 2]\nlist:\n  - a: 1\n  - b: 1\n    a: 2\n";
        let document = documents(text)[0];
        assert_eq!(document.locate(&[Step::Key("x"), Step::Index(1)]), Some(2));
        assert_eq!(document.locate(&[Step::Key("list"), Step::Index(1), Step::Key("a")]), Some(6));
    }

    #[test]
    fn unknown_keys_name_the_nearest_one_and_the_line() {
        let text = "---\ndevcie: eth0\n";
        let error = documents(text)[0].parse::<Two>().unwrap_err();
        assert_eq!(error.message, "unknown key \"devcie\"; did you mean \"device\"?");
        assert_eq!(error.line, Some(2));
        let error = documents("zzz: 1")[0].parse::<Two>().unwrap_err();
        assert_eq!(error.message, "unknown key \"zzz\"; known are: device");
    }

    #[test]
    fn missing_keys_are_named() {
        let error = documents("{}")[0].parse::<Two>().unwrap_err();
        assert_eq!(error.message, "the key \"device\" is missing");
    }

    #[test]
    fn broken_yaml_says_where_in_the_file() {
        let error =
            documents("# head\n---\na: {b: 1\n---\nb: 1\n")[0].parse::<serde_norway::Value>().unwrap_err();
        assert_eq!(error.message, "did not find expected ',' or '}', while parsing a flow mapping");
        assert_eq!(error.line, Some(4));
    }
}
