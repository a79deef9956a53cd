//! What a browser does: it takes a page's form and posts it where the form says.

use super::{Counter, Entrance, each};
use crate::stack::http::{self, Reply};

/// A form as it stood in a page.
pub(super) struct Form {
    pub(super) action: String,
    pub(super) fields: Vec<(String, String)>,
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
    let (value, _) = rest.split_once('"')?;
    Some(unescaped(value))
}

fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        plain.push_str(before);
        let (name, after) = after.split_once(';').unwrap();
        plain.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            number => {
                let code = number.strip_prefix('#').unwrap();
                let code = match code.strip_prefix('x') {
                    Some(hex) => u32::from_str_radix(hex, 16).unwrap(),
                    None => code.parse().unwrap(),
                };
                char::from_u32(code).unwrap()
            }
        });
        rest = after;
    }
    plain.push_str(rest);
    plain
}

/// A page's form whose address ends like this.
#[track_caller]
pub(super) fn form(page: &Reply, end: &str) -> Form {
    let text = page.text();
    assert_eq!(page.status, 200, "{text}");
    text.split("<form ")
        .skip(1)
        .map(|part| part.split("</form>").next().unwrap())
        .map(|part| Form {
            action: attribute(&format!(" {part}"), "action").unwrap(),
            fields: part
                .split("<input ")
                .skip(1)
                .map(|tag| {
                    let tag = format!(" {}", tag.split('>').next().unwrap());
                    let value = attribute(&tag, "value").unwrap_or_default();
                    (attribute(&tag, "name").unwrap(), value)
                })
                .collect(),
        })
        .find(|form| form.action.ends_with(end))
        .unwrap_or_else(|| panic!("no such form: {text}"))
}

impl Form {
    pub(super) fn value(&self, name: &str) -> &str {
        let mut fields = self.fields.iter();
        let found = fields.find(|(found, _)| found == name);
        &found.unwrap_or_else(|| panic!("no field {name}")).1
    }

    fn post_to(&self, url: &str) -> Reply {
        let body: Vec<String> = self
            .fields
            .iter()
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
            .collect();
        let kind = [("content-type", "application/x-www-form-urlencoded")];
        http::send("POST", url, &kind, Some(body.join("&").as_bytes()))
    }

    pub(super) fn post(&self) -> Reply {
        self.post_to(&self.action)
    }
}

/// Where an address leads that stands in the page of another.
fn resolved(page: &str, address: &str) -> String {
    if address.contains("://") {
        return address.to_owned();
    }
    match address.strip_prefix('/') {
        Some(path) => {
            let origin: Vec<&str> = page.splitn(4, '/').collect();
            format!("{}/{path}", origin[..3].join("/"))
        }
        None => format!("{}/{address}", page.rsplit_once('/').unwrap().0),
    }
}

/// As a browser writes a form.
fn encoded(text: &str) -> String {
    let mut written = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => written.push('+'),
            b if b.is_ascii_alphanumeric() || b"*-._".contains(&b) => written.push(b.into()),
            b => written.push_str(&format!("%{b:02X}")),
        }
    }
    written
}

#[test]
fn the_browser_goes_from_our_page_to_the_gateway_s_and_back_to_the_receipt() {
    let pages = |way: &super::Way| matches!(way.entrance, Entrance::Page(_));
    each(pages, |way| {
        let counter = Counter::open(way);
        let reference = counter.shop.sell_and_deliver();
        let order = counter.shop.order(&reference);
        let link = order["payment"]["link"].as_str().unwrap();
        let receipt = order["receipt_url"].as_str().unwrap();
        assert_eq!(link, format!("{receipt}/pay"));
        let own = http::get(link, &[]);
        // The page may post to the gateway; without that a browser would not.
        let first = form(&own, "");
        let origin = resolved(&first.action, "/");
        let policy = own.header("content-security-policy");
        let allowed = policy
            .split(';')
            .find_map(|rule| rule.trim().strip_prefix("form-action "))
            .unwrap();
        assert!(
            allowed
                .split(' ')
                .any(|one| one == origin.trim_end_matches('/')),
            "{policy}"
        );
        let visit = counter.enter(&reference);
        let theirs = visit.page.as_ref().unwrap();
        let pay = form(theirs, "pay");
        let url = resolved(&first.action, &pay.action);
        let back = form(&pay.post_to(&url), "").post();
        assert_eq!(back.status, 303, "{}", back.text());
        let place = resolved(receipt, back.header("location"));
        let page = http::get(&place, &[]);
        assert_eq!(page.status, 200, "{place}: {}", page.text());
        assert!(page.text().contains(&reference));
        counter.assert_paid(&reference);
        // What is paid is not offered again.
        assert_eq!(http::get(link, &[]).status, 302);
    });
}
