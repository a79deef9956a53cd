//! A gateway's or a bank's statement: which of its columns is what, and its lines as movements of money.
//!
//! Razorpay's columns are the fields of its settlement reconciliation (Razorpay, "Fetch Settlement Recon Details",
//! `api/settlements/fetch-recon.md` of github.com/razorpay/markdown-docs): `entity_id`, `type` (`payment`, `refund`, `transfer`,
//! `adjustment`), `amount` in paise, `currency`, `payment_id` of a refund, `order_receipt`. The API's own answer, a document with `items`,
//! is read as well. What the reports of the dashboard call their columns is not documented, and they can be renamed there; those, and
//! every other gateway's, are described by hand.
//!
//! Banks are free in everything: address lines above the columns, one column for each side of the account, `Cr` and `Dr` behind amounts,
//! totals below, other separators, and the bill's number within a text. A statement that is described as a bank's (`credit=`, `narration=`)
//! is also full of money that has nothing to do with any bill; [`super::matching::name_lines`] takes it apart.

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
    /// A text in which the bill's number stands somewhere.
    narration: Option<String>,
    sums: Sums,
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
    /// They are a vendor's documented ones, so a line of another form means that the file is not what it seems.
    documented: bool,
}

/// Where the money stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sums {
    /// In one column, whose sign or whose line's kind says which way it went.
    One(String),
    /// In a column for each way.
    Sides {
        credit: String,
        debit: Option<String>,
    },
}

impl Columns {
    /// Those a gateway documents.
    pub(crate) fn of(gateway: &str) -> Option<Self> {
        let column = |name: &str| Some(name.to_owned());
        (gateway == "razorpay").then(|| Self {
            reference: column("order_receipt"),
            transaction: column("entity_id"),
            narration: None,
            sums: Sums::One("amount".to_owned()),
            unit: Unit::Paise,
            kind: column("type"),
            refund: "refund".to_owned(),
            other: vec!["transfer".to_owned(), "adjustment".to_owned()],
            payment: column("payment"),
            original: column("payment_id"),
            currency: column("currency"),
            documented: true,
        })
    }

    /// A bank's statement: money of all kinds, most of it no bill's.
    pub(crate) const fn of_a_bank(&self) -> bool {
        self.narration.is_some() || matches!(self.sums, Sums::Sides { .. })
    }

    /// `reference=Order No,transaction=Txn Id,amount=Amount,unit=paise,type=Kind,refund=REFUND,original=Parent Id`, or a bank's
    /// `narration=Particulars,credit=Deposits,debit=Withdrawals`
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
        let sums = match (take("amount"), take("credit"), take("debit")) {
            (Some(amount), None, None) => Sums::One(amount),
            (None, Some(credit), debit) => Sums::Sides { credit, debit },
            _ => {
                return Err(
                    "--columns: either amount= or credit= (and debit=) is needed".to_owned(),
                );
            }
        };
        let columns = Self {
            reference: take("reference"),
            transaction: take("transaction"),
            narration: take("narration"),
            sums,
            documented: false,
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
        if columns.reference.is_none()
            && columns.transaction.is_none()
            && columns.narration.is_none()
        {
            return Err("--columns: reference=, transaction= or narration= is needed".to_owned());
        }
        if matches!(columns.sums, Sums::Sides { .. }) && columns.kind.is_some() {
            return Err(
                "--columns: credit= says which way money went, so there is no type=".to_owned(),
            );
        }
        Ok(columns)
    }

