//! A gateway's or a bank's statement: which of its columns is what, and its lines as movements of money.
//!
//! Razorpay's columns are the fields of its settlement reconciliation (Razorpay, "Fetch Settlement Recon Details",
//! `api/settlements/fetch-recon.md` of github.com/razorpay/markdown-docs): `entity_id`, `type` (`payment`, `refund`, `transfer`,
//! `adjustment`), `amount` in paise, `currency`, `payment_id` of a refund, `order_receipt`. The API's own answer, a document with `items`,
//! is read as well. What the reports of the dashboard call their columns is not documented, and they can be renamed there; those, and
//! every other gateway's, are described by hand.

use std::collections::BTreeMap;

use serde_json::Value;

use super::amount::{Amount, Unit};
use super::csv;
use super::matching::{Kind, Theirs};

/// Which column is what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Columns {
    /// The bill's number.
    reference: Option<String>,
    /// The transaction's id.
    transaction: Option<String>,
    amount: String,
    unit: Unit,
    /// What kind of line it is. Without it, money with a minus went back.
    kind: Option<String>,
    /// What stands in `kind` for a refund.
    refund: String,
    /// What stands in `kind` for a line that is neither payment nor refund.
    other: Vec<String>,
    /// What stands in `kind` for a payment; `None`: everything else.
    payment: Option<String>,
    /// Of a refund: the payment's id.
    original: Option<String>,
    currency: Option<String>,
}

impl Columns {
    /// Those a gateway documents.
    pub(crate) fn of(gateway: &str) -> Option<Self> {
        let column = |name: &str| Some(name.to_owned());
        (gateway == "razorpay").then(|| Self {
            reference: column("order_receipt"),
            transaction: column("entity_id"),
            amount: "amount".to_owned(),
            unit: Unit::Paise,
            kind: column("type"),
            refund: "refund".to_owned(),
            other: vec!["transfer".to_owned(), "adjustment".to_owned()],
            payment: column("payment"),
            original: column("payment_id"),
            currency: column("currency"),
        })
    }

    /// `reference=Order No,transaction=Txn Id,amount=Amount,unit=paise,type=Kind,refund=REFUND,original=Parent Id`
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut given: BTreeMap<&str, &str> = BTreeMap::new();
        for pair in text.split(',') {
            let (name, column) = pair
                .split_once('=')
                .filter(|(_, column)| !column.trim().is_empty())
                .ok_or_else(|| format!("--columns: `{pair}` is not name=column"))?;
            if given.insert(name.trim(), column.trim()).is_some() {
                return Err(format!("--columns: {name} is given twice"));
            }
        }
        let mut take = |name: &str| given.remove(name).map(str::to_owned);
        let columns = Self {
            reference: take("reference"),
            transaction: take("transaction"),
            amount: take("amount").ok_or("--columns: amount= is missing")?,
            unit: match take("unit").as_deref() {
                None | Some("rupees") => Unit::Rupees,
                Some("paise") => Unit::Paise,
                Some(other) => {
                    return Err(format!("--columns: unit is rupees or paise, not {other}"));
                }
            },
            kind: take("type"),
            refund: take("refund").unwrap_or_else(|| "refund".to_owned()),
            other: take("other").map_or_else(Vec::new, |words| {
                words
                    .split('|')
                    .map(|word| word.trim().to_owned())
                    .collect()
            }),
            payment: take("payment"),
            original: take("original"),
            currency: take("currency"),
        };
        if let Some(name) = given.keys().next() {
            return Err(format!("--columns: there is no {name}"));
        }
        if columns.reference.is_none() && columns.transaction.is_none() {
            return Err("--columns: reference= or transaction= is needed".to_owned());
        }
        Ok(columns)
    }
}

/// What a statement says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) lines: Vec<Theirs>,
    /// Neither payments nor refunds: transfers, adjustments. Place, what it is called, and how much.
    pub(crate) others: Vec<(String, String, Amount)>,
    /// Lines that could not be read, with the reason. Money may stand in them.
    pub(crate) unreadable: Vec<String>,
}

/// Reads a file: CSV with a line of names on top, or Razorpay's JSON.
pub(crate) fn read(name: &str, text: &str, columns: &Columns) -> Result<Statement, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let rows = if text.trim_start().starts_with('{') {
        from_json(name, text)?
    } else {
        from_csv(name, text, columns)?
    };
    let mut statement = Statement::default();
    for (place, row) in rows {
        if let Err(why) = statement.add(&place, &row, columns) {
            statement.unreadable.push(format!("{place}: {why}"));
        }
    }
    Ok(statement)
}

type Row = BTreeMap<String, String>;

