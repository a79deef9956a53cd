//! Two lists of the same money, ours and theirs, line against line. Pure: no files, no network.
//!
//! A line is known by the transaction's id first, then by the bill's number. Money is never matched by its amount alone: two customers
//! who pay the same sum on the same day are not one.

use std::collections::{BTreeMap, BTreeSet};

use super::amount::Amount;

/// Which way the money went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Payment,
    Refund,
}

/// How far it is by our books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It must be in the statement.
    Done,
    /// A refund on its way: it may be.
    OnItsWay,
    /// A refund that will not happen: it must not be.
    Failed,
}

/// One movement of money in our books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ours {
    pub(crate) kind: Kind,
    pub(crate) state: State,
    /// The bill.
    pub(crate) reference: String,
    /// The gateway's id of it, once there is one.
    pub(crate) id: Option<String>,
    /// Of a refund: the payment.
    pub(crate) payment: Option<String>,
    pub(crate) amount: Amount,
}

/// One movement of money in their statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Theirs {
    /// Where it stands: a file and a line.
    pub(crate) place: String,
    pub(crate) kind: Kind,
    pub(crate) id: Option<String>,
    pub(crate) reference: Option<String>,
    /// A bank's words about it.
    pub(crate) narration: Option<String>,
    /// Of a refund: the payment.
    pub(crate) payment: Option<String>,
    /// Without a sign.
    pub(crate) amount: Amount,
}

/// What became of the lines. Every line of either side is in exactly one list; a pair stands for one of each.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) matched: Vec<(Ours, Theirs)>,
    /// The same transaction over another sum.
    pub(crate) different: Vec<(Ours, Theirs)>,
    /// The same bill and sum under another transaction id.
    pub(crate) other_id: Vec<(Ours, Theirs)>,
    /// They moved money for a refund that failed by our books.
    pub(crate) failed_here: Vec<(Ours, Theirs)>,
    /// The same transaction again in the statement.
    pub(crate) repeated: Vec<Theirs>,
    /// In the statement and not in our books.
    pub(crate) missing_here: Vec<Theirs>,
    /// In our books and not in the statement.
    pub(crate) missing_there: Vec<Ours>,
    /// Refunds on their way that the statement does not have yet.
    pub(crate) waiting: Vec<Ours>,
}

impl Outcome {
    /// Nothing is left to explain.
    pub(crate) fn agrees(&self) -> bool {
        self.different.is_empty()
            && self.other_id.is_empty()
            && self.failed_here.is_empty()
            && self.repeated.is_empty()
            && self.missing_here.is_empty()
            && self.missing_there.is_empty()
    }

    fn pair(&mut self, ours: Ours, theirs: Theirs) {
        if ours.state == State::Failed {
            self.failed_here.push((ours, theirs));
        } else if ours.amount == theirs.amount {
            self.matched.push((ours, theirs));
        } else {
            self.different.push((ours, theirs));
        }
    }
}

