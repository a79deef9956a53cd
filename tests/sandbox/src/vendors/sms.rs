//! SMS in India: how many parts a text takes, and what the operators' registry (DLT) lets through.
//!
//! GSM 03.38 for the alphabet and the lengths; TRAI's TCCCPR 2018 and the operators' DLT portals for entity, header and
//! content template. The vendors accept nearly everything and hear of a refusal later.

use serde::Deserialize;

/// The alphabet every handset has: one unit each.
const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
/// Its extension: an escape and a character, two units.
const EXTENSION: &str = "^{}\\[~]|€\u{c}";

/// "{#var#}": up to 30 characters.
const SLOT: usize = 30;

/// How a text is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts {
    /// `GSM-7` or `UCS-2`.
    pub(super) encoding: &'static str,
    /// Into how many messages it is cut; each is paid for.
    pub(super) count: usize,
}

/// Counts the parts: 160 of GSM-7 or 70 of UCS-2 in one, 153 or 67 in each of several. What takes two units is never cut.
pub(super) fn parts(text: &str) -> Parts {
    let gsm: Option<Vec<usize>> = text
        .chars()
        .map(|character| {
            if BASIC.contains(character) {
                Some(1)
            } else if EXTENSION.contains(character) {
                Some(2)
            } else {
                None
            }
        })
        .collect();
    let (encoding, sizes, single, each) = match gsm {
        Some(sizes) => ("GSM-7", sizes, 160, 153),
        None => ("UCS-2", text.chars().map(char::len_utf16).collect(), 70, 67),
    };
    let mut count = 1_usize;
    if sizes.iter().sum::<usize>() > single {
        let mut filled = 0_usize;
        for size in sizes {
            filled = filled.saturating_add(size);
            if filled > each {
                count = count.saturating_add(1);
                filled = size;
            }
        }
    }
    Parts { encoding, count }
}

/// A content template, as registered.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DltTemplate {
    id: String,
    /// With `{#var#}` (or the tagged `{#numeric#}`, `{#alphanumeric#}`, `{#url#}`) where it varies.
    text: String,
    /// `active`, `inactive` or `blacklisted`.
    #[serde(default = "active")]
    status: String,
}

fn active() -> String {
    "active".to_owned()
}

/// What a business has registered.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dlt {
    /// The principal entity.
    #[serde(default)]
    pub(super) entity_id: Option<String>,
    /// Its headers.
    #[serde(default)]
    senders: Vec<String>,
    #[serde(default)]
    templates: Vec<DltTemplate>,
    /// The hosts that links may have; any if left out.
    #[serde(default)]
    url_hosts: Option<Vec<String>>,
    /// Another limit than 30 characters for a variable: links to this machine are longer than a shop's own.
    #[serde(default)]
    variable_length: Option<usize>,
}

/// Why the operator drops a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scrubbed {
    /// The header is not registered.
    Sender,
    /// No entity is named.
    NoEntity,
    /// Another entity is named.
    Entity,
    /// The template's id is not a number.
    TemplateId,
    /// No template has this id.
    NoTemplate,
    /// The template is inactive.
    Inactive,
    /// The template is blacklisted.
    Blacklisted,
    /// The text is not the template's.
    Mismatch,
    /// A variable is longer than 30 characters.
    TooLong,
    /// A link's host is not registered.
    Link,
}

impl Dlt {
    /// What the operators do with a message: header, entity, template, text, links.
    pub(super) fn scrub(
        &self,
        sender: &str,
        entity: Option<&str>,
        template: Option<&str>,
        body: &str,
    ) -> Result<(), Scrubbed> {
        if let Some(registered) = &self.entity_id {
            match entity {
                None | Some("") => return Err(Scrubbed::NoEntity),
                Some(entity) if entity != registered => return Err(Scrubbed::Entity),
                Some(_) => {}
            }
        }
        if !self.senders.iter().any(|known| known == sender) {
            return Err(Scrubbed::Sender);
        }
        let slot = self.variable_length.unwrap_or(SLOT);
        let template = match template {
            None | Some("") => {
                // Without an id the vendor's dashboard finds the template by its text.
                let found = self
                    .templates
                    .iter()
                    .find(|template| fits(&template.text, body, slot));
                found.ok_or(Scrubbed::Mismatch)?
            }
            Some(id) => {
                if !id.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(Scrubbed::TemplateId);
                }
                let found = self.templates.iter().find(|template| template.id == id);
                found.ok_or(Scrubbed::NoTemplate)?
            }
        };
        match template.status.as_str() {
            "inactive" => return Err(Scrubbed::Inactive),
            "blacklisted" => return Err(Scrubbed::Blacklisted),
            _ => {}
        }
        if !fits(&template.text, body, slot) {
            return Err(if fits(&template.text, body, usize::MAX) {
                Scrubbed::TooLong
            } else {
                Scrubbed::Mismatch
            });
        }
        match &self.url_hosts {
            Some(allowed) if hosts(body).any(|host| !allowed.iter().any(|known| known == host)) => {
                Err(Scrubbed::Link)
            }
            _ => Ok(()),
        }
    }
}