    /// The columns a file must have.
    fn wanted(&self) -> impl Iterator<Item = &String> {
        let (sum, debit) = match &self.sums {
            Sums::One(amount) => (amount, None),
            Sums::Sides { credit, debit } => (credit, debit.as_ref()),
        };
        [
            &self.reference,
            &self.transaction,
            &self.narration,
            &self.kind,
            &self.original,
            &self.currency,
        ]
        .into_iter()
        .flatten()
        .chain([sum])
        .chain(debit)
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
    /// Totals, and what follows the last line of money without naming anything. Place and text.
    pub(crate) foot: Vec<(String, String)>,
}

/// Reads a file: CSV with a line of names on top or below some lines of address, or Razorpay's JSON.
pub(crate) fn read(name: &str, text: &str, columns: &Columns) -> Result<Statement, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let rows = if text.trim_start().starts_with('{') {
        from_json(name, text)?
    } else {
        from_csv(name, text, columns)?
    };
    let mut statement = Statement::default();
    // What could not be read and names nothing: below the last line of money it is a note, between such lines it may be money.
    let mut nameless: Vec<(String, String, String)> = Vec::new();
    for (place, row) in rows {
        if !columns.documented && is_total(&row) {
            statement.foot.push((place, shown(&row)));
            continue;
        }
        match statement.add(&place, &row, columns) {
            Ok(()) => {
                let unreadable = nameless.drain(..);
                let unreadable = unreadable.map(|(place, why, _)| format!("{place}: {why}"));
                statement.unreadable.extend(unreadable);
            }
            Err(Refused { why, named: false }) if !columns.documented => {
                nameless.push((place, why, shown(&row)));
            }
            Err(Refused { why, .. }) => statement.unreadable.push(format!("{place}: {why}")),
        }
    }
    let foot = nameless.into_iter().map(|(place, _, text)| (place, text));
    statement.foot.extend(foot);
    Ok(statement)
}

/// Cells by the names of their columns, as [`key`] writes them.
type Row = BTreeMap<String, String>;

/// A column's name without what differs between two exports: blanks, line breaks, upper case.
fn key(name: &str) -> String {
    let words: Vec<&str> = name.split_whitespace().collect();
    words.join(" ").to_lowercase()
}

/// What a row says, for a person.
fn shown(row: &Row) -> String {
    let cells: Vec<&str> = row
        .values()
        .map(|cell| cell.trim())
        .filter(|cell| !cell.is_empty())
        .collect();
    cells.join(", ")
}

/// What parts the cells of a line, in the sequence in which it is tried.
const SEPARATORS: [char; 4] = [',', ';', '\t', '|'];

fn from_csv(name: &str, text: &str, columns: &Columns) -> Result<Vec<(String, Row)>, String> {
    let wanted: Vec<String> = columns.wanted().map(|column| key(column)).collect();
    let names_of = |line: &csv::Line| line.cells.iter().map(|cell| key(cell)).collect::<Vec<_>>();
    let known = |line: &csv::Line| {
        let names = names_of(line);
        wanted
            .iter()
            .filter(|column| names.contains(column))
            .count()
    };
    let first = csv::read(text, ',');
    let table = SEPARATORS.iter().find_map(|separator| {
        let lines = csv::read(text, *separator).ok()?;
        let head = lines.iter().position(|line| known(line) == wanted.len())?;
        Some((lines, head))
    });
    let Some((lines, head)) = table else {
        let lines = first.map_err(|why| format!("{name}: {why}"))?;
        let nearest = lines.iter().rev().max_by_key(|line| known(line));
        let nearest = nearest.ok_or_else(|| format!("{name} is empty"))?;
        let names = names_of(nearest);
        let missing = columns
            .wanted()
            .find(|column| !names.contains(&key(column)));
        return Err(format!(
            "{name} has no column `{}`; it has {}. Say which is which with --columns",
            missing.map_or("", String::as_str),
            nearest.cells.join(", ")
        ));
    };
    let mut lines = lines.into_iter().skip(head);
    let names = lines.next().map(|line| names_of(&line)).unwrap_or_default();
    for column in columns.wanted() {
        if names.iter().filter(|name| **name == key(column)).count() > 1 {
            return Err(format!("{name} has the column `{column}` more than once"));
        }
    }
    // A statement in pages repeats its names.
    lines
        .filter(|line| names_of(line) != names)
        .map(|line| {
            let more = line.cells.iter().skip(names.len());
            if more.clone().any(|cell| !cell.trim().is_empty())
                || (columns.documented && line.cells.len() != names.len())
            {
                return Err(format!(
                    "{name}:{}: {} cells under {} names",
                    line.number,
                    line.cells.len(),
                    names.len()
                ));
            }
            let cells = line
                .cells
                .into_iter()
                .chain(std::iter::repeat(String::new()));
            let row = names.iter().cloned().zip(cells).collect();
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
            (key(field), text)
        });
        (format!("{name}:item {number}"), row.collect())
    });
    Ok(rows.collect())
}

/// Why a line could not be read, and whether it names a transaction or a bill.
struct Refused {
    why: String,
    named: bool,
}