/// Takes a bank's lines apart: those in whose words a bill of ours is named, and money that is no bill's. A bank has ids of its own, so
/// only what we know by name counts; `bills` are the numbers of all bills in our books, paid or not.
pub(crate) fn name_lines(
    ours: &[Ours],
    bills: &BTreeSet<String>,
    theirs: Vec<Theirs>,
) -> (Vec<Theirs>, Vec<Theirs>) {
    let mut known: BTreeMap<String, BTreeSet<Name<'_>>> = BTreeMap::new();
    let mut know = |text: &str, name| {
        known.entry(text.to_uppercase()).or_default().insert(name);
    };
    for bill in bills {
        know(bill, Name::Bill(bill));
    }
    for entry in ours {
        if let Some(id) = &entry.id {
            know(id, Name::Transaction(id));
        }
    }
    let (mut named, mut no_bills) = (Vec::new(), Vec::new());
    for mut line in theirs {
        let texts = [&line.id, &line.reference, &line.narration];
        let texts: Vec<String> = texts
            .into_iter()
            .flatten()
            .map(|text| text.to_uppercase())
            .collect();
        let same_sum = |bill: &str| {
            ours.iter().any(|entry| {
                entry.reference == bill && entry.kind == line.kind && entry.amount == line.amount
            })
        };
        let mut best: (usize, BTreeSet<Name<'_>>) = (0, BTreeSet::new());
        for text in &texts {
            for part in parts(text) {
                let names = known.get(part).into_iter().flatten().filter(|name| {
                    // A short number may be part of a date or an hour; the sum has to fit as well.
                    part == text.trim()
                        || part.bytes().any(|b| b.is_ascii_alphabetic())
                        || matches!(name, Name::Bill(bill) if same_sum(bill))
                });
                let names: BTreeSet<_> = names.copied().collect();
                if names.is_empty() || part.len() < best.0 {
                    continue;
                }
                if part.len() > best.0 {
                    best = (part.len(), BTreeSet::new());
                }
                best.1.extend(names);
            }
        }
        let mut names = best.1.into_iter();
        match (names.next(), names.next()) {
            (None, _) => no_bills.push(line),
            (Some(name), None) => {
                (line.id, line.reference) = match name {
                    Name::Bill(bill) => (None, Some(bill.to_owned())),
                    Name::Transaction(id) => (Some(id.to_owned()), None),
                };
                named.push(line);
            }
            // It speaks of two of our bills: a person has to look.
            (Some(_), Some(_)) => {
                (line.id, line.reference) = (None, None);
                named.push(line);
            }
        }
    }
    (named, no_bills)
}

/// What a word in a bank's text can be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Name<'a> {
    Bill(&'a str),
    Transaction(&'a str),
}

/// A text, and everything in it that begins and ends where a word does: bills' numbers may have dashes, dots and underscores in them.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let edge = |at: usize, begins: bool| {
        let (before, behind) = text.split_at(at);
        let (before, behind) = (
            letter(before.chars().next_back()),
            letter(behind.chars().next()),
        );
        if begins {
            behind && !before
        } else {
            before && !behind
        }
    };
    let places: Vec<usize> = text
        .char_indices()
        .map(|(at, _)| at)
        .chain([text.len()])
        .collect();
    let starts: Vec<usize> = places
        .iter()
        .copied()
        .filter(|at| edge(*at, true))
        .collect();
    let ends: Vec<usize> = places
        .iter()
        .copied()
        .filter(|at| edge(*at, false))
        .collect();
    let pairs: Vec<&str> = starts
        .into_iter()
        .flat_map(|start| {
            let ends = ends.iter().filter(move |end| **end > start);
            ends.filter_map(move |end| text.get(start..*end))
        })
        // The longest number and id there are.
        .filter(|part| part.len() <= 80)
        .collect();
    std::iter::once(text.trim()).chain(pairs)
}

/// Matches the two.
pub(crate) fn matching(ours: Vec<Ours>, theirs: Vec<Theirs>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut open: BTreeMap<usize, Ours> = ours.into_iter().enumerate().collect();
    let left = repeated(theirs, &mut outcome);
    // Nearly every line is known by its id, so this round is by a map; the later ones compare what is left with what is left.
    let mut known: BTreeMap<(Kind, String), Vec<usize>> = BTreeMap::new();
    for (index, ours) in open.iter().rev() {
        if let Some(id) = &ours.id {
            known
                .entry((ours.kind, id.clone()))
                .or_default()
                .push(*index);
        }
    }
    let mut left = left
        .into_iter()
        .filter_map(|line| {
            let id = line.id.clone().unwrap_or_default();
            let index = known.get_mut(&(line.kind, id)).and_then(Vec::pop);
            match index.and_then(|index| open.remove(&index)) {
                Some(ours) => {
                    outcome.pair(ours, line);
                    None
                }
                None => Some(line),
            }
        })
        .collect::<Vec<_>>();
    // Each round knows less than the one before; what an earlier one took is not there for a later one.
    let rounds: [fn(&Ours, &Theirs) -> bool; 4] = [
        by_payment_and_amount,
        by_reference_and_amount,
        by_payment,
        by_reference,
    ];
    for fits in rounds {
        let mut next = Vec::new();
        for line in left {
            // A failed refund is the last one to be taken for it.
            let mut candidates: Vec<usize> = open
                .iter()
                .filter(|(_, ours)| ours.kind == line.kind && fits(ours, &line))
                .map(|(index, _)| *index)
                .collect();
            candidates.sort_by_key(|index| {
                open.get(index).map_or(2, |ours| match ours.state {
                    State::Done => 0,
                    State::OnItsWay => 1,
                    State::Failed => 2,
                })
            });
            match candidates.first().and_then(|index| open.remove(index)) {
                Some(ours) => outcome.pair(ours, line),
                None => next.push(line),
            }
        }
        left = next;
    }
    for line in left {
        let twin = open
            .iter()
            .find(|(_, ours)| same_bill_and_sum(ours, &line))
            .map(|(index, _)| *index);
        match twin.and_then(|index| open.remove(&index)) {
            Some(ours) => outcome.other_id.push((ours, line)),
            None => outcome.missing_here.push(line),
        }
    }
    for ours in open.into_values() {
        match ours.state {
            State::Done => outcome.missing_there.push(ours),
            State::OnItsWay => outcome.waiting.push(ours),
            State::Failed => {}
        }
    }
    outcome
}