fn from_csv(name: &str, text: &str, columns: &Columns) -> Result<Vec<(String, Row)>, String> {
    let mut lines = csv::read(text)
        .map_err(|why| format!("{name}: {why}"))?
        .into_iter();
    let head = lines.next().ok_or_else(|| format!("{name} is empty"))?;
    let names: Vec<String> = head
        .cells
        .iter()
        .map(|cell| cell.trim().to_owned())
        .collect();
    let wanted = [
        &columns.reference,
        &columns.transaction,
        &columns.kind,
        &columns.original,
        &columns.currency,
    ]
    .into_iter()
    .flatten()
    .chain([&columns.amount]);
    for column in wanted {
        match names.iter().filter(|name| *name == column).count() {
            1 => {}
            0 => {
                return Err(format!(
                    "{name} has no column `{column}`; it has {}. Say which is which with --columns",
                    names.join(", ")
                ));
            }
            _ => return Err(format!("{name} has the column `{column}` more than once")),
        }
    }
    lines
        .map(|line| {
            if line.cells.len() != names.len() {
                return Err(format!(
                    "{name}:{}: {} cells under {} names",
                    line.number,
                    line.cells.len(),
                    names.len()
                ));
            }
            let row = names.iter().cloned().zip(line.cells).collect();
            Ok((format!("{name}:{}", line.number), row))
        })
        .collect()
}

fn from_json(name: &str, text: &str) -> Result<Vec<(String, Row)>, String> {
    let document: Value = serde_json::from_str(text).map_err(|why| format!("{name}: {why}"))?;
    let items = document
        .get("items")
        .and_then(Value::as_array)
        .ok_or_else(|| format!("{name} has no `items`"))?;
    let rows = items.iter().zip(1_usize..).map(|(item, number)| {
        let fields = item.as_object().into_iter().flatten();
        let row = fields.map(|(field, value)| {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Null => String::new(),
                other => other.to_string(),
            };
            (field.clone(), text)
        });
        (format!("{name}:item {number}"), row.collect())
    });
    Ok(rows.collect())
}

impl Statement {
    fn add(&mut self, place: &str, row: &Row, columns: &Columns) -> Result<(), String> {
        let cell = |column: &Option<String>| {
            let text = column.as_ref().and_then(|column| row.get(column));
            text.map(|text| plain(text)).filter(|text| !text.is_empty())
        };
        let text = row.get(&columns.amount).map_or("", String::as_str);
        let amount = Amount::parse(plain(text), columns.unit)?;
        let word = cell(&columns.kind);
        let is = |wanted: &str| word.is_some_and(|word| word.eq_ignore_ascii_case(wanted));
        let kind = if columns.kind.is_none() {
            if amount < Amount::default() {
                Kind::Refund
            } else {
                Kind::Payment
            }
        } else if is(&columns.refund) {
            Kind::Refund
        } else if columns.other.iter().any(|other| is(other)) {
            let what = word.unwrap_or_default().to_owned();
            self.others.push((place.to_owned(), what, amount));
            return Ok(());
        } else if columns.payment.as_ref().is_none_or(|payment| is(payment)) && word.is_some() {
            if amount < Amount::default() {
                return Err("a payment of less than nothing".to_owned());
            }
            Kind::Payment
        } else {
            return Err(format!(
                "`{}` is no kind of line that is known",
                word.unwrap_or_default()
            ));
        };
        if let Some(currency) = cell(&columns.currency)
            && currency != "INR"
        {
            return Err(format!("it is in {currency}"));
        }
        let (id, reference) = (cell(&columns.transaction), cell(&columns.reference));
        if id.is_none() && reference.is_none() {
            return Err("it names neither a transaction nor a bill".to_owned());
        }
        self.lines.push(Theirs {
            place: place.to_owned(),
            kind,
            id: id.map(str::to_owned),
            reference: reference.map(str::to_owned),
            payment: cell(&columns.original)
                .filter(|_| kind == Kind::Refund)
                .map(str::to_owned),
            amount: amount.absolute(),
        });
        Ok(())
    }
}