/// What a bank calls the lines that are no money of their own.
const TOTALS: [&str; 14] = [
    "total",
    "totals",
    "grand total",
    "sub total",
    "subtotal",
    "page total",
    "total amount",
    "total credit",
    "total credits",
    "total debit",
    "total debits",
    "opening balance",
    "closing balance",
    "balance b/f",
];

/// A line that sums up others.
fn is_total(row: &Row) -> bool {
    row.values().any(|cell| {
        let word = key(cell.trim_matches(|c: char| !c.is_alphanumeric()));
        TOTALS.contains(&word.as_str())
    })
}

impl Statement {
    fn add(&mut self, place: &str, row: &Row, columns: &Columns) -> Result<(), Refused> {
        let cell = |column: &Option<String>| {
            let text = column.as_ref().and_then(|column| row.get(&key(column)));
            text.map(|text| plain(text)).filter(|text| !text.is_empty())
        };
        let (id, reference, narration) = (
            cell(&columns.transaction),
            cell(&columns.reference),
            cell(&columns.narration),
        );
        // A line with one cell is a note, in whichever column it came to stand.
        let cells = row.values().filter(|cell| !cell.trim().is_empty()).count();
        let named = cells > 1 && (id.is_some() || reference.is_some() || narration.is_some());
        let refused = |why: String| Refused { why, named };
        let Some(amount) = amount(row, columns).map_err(refused)? else {
            return Ok(());
        };
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
                return Err(refused("a payment of less than nothing".to_owned()));
            }
            Kind::Payment
        } else {
            return Err(refused(format!(
                "`{}` is no kind of line that is known",
                word.unwrap_or_default()
            )));
        };
        if let Some(currency) = cell(&columns.currency)
            && currency != "INR"
        {
            return Err(refused(format!("it is in {currency}")));
        }
        if !named && !columns.of_a_bank() {
            return Err(refused(
                "it names neither a transaction nor a bill".to_owned(),
            ));
        }
        self.lines.push(Theirs {
            place: place.to_owned(),
            kind,
            id: id.map(str::to_owned),
            reference: reference.map(str::to_owned),
            narration: narration.map(str::to_owned),
            payment: cell(&columns.original)
                .filter(|_| kind == Kind::Refund)
                .map(str::to_owned),
            amount: amount.absolute(),
        });
        Ok(())
    }
}