/// Takes out lines that repeat an earlier one. Where a gateway gives its refunds no id of their own, all parts of a refund carry that of
/// the payment, so a refund counts as repeated only under an id of its own.
fn repeated(theirs: Vec<Theirs>, outcome: &mut Outcome) -> Vec<Theirs> {
    let mut seen: BTreeSet<(Kind, String)> = BTreeSet::new();
    let payments: BTreeSet<String> = theirs
        .iter()
        .filter(|line| line.kind == Kind::Payment)
        .filter_map(|line| line.id.clone())
        .collect();
    let mut left = Vec::new();
    for line in theirs {
        let own = line.id.clone().filter(|id| {
            line.kind == Kind::Payment
                || (!payments.contains(id) && line.payment.as_ref() != Some(id))
        });
        match own {
            Some(id) if !seen.insert((line.kind, id.clone())) => outcome.repeated.push(line),
            _ => left.push(line),
        }
    }
    left
}

/// Two ids that say different things are two transactions, whatever else is alike.
fn may_be(ours: &Ours, theirs: &Theirs) -> bool {
    match (&ours.id, &theirs.id) {
        (Some(_), Some(id)) => ours.payment.as_ref() == Some(id),
        _ => true,
    }
}

/// A refund, by the payment it is of.
fn by_payment(ours: &Ours, theirs: &Theirs) -> bool {
    let named = theirs.payment.as_ref().or(theirs.id.as_ref());
    ours.payment.is_some() && ours.payment.as_ref() == named && may_be(ours, theirs)
}

fn by_payment_and_amount(ours: &Ours, theirs: &Theirs) -> bool {
    by_payment(ours, theirs) && ours.amount == theirs.amount
}

fn by_reference(ours: &Ours, theirs: &Theirs) -> bool {
    theirs.reference.as_ref() == Some(&ours.reference) && may_be(ours, theirs)
}

fn by_reference_and_amount(ours: &Ours, theirs: &Theirs) -> bool {
    by_reference(ours, theirs) && ours.amount == theirs.amount
}