/// The hosts of the links in a text.
fn hosts(body: &str) -> impl Iterator<Item = &str> {
    body.split_whitespace()
        .filter_map(|word| word.split_once("://"))
        .map(|(_, rest)| {
            rest.split(['/', '?', '#', ':'])
                .next()
                .unwrap_or_default()
                .trim_end_matches(['.', ','])
        })
}

/// Whether a text is a template's with every variable filled by at most `limit` characters.
fn fits(template: &str, body: &str, limit: usize) -> bool {
    let body: Vec<char> = body.chars().collect();
    // Where in the text what came so far of the template can end.
    let mut ends = vec![0_usize];
    for (index, piece) in template.split("{#").enumerate() {
        let literal = match piece.split_once("#}") {
            Some((kind, literal)) if index > 0 => {
                ends = after_slot(&body, &ends, kind, limit);
                literal.to_owned()
            }
            _ if index > 0 => format!("{{#{piece}"),
            _ => piece.to_owned(),
        };
        let literal: Vec<char> = literal.chars().collect();
        ends = ends
            .into_iter()
            .filter_map(|end| {
                body.get(end..)
                    .filter(|rest| rest.starts_with(&literal))
                    .map(|_| end.saturating_add(literal.len()))
            })
            .collect();
    }
    ends.contains(&body.len())
}

fn after_slot(body: &[char], ends: &[usize], kind: &str, limit: usize) -> Vec<usize> {
    let mut after = Vec::new();
    for end in ends {
        let rest = body.get(*end..).unwrap_or_default();
        let longest = rest
            .iter()
            .take(limit)
            .take_while(|character| match kind {
                "numeric" => character.is_ascii_digit(),
                "alphanumeric" => character.is_alphanumeric(),
                "url" => !character.is_whitespace(),
                _ => true,
            })
            .count();
        after.extend((0..=longest).map(|length| end.saturating_add(length)));
    }
    after.sort_unstable();
    after.dedup();
    after
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> (&'static str, usize) {
        let parts = parts(text);
        (parts.encoding, parts.count)
    }

    #[test]
    fn parts_are_counted_as_handsets_join_them() {
        assert_eq!(count(""), ("GSM-7", 1));
        assert_eq!(count(&"x".repeat(160)), ("GSM-7", 1));
        assert_eq!(count(&"x".repeat(161)), ("GSM-7", 2));
        assert_eq!(count(&"x".repeat(306)), ("GSM-7", 2));
        assert_eq!(count(&"x".repeat(307)), ("GSM-7", 3));
        assert_eq!(count(&"€".repeat(80)), ("GSM-7", 1));
        assert_eq!(count(&"€".repeat(81)), ("GSM-7", 2));
        // 152 and a sign of two units: it goes to the second part whole, which then has 154.
        let straddling = format!("{}€{}", "x".repeat(152), "y".repeat(152));
        assert_eq!(count(&straddling), ("GSM-7", 3));
        // The rupee sign is in no GSM alphabet.
        assert_eq!(count(&format!("₹{}", "x".repeat(69))), ("UCS-2", 1));
        assert_eq!(count(&format!("₹{}", "x".repeat(70))), ("UCS-2", 2));
        assert_eq!(count(&"😀".repeat(35)), ("UCS-2", 1));
        // 33 pairs to a part of 67: the 34th is not cut in two.
        assert_eq!(count(&"😀".repeat(66)), ("UCS-2", 2));
        assert_eq!(count(&"😀".repeat(67)), ("UCS-2", 3));
    }

    #[test]
    fn a_text_fits_its_template_in_whole_and_in_each_variable() {
        let bill = "Dear {#var#}, your bill of Rs.{#numeric#} is ready: {#url#} -Acme";
        let dlt = Dlt {
            entity_id: Some("1".to_owned()),
            senders: vec!["ACMEST".to_owned()],
            templates: vec![DltTemplate {
                id: "7".to_owned(),
                text: bill.to_owned(),
                status: active(),
            }],
            url_hosts: Some(vec!["pay.example".to_owned()]),
            variable_length: None,
        };
        let scrub = |body: &str| dlt.scrub("ACMEST", Some("1"), Some("7"), body);
        let text = |name: &str, sum: &str, link: &str| {
            format!("Dear {name}, your bill of Rs.{sum} is ready: {link} -Acme")
        };
        assert_eq!(
            scrub(&text("A, B", "850", "https://pay.example/r/1")),
            Ok(())
        );
        assert_eq!(
            scrub(&text(&"x".repeat(30), "850", "https://pay.example")),
            Ok(())
        );
        assert_eq!(
            scrub(&text(&"x".repeat(31), "850", "https://pay.example")),
            Err(Scrubbed::TooLong)
        );
        assert_eq!(
            scrub(&text("A", "8.50", "https://pay.example")),
            Err(Scrubbed::Mismatch)
        );
        assert_eq!(
            scrub(&text("A", "850", "https://rzp.io/1")),
            Err(Scrubbed::Link)
        );
        assert_eq!(
            scrub(&format!("{} ", text("A", "850", "https://pay.example"))),
            Err(Scrubbed::Mismatch)
        );
    }
}