/// The money of a line; less than nothing went out. `None`: a bank's line without any.
fn amount(row: &Row, columns: &Columns) -> Result<Option<Amount>, String> {
    let cell = |column: &str| row.get(&key(column)).map_or("", |cell| plain(cell));
    // Banks leave the side empty on which nothing moved, or draw a dash.
    let side = |column: &str| match cell(column).trim_matches(['-', '–', '—']) {
        "" => Ok(None),
        _ => Amount::parse(cell(column), columns.unit)
            .map(|amount| Some(amount).filter(|amount| *amount != Amount::default())),
    };
    match &columns.sums {
        Sums::One(column) if columns.of_a_bank() => side(column),
        Sums::One(column) => Amount::parse(cell(column), columns.unit).map(Some),
        Sums::Sides { credit, debit } => {
            let (into, out) = (side(credit)?, debit.as_deref().map_or(Ok(None), side)?);
            match (into, out) {
                (Some(_), Some(_)) => Err("it is on both sides of the account".to_owned()),
                (Some(into), None) if into < Amount::default() => {
                    Err("a credit of less than nothing".to_owned())
                }
                (Some(into), None) => Ok(Some(into)),
                // The column says that it went out, with or without a minus.
                (None, out) => Ok(out.map(|out| Amount::default().minus(out.absolute()))),
            }
        }
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
            "amount=a,credit=c,reference=r",
            "debit=d,reference=r",
            "credit=c,debit=d",
            "credit=c,reference=r,type=t",
        ] {
            assert!(Columns::parse(bad).is_err(), "{bad}");
        }
    }

    /// Field report B21.
    const BANK: &str = "Statement of account,,,,\nTran Date,Particulars,Debit,Credit,Balance\n\
        22/11/2026,UPI/BM345A-12,, \"1,850.00 \",\"2,10,000.00 Cr\"\nTOTAL,,0.00,\"1,850.00\",";

    fn bank(text: &str) -> Statement {
        let columns = Columns::parse("narration=Particulars,credit=Credit,debit=Debit").unwrap();
        assert!(columns.of_a_bank());
        read("bank.csv", text, &columns).unwrap()
    }

    #[test]
    fn a_bank_s_statement_is_read_as_banks_write_it() {
        let statement = bank(BANK);
        assert_eq!(statement.unreadable, [""; 0]);
        let [line] = &statement.lines[..] else {
            panic!("{statement:?}")
        };
        assert_eq!((line.kind, line.amount), (Kind::Payment, Amount(185_000)));
        assert_eq!(line.narration.as_deref(), Some("UPI/BM345A-12"));
        assert_eq!(line.place, "bank.csv:3");
        assert_eq!(statement.foot.len(), 1);
        assert_eq!(statement.foot[0].0, "bank.csv:4");
    }

    #[test]
    fn whatever_banks_put_around_their_lines_is_no_money() {
        let statement = bank(
            "\u{feff}Acme Stores;\"12, MG Road\"\r\nAccount;00123\r\nsep=;\r\n\r\n\
             Date; PARTICULARS ;Ref;\"debit\";Credit;Balance\r\n\
             ;Opening Balance;;;;2,10,000.00 Cr\r\n\
             22/11;UPI/A-1;1;-;\u{20b9} 1,850.00;\r\n\
             22/11;REFUND A-2;2;(500.00);0.00;\r\n\
             22/11;REFUND A-3;3;250.00 Dr;;\r\n\
             22/11;CHARGES;4;-10.00;;\r\n\
             Date;Particulars;Ref;Debit;Credit;Balance\r\n\
             23/11;NEFT/RENT;5;;\"10,00,000.00 Cr\";\r\n\
             23/11;;6;;5.00;\r\n\
             ;Closing Balance:;;;99.00;\r\n\
             Generated on 24/11/2026\r\n",
        );
        assert_eq!(statement.unreadable, [""; 0]);
        let seen: Vec<(Kind, i64)> = statement
            .lines
            .iter()
            .map(|line| (line.kind, line.amount.0))
            .collect();
        assert_eq!(
            seen,
            [
                (Kind::Payment, 185_000),
                (Kind::Refund, 50_000),
                (Kind::Refund, 25_000),
                (Kind::Refund, 1_000),
                (Kind::Payment, 100_000_000),
                (Kind::Payment, 500),
            ]
        );
        assert_eq!(statement.foot.len(), 2, "{:?}", statement.foot);
        // What may be money and cannot be read is still named.
        let statement = bank("Particulars,Debit,Credit\nA-1,1.00,1.00\nA-2,,-5\nA-3,,five\n");
        assert_eq!(statement.unreadable.len(), 3, "{statement:?}");
    }

    #[test]
    fn one_column_with_the_side_behind_it_is_enough() {
        let columns = Columns::parse("narration=Remarks,amount=Amount (INR)").unwrap();
        let text = "Remarks\tAmount  (INR)\nUPI A-1\t1,850.00 Cr\nREF A-1\t50.00 Dr\nnote\t\n";
        let statement = read("b.tsv", text, &columns).unwrap();
        assert_eq!(statement.unreadable, [""; 0]);
        let seen: Vec<(Kind, i64)> = statement
            .lines
            .iter()
            .map(|line| (line.kind, line.amount.0))
            .collect();
        assert_eq!(seen, [(Kind::Payment, 185_000), (Kind::Refund, 5_000)]);
    }

    #[test]
    fn totals_below_a_gateway_s_lines_are_no_money() {
        let columns = Columns::parse("reference=Order,transaction=Id,amount=Amount").unwrap();
        let text = "Report of November\nId,Order,Amount\np1,A-1,10.00\n,,5.00\np2,A-2,20.00\n,,30.00\nTotal,,30.00\nEnd of report\n";
        let statement = read("g.csv", text, &columns).unwrap();
        assert_eq!(statement.lines.len(), 2);
        // In the middle it may be money.
        assert_eq!(statement.unreadable.len(), 1);
        assert!(statement.unreadable[0].starts_with("g.csv:4"));
        assert_eq!(statement.foot.len(), 3, "{:?}", statement.foot);
    }
}