fn same_bill_and_sum(ours: &Ours, theirs: &Theirs) -> bool {
    ours.kind == theirs.kind
        && ours.state != State::Failed
        && theirs.reference.as_ref() == Some(&ours.reference)
        && ours.amount == theirs.amount
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paid(reference: &str, id: &str, paise: i64) -> Ours {
        Ours {
            kind: Kind::Payment,
            state: State::Done,
            reference: reference.to_owned(),
            id: Some(id.to_owned()),
            payment: None,
            amount: Amount(paise),
        }
    }

    fn back(reference: &str, id: Option<&str>, payment: &str, paise: i64) -> Ours {
        Ours {
            kind: Kind::Refund,
            id: id.map(str::to_owned),
            payment: Some(payment.to_owned()),
            ..paid(reference, "", paise)
        }
    }

    fn line(kind: Kind, id: &str, paise: i64) -> Theirs {
        Theirs {
            place: "1".to_owned(),
            kind,
            id: (!id.is_empty()).then(|| id.to_owned()),
            reference: None,
            narration: None,
            payment: None,
            amount: Amount(paise),
        }
    }

    fn of(reference: &str, line: Theirs) -> Theirs {
        Theirs {
            reference: Some(reference.to_owned()),
            ..line
        }
    }

    fn from(payment: &str, line: Theirs) -> Theirs {
        Theirs {
            payment: Some(payment.to_owned()),
            ..line
        }
    }

    use Kind::{Payment, Refund};

    fn told(narration: &str, line: Theirs) -> Theirs {
        Theirs {
            narration: Some(narration.to_owned()),
            ..line
        }
    }

    #[test]
    fn a_bank_s_words_name_the_bill() {
        let ours = [
            paid("BM345A-12", "pay_1", 185_000),
            paid("1001", "pay_2", 100),
            back("BM345A-12", Some("rfnd_1"), "pay_1", 50),
        ];
        let bills = [
            "BM345A-12",
            "BM345A-1",
            "12",
            "1001",
            "A-1",
            "A_1",
            "a_1",
            "OPEN-1",
        ];
        let bills: BTreeSet<String> = bills.into_iter().map(str::to_owned).collect();
        let name = |line: Theirs| {
            let (mut named, no_bills) = name_lines(&ours, &bills, vec![line]);
            assert_eq!(named.len() + no_bills.len(), 1);
            named.pop().map(|line| line.reference.or(line.id))
        };
        let bill = |reference: &str| Some(Some(reference.to_owned()));
        let credit = |text: &str| name(told(text, line(Payment, "", 185_000)));
        for text in [
            // Field report B21.
            "UPI/BM345A-12",
            "upi/cr/432112345678/pallavi/hdfc/bm345a-12/pay",
            "UPI-PALLAVI-p@okhdfc-HDFC0001-432112345678-BM345A-12",
            "NEFT Bill BM345A-12.",
            "BM345A-12",
        ] {
            assert_eq!(credit(text), bill("BM345A-12"), "{text}");
        }
        assert_eq!(credit("UPI/BM345A-1/x"), bill("BM345A-1"));
        assert_eq!(credit("UPI/OPEN-1"), bill("OPEN-1"));
        assert_eq!(credit("RAZORPAY pay_1"), bill("pay_1"));
        assert_eq!(
            name(told("REV rfnd_1", line(Refund, "X9", 50))),
            bill("rfnd_1")
        );
        // A number alone counts when the sum is the bill's, or nothing else is said.
        assert_eq!(
            name(told("UPI/1001/x", line(Payment, "", 100))),
            bill("1001")
        );
        assert_eq!(name(of("1001", line(Payment, "", 7))), bill("1001"));
        for text in [
            "UPI/1001/x",
            "RENT 12-11-2026",
            "XBM345A-12",
            "BM345A-123",
            "",
            "₹/रोहन",
        ] {
            assert_eq!(credit(text), None, "{text}");
        }
        // Two of ours: not no bill's, and not matched either.
        assert_eq!(credit("UPI/A-1/A_1"), Some(None));
        assert_eq!(credit("UPI/A_1"), Some(None));
    }

    #[test]
    fn money_for_an_open_bill_is_not_no_bill_s() {
        let bills = BTreeSet::from(["OPEN-1".to_owned()]);
        let lines = vec![
            told("UPI/OPEN-1", line(Payment, "", 5)),
            told("RENT", line(Payment, "", 6)),
        ];
        let (named, no_bills) = name_lines(&[], &bills, lines);
        assert_eq!((named.len(), no_bills.len()), (1, 1));
        assert!(!matching(Vec::new(), named).agrees());
    }

    #[test]
    fn the_same_transactions_match_in_any_sequence() {
        let ours = vec![
            paid("A-1", "pay_1", 100),
            paid("A-2", "pay_2", 200),
            back("A-2", Some("rfnd_1"), "pay_2", 50),
        ];
        let theirs = vec![
            line(Refund, "rfnd_1", 50),
            line(Payment, "pay_2", 200),
            line(Payment, "pay_1", 100),
        ];
        let outcome = matching(ours, theirs);
        assert!(outcome.agrees());
        assert_eq!(outcome.matched.len(), 3);
    }

    #[test]
    fn a_paisa_is_a_difference() {
        let outcome = matching(
            vec![paid("A-1", "pay_1", 85_000)],
            vec![line(Payment, "pay_1", 84_999)],
        );
        assert!(!outcome.agrees());
        let (ours, theirs) = &outcome.different[0];
        assert_eq!(theirs.amount.minus(ours.amount), Amount(-1));
        assert!(outcome.missing_here.is_empty() && outcome.missing_there.is_empty());
    }

    #[test]
    fn the_same_sum_under_another_id_is_not_the_same_money() {
        let ours = || vec![paid("A-1", "pay_1", 100)];
        let outcome = matching(ours(), vec![line(Payment, "pay_2", 100)]);
        assert_eq!(
            (outcome.missing_here.len(), outcome.missing_there.len()),
            (1, 1)
        );
        // Of the same bill it is named as a pair, and is still a difference.
        let outcome = matching(ours(), vec![of("A-1", line(Payment, "pay_2", 100))]);
        assert_eq!(outcome.other_id.len(), 1);
        assert!(!outcome.agrees());
        // Neither sum nor id: two things.
        let outcome = matching(ours(), vec![of("A-1", line(Payment, "pay_2", 101))]);
        assert_eq!(
            (outcome.missing_here.len(), outcome.missing_there.len()),
            (1, 1)
        );
    }

    #[test]
    fn two_customers_with_the_same_sum_are_told_apart() {
        let ours = vec![paid("A-1", "pay_1", 100), paid("A-2", "pay_2", 100)];
        let theirs = vec![line(Payment, "pay_2", 100), line(Payment, "pay_3", 100)];
        let outcome = matching(ours, theirs);
        assert_eq!(outcome.matched[0].0.reference, "A-2");
        assert_eq!(outcome.missing_there[0].reference, "A-1");
        assert_eq!(outcome.missing_here[0].id.as_deref(), Some("pay_3"));
    }

    #[test]
    fn a_line_without_an_id_is_known_by_its_bill() {
        let ours = vec![paid("A-1", "pay_1", 100), paid("A-1", "pay_2", 200)];
        let theirs = vec![
            of("A-1", line(Payment, "", 200)),
            of("A-1", line(Payment, "", 100)),
        ];
        let outcome = matching(ours, theirs);
        assert!(outcome.agrees(), "{outcome:?}");
        let outcome = matching(
            vec![paid("A-1", "pay_1", 100)],
            vec![of("A-1", line(Payment, "", 99))],
        );
        assert_eq!(outcome.different.len(), 1);
    }

    #[test]
    fn a_line_that_comes_again_is_counted_once() {
        let twice = vec![
            line(Payment, "pay_1", 100),
            line(Payment, "pay_1", 100),
            line(Payment, "pay_1", 101),
            line(Refund, "rfnd_1", 10),
            line(Refund, "rfnd_1", 10),
        ];
        let ours = vec![
            paid("A-1", "pay_1", 100),
            back("A-1", Some("rfnd_1"), "pay_1", 10),
        ];
        let outcome = matching(ours, twice);
        assert_eq!((outcome.matched.len(), outcome.repeated.len()), (2, 3));
        assert!(!outcome.agrees());
    }

    #[test]
    fn a_refund_in_parts_matches_part_by_part() {
        // The gateway repeats only the payment's id on each part; our books know one part's id and not the other's.
        let ours = vec![
            paid("A-1", "pay_1", 100),
            back("A-1", Some("rfnd_1"), "pay_1", 30),
            back("A-1", None, "pay_1", 30),
            back("A-1", None, "pay_1", 20),
        ];
        let theirs = vec![
            line(Payment, "pay_1", 100),
            line(Refund, "pay_1", 20),
            line(Refund, "pay_1", 30),
            line(Refund, "pay_1", 30),
        ];
        let outcome = matching(ours.clone(), theirs);
        assert!(outcome.agrees(), "{outcome:?}");
        // Under ids of their own, one of which is known.
        let theirs = vec![
            line(Payment, "pay_1", 100),
            from("pay_1", line(Refund, "rfnd_2", 30)),
            from("pay_1", line(Refund, "rfnd_1", 30)),
            from("pay_1", line(Refund, "rfnd_3", 21)),
        ];
        let outcome = matching(ours, theirs);
        assert_eq!((outcome.matched.len(), outcome.different.len()), (3, 1));
        let (ours, theirs) = &outcome.different[0];
        assert_eq!((ours.amount, theirs.amount), (Amount(20), Amount(21)));
    }

    #[test]
    fn a_payment_is_never_matched_with_a_refund() {
        let outcome = matching(
            vec![paid("A-1", "pay_1", 100)],
            vec![of("A-1", line(Refund, "pay_1", 100))],
        );
        assert_eq!(
            (outcome.missing_here.len(), outcome.missing_there.len()),
            (1, 1)
        );
    }

    #[test]
    fn a_refund_on_its_way_may_be_missing_and_a_failed_one_must_be() {
        let state = |state, id| Ours {
            state,
            ..back("A-1", Some(id), "pay_1", 10)
        };
        let ours = || {
            vec![
                state(State::OnItsWay, "rfnd_1"),
                state(State::Failed, "rfnd_2"),
            ]
        };
        let outcome = matching(ours(), Vec::new());
        assert!(outcome.agrees());
        assert_eq!(outcome.waiting.len(), 1);
        let theirs = vec![line(Refund, "rfnd_1", 10), line(Refund, "rfnd_2", 10)];
        let outcome = matching(ours(), theirs);
        assert_eq!((outcome.matched.len(), outcome.failed_here.len()), (1, 1));
        assert!(!outcome.agrees());
        // A part that was tried again under the same payment is the one that went through.
        let outcome = matching(ours(), vec![line(Refund, "pay_1", 10)]);
        assert!(outcome.agrees(), "{outcome:?}");
    }

    #[test]
    fn every_line_ends_up_in_one_place() {
        // Small worlds, all of them: two of our lines, two of theirs, few ids, references and sums.
        let ids = ["", "p", "q"];
        let mut theirs = Vec::new();
        for kind in [Payment, Refund] {
            for id in ids {
                for reference in [None, Some("A")] {
                    for paise in [1, 2] {
                        theirs.push(Theirs {
                            reference: reference.map(str::to_owned),
                            ..line(kind, id, paise)
                        });
                    }
                }
            }
        }
        let mut ours = Vec::new();
        for paise in [1, 2] {
            ours.push(paid("A", "p", paise));
            ours.push(back("A", None, "p", paise));
            ours.push(back("B", Some("q"), "p", paise));
        }
        for (a, b) in ours.iter().flat_map(|a| ours.iter().map(move |b| (a, b))) {
            for (c, d) in theirs
                .iter()
                .flat_map(|c| theirs.iter().map(move |d| (c, d)))
            {
                let outcome = matching(vec![a.clone(), b.clone()], vec![c.clone(), d.clone()]);
                let pairs = outcome.matched.len()
                    + outcome.different.len()
                    + outcome.other_id.len()
                    + outcome.failed_here.len();
                let on_our_side = pairs + outcome.missing_there.len() + outcome.waiting.len();
                let on_theirs = pairs + outcome.missing_here.len() + outcome.repeated.len();
                assert_eq!((on_our_side, on_theirs), (2, 2), "{a:?} {b:?} {c:?} {d:?}");
                assert!(
                    outcome
                        .matched
                        .iter()
                        .all(|(o, t)| o.amount == t.amount && o.kind == t.kind)
                );
            }
        }
    }
}