/// A cell without the blanks around it, and without the apostrophe that keeps spreadsheets from counting with an id.
fn plain(cell: &str) -> &str {
    let cell = cell.trim();
    cell.strip_prefix('\'').unwrap_or(cell)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn razorpay(text: &str) -> Statement {
        read("f.csv", text, &Columns::of("razorpay").unwrap()).unwrap()
    }

    const HEAD: &str =
        "entity_id,type,debit,credit,amount,currency,fee,tax,payment_id,order_receipt,notes\n";

    #[test]
    fn razorpay_s_columns_are_known() {
        let text = format!(
            "\u{feff}{HEAD}pay_1,payment,0,97100,100000,INR,2900,0,,A-1,\"one, two\"\n\n\
             rfnd_1,refund,242500,0,242500,INR,0,0,pay_1,,\n\
             adj_1,adjustment,0,1012,1012,INR,0,0,,,\n"
        );
        let statement = razorpay(&text);
        assert_eq!(statement.unreadable, [""; 0]);
        assert_eq!(statement.lines.len(), 2);
        let [payment, refund] = &statement.lines[..] else {
            panic!("{statement:?}")
        };
        // What the customer paid counts, not what is left after the gateway's fee.
        assert_eq!(
            (payment.kind, payment.amount),
            (Kind::Payment, Amount(100_000))
        );
        assert_eq!(payment.reference.as_deref(), Some("A-1"));
        assert_eq!(
            (refund.kind, refund.amount),
            (Kind::Refund, Amount(242_500))
        );
        assert_eq!(refund.payment.as_deref(), Some("pay_1"));
        assert_eq!(refund.place, "f.csv:4");
        assert_eq!(
            statement.others,
            [("f.csv:5".to_owned(), "adjustment".to_owned(), Amount(1_012))]
        );
    }

    /// The sample of Razorpay's page on the endpoint, cut to two of its items.
    #[test]
    fn razorpay_s_own_answer_is_read_as_it_is() {
        let text = r#"{"entity": "collection", "count": 2, "items": [
            {"entity_id": "pay_DEXrnipqTmWVGE", "type": "payment", "debit": 0, "credit": 97100, "amount": 100000, "currency": "INR",
             "fee": 2900, "tax": 0, "on_hold": false, "settled": true, "payment_id": null, "order_id": "order_DEXrnRiR3SNDHA",
             "order_receipt": null},
            {"entity_id": "rfnd_DGRcGzZSLyEdg1", "type": "refund", "debit": 242500, "credit": 0, "amount": 242500, "currency": "INR",
             "fee": 0, "tax": 0, "payment_id": "pay_DEXq1pACSqFxtS", "order_receipt": null}]}"#;
        let statement = razorpay(text);
        assert_eq!(statement.unreadable, [""; 0]);
        assert_eq!(statement.lines[0].amount, Amount(100_000));
        assert_eq!(statement.lines[0].reference, None);
        assert_eq!(
            statement.lines[1].payment.as_deref(),
            Some("pay_DEXq1pACSqFxtS")
        );
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named_and_not_dropped() {
        let text = format!(
            "{HEAD}pay_1,payment,0,0,12.50,INR,0,0,,,\npay_2,reversal,0,0,1,INR,0,0,,,\n\
             pay_3,payment,0,0,1,USD,0,0,,,\n,payment,0,0,1,INR,0,0,,,\npay_5,payment,0,0,-1,INR,0,0,,,\npay_6,,0,0,1,INR,0,0,,,\n"
        );
        let statement = razorpay(&text);
        assert!(statement.lines.is_empty());
        assert_eq!(statement.unreadable.len(), 6, "{:?}", statement.unreadable);
        assert!(statement.unreadable[0].contains("unit=rupees"));
    }

    #[test]
    fn other_columns_are_named_by_hand() {
        let columns = Columns::parse(
            "reference=Order No,transaction=Txn Id,amount=Gross,type=Kind,refund=REF,original=Parent",
        )
        .unwrap();
        let text = "Txn Id,Order No,Kind,Gross,Parent\n'00123,A-1,SALE,\"1,23,456.50\",\n00124,A-1,ref,50.00,00123\n";
        let statement = read("b.csv", text, &columns).unwrap();
        assert_eq!(statement.unreadable, [""; 0]);
        assert_eq!(statement.lines[0].id.as_deref(), Some("00123"));
        assert_eq!(statement.lines[0].amount, Amount(12_345_650));
        assert_eq!(statement.lines[1].kind, Kind::Refund);
        // Without a kind, the sign tells.
        let columns = Columns::parse("transaction=id,amount=amount,unit=paise").unwrap();
        let statement = read("b.csv", "id,amount\na,100\nb,-40\n", &columns).unwrap();
        let kinds: Vec<Kind> = statement.lines.iter().map(|l| l.kind).collect();
        assert_eq!(kinds, [Kind::Payment, Kind::Refund]);
        assert_eq!(statement.lines[1].amount, Amount(40));
    }

    #[test]
    fn a_file_of_another_form_is_refused_as_a_whole() {
        let columns = Columns::of("razorpay").unwrap();
        for (text, why) in [
            ("", "empty"),
            ("a,b\n1,2\n", "no column"),
            ("{\"error\": {}}", "items"),
            (&format!("{HEAD}pay_1,payment\n"), "2 cells under 11 names"),
            (&HEAD.replace("notes", "amount"), "more than once"),
        ] {
            let refused = read("f.csv", text, &columns).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
        for bad in [
            "",
            "amount",
            "amount=",
            "transaction=a",
            "amount=a",
            "amount=a,reference=r,unit=euro",
            "amount=a,reference=r,amount=b",
            "amount=a,reference=r,date=d",
        ] {
            assert!(Columns::parse(bad).is_err(), "{bad}");
        }
    }
}
