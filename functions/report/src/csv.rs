//! Bills as lines of CSV (RFC 4180): amounts in whole paise, and no cell that a spreadsheet takes for a formula.

use chatbill_domain::flows::report::{Beside, Row};
use chatbill_domain::money::Paise;
use chatbill_domain::time::Millis;

/// The first line.
pub(crate) const HEADER: &str = "reference_id,created_at,gateway,channel,payment_status,total_paise,captured_paise,refunded_paise,\
    refunding_paise,gateway_id,payment_id,method,captured_at,gateway_refund_ids,bank_references,other_payment_ids,other_paise,\
    held,problem,received_paise,fee_paise,offer_paise\r\n";

/// One bill. Where a bill has several of something, they stand in one cell with blanks between them.
pub(crate) fn line(row: &Row) -> String {
    let paise = |amount: Paise| amount.get().to_string();
    let text = |text: Option<&String>| cell(text.map_or("", String::as_str));
    let list = |list: Vec<&str>| cell(&list.join(" "));
    let refunds = || row.refunds.iter();
    let beside = || row.beside.iter();
    let cells = [
        cell(row.reference.as_str()),
        cell(&row.created_at.rfc3339()),
        cell(&row.gateway),
        cell(&row.channel),
        cell(row.status.as_str()),
        paise(row.total),
        paise(row.captured),
        paise(row.refunded),
        paise(row.refunding),
        text(row.gateway_id.as_ref()),
        text(row.payment_id.as_ref()),
        text(row.method.as_ref()),
        text(row.captured_at.map(Millis::rfc3339).as_ref()),
        list(refunds().filter_map(|r| r.gateway_id.as_deref()).collect()),
        list(
            refunds()
                .filter_map(|r| r.bank_reference.as_deref())
                .collect(),
        ),
        list(beside().map(|b| b.payment_id.as_str()).collect()),
        cell(&beside().map(sum_of).collect::<Vec<_>>().join(" ")),
        list(row.held.clone()),
        text(row.problem.as_ref()),
        // Later columns stand behind the earlier ones, so that a sheet that counts columns goes on reading the right ones.
        paise(row.received),
        paise(row.fee),
        paise(row.offer),
    ];
    cells.join(",") + "\r\n"
}

/// Paise, or the smallest coin of a currency that is named.
fn sum_of(beside: &Beside) -> String {
    let currency = match beside.currency.as_str() {
        "INR" => "",
        other => other,
    };
    format!("{currency}{}", beside.amount.get())
}

/// A text as a cell. Spreadsheets run what begins like a formula, also behind blanks and inside quotes; an apostrophe in front makes it a
/// text (OWASP, "CSV Injection"). Vendors' ids and words come from outside, and even a bill's number may begin with a dash.
fn cell(text: &str) -> String {
    let formula = text
        .trim_start()
        .starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠'])
        || text.starts_with(['\t', '\r', '\n']);
    let safe = if formula {
        format!("'{text}")
    } else {
        text.to_owned()
    };
    if safe.contains(['"', ',', '\r', '\n', ';', '\t']) {
        format!("\"{}\"", safe.replace('"', "\"\""))
    } else {
        safe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_quoted_when_it_must_be_and_never_a_formula() {
        for (text, written) in [
            ("", ""),
            ("BM345A-12", "BM345A-12"),
            ("a,b", "\"a,b\""),
            ("say \"no\"", "\"say \"\"no\"\"\""),
            ("two\r\nlines", "\"two\r\nlines\""),
            ("-1", "'-1"),
            ("=1+1", "'=1+1"),
            ("  =1+1", "'  =1+1"),
            ("+91", "'+91"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "\"'\t=1\""),
            ("=cmd|' /C calc'!A0,x", "\"'=cmd|' /C calc'!A0,x\""),
            ("＝1", "'＝1"),
            ("a=b", "a=b"),
        ] {
            assert_eq!(cell(text), written, "{text:?}");
        }
    }
}
