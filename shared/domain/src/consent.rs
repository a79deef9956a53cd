//! STOP and START as customers write them: which words, in which language, with what around them.
//!
//! Only a message that is nothing but the word counts: "stop" within a sentence is talk. What is courtesy ("please", "sir", an emoji)
//! is taken away first; then at most three words may be left, and they must be in a table. The tables hold English, the ten largest
//! languages of India (Hindi, Bengali, Marathi, Telugu, Tamil, Gujarati, Urdu, Kannada, Odia, Malayalam), Punjabi and Assamese, in
//! their scripts and as they are typed on a Latin keyboard. They are ours: no vendor documents any but the English ones. A shop adds
//! its own in its tenant document.
//!
//! Spellings that differ only in how they are encoded (composed vowels, nukta, Malayalam's chillus, Arabic and Urdu letters) are folded
//! here. A crate for Unicode normalisation has tables for all scripts of the world; this needs those of nine.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use crate::connector::Wish;
use crate::contact::invisible;
use crate::json::Fields;

/// Longest message that can be a word and courtesy, in bytes; whatever is longer is talk and not looked at.
const LONGEST: usize = 400;

/// Most words that may be left when courtesy is taken away.
const MOST_WORDS: usize = 3;

/// Most words a shop may add to either list.
const MOST_OWN: usize = 50;

/// The words a shop adds to ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsentWords {
    stop: Vec<Vec<String>>,
    start: Vec<Vec<String>>,
}

impl ConsentWords {
    /// Reads a customer's message: our words, then the shop's.
    #[must_use]
    pub fn wish(&self, text: &str) -> Option<Wish> {
        let said = Said::of(text)?;
        said.wish().or_else(|| {
            if self.stop.contains(&said.words) {
                Some(Wish::OptOut)
            } else if self.start.contains(&said.words) {
                Some(Wish::OptIn)
            } else {
                None
            }
        })
    }

    /// `{"stop": ["no bills"], "start": ["bills again"]}` in a tenant document.
    pub(crate) fn read(f: &mut Fields<'_>) -> Option<Self> {
        let stop = read_list(f, "stop", Wish::OptOut);
        let start = read_list(f, "start", Wish::OptIn);
        let (stop, start) = (stop?, start?);
        if start.iter().any(|words| stop.contains(words)) {
            f.fault(
                "start",
                "inconsistent",
                "has a word that is in stop as well",
            );
            return None;
        }
        Some(Self { stop, start })
    }
}

fn read_list<'a>(f: &mut Fields<'a>, name: &'a str, meaning: Wish) -> Option<Vec<Vec<String>>> {
    if f.value(name).is_none() {
        return Some(Vec::new());
    }
    let list = f.list(name)?;
    if list.len() > MOST_OWN {
        f.fault(name, "too_many", format!("at most {MOST_OWN} are allowed"));
        return None;
    }
    let read: Option<Vec<Said>> = list.iter().map(|word| Said::of(word.as_str()?)).collect();
    let Some(read) = read else {
        f.fault(
            name,
            "invalid",
            format!("must be a list of texts of 1 to {MOST_WORDS} words beside courtesy such as \"please\""),
        );
        return None;
    };
    if read
        .iter()
        .filter_map(Said::wish)
        .any(|wish| wish != meaning)
    {
        f.fault(
            name,
            "inconsistent",
            "has a word that always means the opposite",
        );
        return None;
    }
    Some(read.into_iter().map(|said| said.words).collect())
}

impl Wish {
    /// Reads a customer's message by the words every shop has; [`ConsentWords::wish`] knows the shop's own as well.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        Said::of(text)?.wish()
    }
}

/// A message without courtesy, in folded spelling: one to three words.
struct Said {
    words: Vec<String>,
    question: bool,
}

impl Said {
    fn of(text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let mut words = words(text);
        for courtesy in &TABLES.courtesy {
            remove(&mut words, courtesy);
        }
        (1..=MOST_WORDS).contains(&words.len()).then(|| Self {
            words,
            question: text.contains(['?', '؟', '？']),
        })
    }

    fn wish(&self) -> Option<Wish> {
        let mut core = self.words.clone();
        for object in &TABLES.messages {
            remove(&mut core, object);
        }
        let said = |[english, others]: &[BTreeSet<Vec<String>>; 2]| {
            let is = |table: &BTreeSet<_>| table.contains(&self.words) || table.contains(&core);
            // "Band?" asks whether the shop is closed.
            is(english) || (!self.question && is(others))
        };
        if said(&TABLES.stop) {
            Some(Wish::OptOut)
        } else if said(&TABLES.start) {
            Some(Wish::OptIn)
        } else {
            None
        }
    }
}

/// Takes a phrase out of a message, wherever it stands in it and however often.
fn remove(words: &mut Vec<String>, phrase: &[String]) {
    while let Some(at) = words
        .windows(phrase.len().max(1))
        .position(|part| part == phrase)
    {
        words.drain(at..at.saturating_add(phrase.len()));
    }
}

/// The tables, each entry read as a message of it would be.
struct Tables {
    courtesy: Vec<Vec<String>>,
    messages: Vec<Vec<String>>,
    /// English, and the others.
    stop: [BTreeSet<Vec<String>>; 2],
    start: [BTreeSet<Vec<String>>; 2],
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let list = |name: &str| entries(name).map(words).collect();
    let set = |name: &str| entries(name).map(words).collect();
    Tables {
        courtesy: list("courtesy"),
        messages: list("messages"),
        stop: [set("stop"), set("stop of India")],
        start: [set("start"), set("start of India")],
    }
});

/// The entries of one table, in their order.
fn entries(name: &str) -> impl Iterator<Item = &'static str> {
    include_str!("consent_words.txt")
        .split("\n[")
        .filter_map(move |table| table.strip_prefix(name)?.strip_prefix("]\n"))
        .flat_map(str::lines)
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
}

/// The words of a text in folded spelling. What is neither letter, digit nor part of one parts words: blanks, punctuation, emoji.
fn words(text: &str) -> Vec<String> {
    let mut folded = String::with_capacity(text.len());
    for c in text.chars().flat_map(char::to_lowercase) {
        fold(c, &mut folded);
    }
    // Devanagari and Gujarati write a nasal before a consonant as a letter of its own or as a dot.
    for (nasal, dot) in NASALS {
        folded = folded.replace(nasal, dot);
    }
    let mut words: Vec<String> = Vec::new();
    let mut spelled = false;
    for word in folded
        .split(|c: char| !of_a_word(c))
        .filter(|word| !word.is_empty())
    {
        // "S.T.O.P", "s t o p"
        let letter = word.len() == 1 && word.bytes().all(|b| b.is_ascii_alphabetic());
        match words.last_mut() {
            Some(last) if letter && spelled => last.push_str(word),
            _ => words.push(word.to_owned()),
        }
        spelled = letter;
    }
    words.iter().map(|word| drawn_in(word)).collect()
}

/// A word without the letters that are repeated to shout: "stoppp", "stooop".
fn drawn_in(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    let mut run = ('\0', 0_usize);
    let flush = |out: &mut String, (letter, times): (char, usize), last: bool| {
        let kept = if times > 2 || last {
            times.min(1)
        } else {
            times
        };
        out.extend(std::iter::repeat_n(letter, kept));
    };
    for c in word.chars() {
        if c == run.0 {
            run.1 = run.1.saturating_add(1);
        } else {
            flush(&mut out, run, false);
            run = (c, 1);
        }
    }
    flush(&mut out, run, true);
    out
}

/// Letters, digits, and the signs that kill or carry a vowel in the scripts of India, which are no letters to Unicode.
fn of_a_word(c: char) -> bool {
    let letter_in_a_ring_or_box =
        matches!(c, '\u{2139}' | '\u{24b6}'..='\u{24e9}' | '\u{1f130}'..='\u{1f189}');
    (c.is_alphanumeric() && !letter_in_a_ring_or_box)
        || matches!(
            c,
            '\u{94d}'
                | '\u{9cd}'
                | '\u{a4d}'
                | '\u{acd}'
                | '\u{b4d}'
                | '\u{bcd}'
                | '\u{c4d}'
                | '\u{ccd}'
                | '\u{d4d}'
        )
}

/// One spelling for letters that are encoded in several ways, and nothing for marks that change no word.
fn fold(c: char, out: &mut String) {
    match c {
        c if c.is_ascii() && c != '\'' => out.push(c),
        // Marks without width, variation selectors, keycaps and skin tones belong to emoji and keyboards. Apostrophes join ("don't").
        c if invisible(c) => {}
        '\u{fe00}'..='\u{fe0f}'
        | '\u{20e3}'
        | '\u{1f3fb}'..='\u{1f3ff}'
        | '\''
        | '’'
        | '‘'
        | 'ʼ' => {}
        // Nuktas; a Gurmukhi addak.
        '\u{93c}' | '\u{9bc}' | '\u{a3c}' | '\u{abc}' | '\u{b3c}' | '\u{a71}' => {}
        // Arabic vowel marks and the stroke that draws a word out.
        '\u{64b}'..='\u{652}' | '\u{670}' | '\u{640}' => {}
        '！'..='～' => out.extend(
            u32::from(c)
                .checked_sub(0xfee0)
                .and_then(char::from_u32)
                .map(|c| c.to_ascii_lowercase()),
        ),
        _ => match FOLDED.iter().find(|(from, _)| *from == c) {
            Some((_, to)) => out.push_str(to),
            None => out.push(c),
        },
    }
}

/// Letters, and what they are folded to.
const FOLDED: &[(char, &str)] = &[
    // Devanagari: with nukta, and a nasal with a moon.
    ('\u{929}', "\u{928}"),
    ('\u{931}', "\u{930}"),
    ('\u{934}', "\u{933}"),
    ('\u{958}', "\u{915}"),
    ('\u{959}', "\u{916}"),
    ('\u{95a}', "\u{917}"),
    ('\u{95b}', "\u{91c}"),
    ('\u{95c}', "\u{921}"),
    ('\u{95d}', "\u{922}"),
    ('\u{95e}', "\u{92b}"),
    ('\u{95f}', "\u{92f}"),
    ('\u{901}', "\u{902}"),
    // Bengali, Assamese
    ('\u{9dc}', "\u{9a1}"),
    ('\u{9dd}', "\u{9a2}"),
    ('\u{9df}', "\u{9af}"),
    ('\u{9cb}', "\u{9c7}\u{9be}"),
    ('\u{9cc}', "\u{9c7}\u{9d7}"),
    // Gurmukhi
    ('\u{a33}', "\u{a32}"),
    ('\u{a36}', "\u{a38}"),
    ('\u{a59}', "\u{a16}"),
    ('\u{a5a}', "\u{a17}"),
    ('\u{a5b}', "\u{a1c}"),
    ('\u{a5e}', "\u{a2b}"),
    ('\u{a02}', "\u{a70}"),
    // Gujarati
    ('\u{a81}', "\u{a82}"),
    // Odia
    ('\u{b5c}', "\u{b21}"),
    ('\u{b5d}', "\u{b22}"),
    ('\u{b48}', "\u{b47}\u{b56}"),
    ('\u{b4b}', "\u{b47}\u{b3e}"),
    ('\u{b4c}', "\u{b47}\u{b57}"),
    // Tamil
    ('\u{bca}', "\u{bc6}\u{bbe}"),
    ('\u{bcb}', "\u{bc7}\u{bbe}"),
    ('\u{bcc}', "\u{bc6}\u{bd7}"),
    // Telugu
    ('\u{c48}', "\u{c46}\u{c56}"),
    // Kannada
    ('\u{cc0}', "\u{cbf}\u{cd5}"),
    ('\u{cc7}', "\u{cc6}\u{cd5}"),
    ('\u{cc8}', "\u{cc6}\u{cd6}"),
    ('\u{cca}', "\u{cc6}\u{cc2}"),
    ('\u{ccb}', "\u{cc6}\u{cc2}\u{cd5}"),
    // Malayalam: two-part vowels, and the letters that end a syllable.
    ('\u{d4a}', "\u{d46}\u{d3e}"),
    ('\u{d4b}', "\u{d47}\u{d3e}"),
    ('\u{d4c}', "\u{d46}\u{d57}"),
    ('\u{d7a}', "\u{d23}\u{d4d}"),
    ('\u{d7b}', "\u{d28}\u{d4d}"),
    ('\u{d7c}', "\u{d30}\u{d4d}"),
    ('\u{d7d}', "\u{d32}\u{d4d}"),
    ('\u{d7e}', "\u{d33}\u{d4d}"),
    // Urdu, as typed on an Arabic keyboard
    ('\u{64a}', "\u{6cc}"),
    ('\u{649}', "\u{6cc}"),
    ('\u{626}', "\u{6cc}"),
    ('\u{643}', "\u{6a9}"),
    ('\u{647}', "\u{6c1}"),
    ('\u{629}', "\u{6c1}"),
    ('\u{6c3}', "\u{6c1}"),
    ('\u{623}', "\u{627}"),
    ('\u{624}', "\u{648}"),
];

/// A nasal that is written out, and the dot that stands for it.
const NASALS: &[(&str, &str)] = &[
    ("\u{919}\u{94d}", "\u{902}"),
    ("\u{91e}\u{94d}", "\u{902}"),
    ("\u{923}\u{94d}", "\u{902}"),
    ("\u{928}\u{94d}", "\u{902}"),
    ("\u{92e}\u{94d}", "\u{902}"),
    ("\u{aa8}\u{acd}", "\u{a82}"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn stop_is_known_however_it_is_written() {
        for text in [
            "STOP",
            "stop",
            "Stop.",
            "STOP!!!",
            "  stop\n",
            "\"STOP\"",
            "*STOP*",
            "_stop_",
            "(stop)",
            "STOP 🙏",
            "🛑 STOP 🛑",
            "Stop 🙏🏽",
            "STOP ❤️",
            "please stop",
            "Stop please",
            "pls stop",
            "PLZ STOP",
            "Please, stop!",
            "stop, thank you",
            "Kindly stop",
            "sir pls stop",
            "stoppp",
            "STOOOOP",
            "StoPP",
            "S.T.O.P",
            "s t o p",
            "ＳＴＯＰ",
            "\u{200e}STOP\u{200f}",
            "stop all",
            "STOPALL",
            "stop-all",
            "opt out",
            "opt-out",
            "OPTOUT",
            "unsubscribe",
            "Unsubscribe me please",
            "stop messages",
            "stop sending messages",
            "stop sms",
            "stop?",
            "stop it",
            "don't message me",
            "don’t send messages",
            "no more messages please",
            "remove my number",
            "stop karo",
            // On a Latin keyboard
            "band karo",
            "Bandh karo",
            "bandh",
            "BAND KAR DO",
            "message band karo",
            "sms bandh karo ji",
            "mat bhejo",
            "message mat bhejo",
            "msg mat bhejo please",
            "mujhe mat bhejo",
            "ruko",
            "kripya band karein",
            "bhai band karo",
            "bondho korun",
            "thamba",
            "pathvu naka",
            "aapandi",
            "apu",
            "niruttu",
            "niruthu",
            "Nirutthavum",
            "nillisi",
            "banda karantu",
            "nirthuka",
            // Hindi, with and without the dot, with the nukta apart and composed
            "बंद करो",
            "बन्द करो",
            "कृपया बंद करें",
            "मैसेज बंद करो",
            "संदेश मत भेजो",
            "सन्देश मत भेजो",
            "मत भेजो",
            "रुको",
            "रोकें",
            "स्टॉप",
            "स्टॉप 🙏",
            "प्ली\u{91c}\u{93c} बंद करो",
            "प्लीज बंद करो",
            "बंद करो।",
            // Marathi
            "थांबा",
            "बंद करा",
            "मेसेज पाठवू नका",
            "कृपया थांबवा",
            // Bengali, composed and not
            "বন্ধ করুন",
            "বন্ধ করো",
            "বন্ধ কর\u{9c7}\u{9be}",
            "দয়া করে বন্ধ করুন",
            "থামুন",
            "স্টপ",
            "মেসেজ পাঠাবেন না",
            // Assamese
            "বন্ধ কৰক",
            "ষ্টপ",
            // Telugu
            "ఆపు",
            "ఆపండి",
            "దయచేసి ఆపండి",
            "స్టాప్",
            "మెసేజ్ పంపవద్దు",
            "మెసేజ్‌లు వద్దు",
            // Tamil
            "நிறுத்து",
            "நிறுத்தவும்",
            "தயவு செய்து நிறுத்துங்கள்",
            "ஸ்டாப்",
            "மெசேஜ் அனுப்பாதீர்கள்",
            "செய்தி வேண்டாம்",
            // Gujarati
            "બંધ કરો",
            "બન્ધ કરો",
            "મેસેજ બંધ કરો",
            "કૃપા કરીને બંધ કરો",
            "સ્ટોપ",
            // Urdu, on its own keyboard and an Arabic one
            "بند کرو",
            "بند کریں",
            "بند كرو",
            "براہ کرم بند کریں",
            "روکو",
            "اسٹاپ",
            "میسج مت بھیجو",
            // Kannada, composed and not
            "ನಿಲ್ಲಿಸಿ",
            "ದಯವಿಟ್ಟು ನಿಲ್ಲಿಸಿ",
            "ಸ್ಟಾಪ್",
            "ಮೆಸೇಜ್ ಕಳುಹಿಸಬೇಡಿ",
            "ಮೆಸ\u{cc6}\u{cd5}ಜ್ ಬ\u{cc6}\u{cd5}ಡ",
            // Odia
            "ବନ୍ଦ କରନ୍ତୁ",
            "ଦୟାକରି ବନ୍ଦ କରନ୍ତୁ",
            "ଷ୍ଟପ୍",
            // Malayalam, with the chillu and as it was written before
            "നിർത്തുക",
            "നിര\u{d4d}\u{200d}ത്തുക",
            "ദയവായി നിർത്തുക",
            "സ്റ്റോപ്പ്",
            "മെസ്സേജ് അയക്കരുത്",
            "മെസ്സേജ് വേണ്ട",
            // Punjabi
            "ਬੰਦ ਕਰੋ",
            "ਕਿਰਪਾ ਕਰਕੇ ਬੰਦ ਕਰੋ",
            "ਸਟਾਪ",
        ] {
            assert_eq!(Wish::of(text), Some(Wish::OptOut), "{text:?}");
        }
    }

    #[test]
    fn start_is_known_however_it_is_written() {
        for text in [
            "START",
            "start please",
            "Start 🙏",
            "UNSTOP",
            "opt in",
            "opt-in",
            "OPTIN",
            "subscribe",
            "start messages",
            "start again",
            "starttt",
            "chalu karo",
            "shuru karo ji",
            "message chalu karo",
            "start karo",
            "शुरू करो",
            "शुरू करें",
            "चालू करो",
            "सुरू करा",
            "শুরু করুন",
            "চালু করুন",
            "আৰম্ভ কৰক",
            "ప్రారంభించండి",
            "தொடங்கவும்",
            "શરૂ કરો",
            "شروع کریں",
            "ಪ್ರಾರಂಭಿಸಿ",
            "ಶುರು ಮಾಡಿ",
            "ଆରମ୍ଭ କରନ୍ତୁ",
            "തുടങ്ങുക",
            "ਸ਼ੁਰੂ ਕਰੋ",
            "ਸ\u{a3c}ੁਰੂ ਕਰੋ",
            "स्टार्ट",
            "స్టార్ట్",
            "ஸ்டார்ட்",
            "اسٹارٹ",
        ] {
            assert_eq!(Wish::of(text), Some(Wish::OptIn), "{text:?}");
        }
    }

    #[test]
    fn a_word_within_a_sentence_is_talk() {
        for text in [
            "",
            " ",
            "🛑",
            "🙏🙏",
            "please",
            "thank you",
            "ok",
            "please stop by my shop",
            "stop by",
            "bus stop",
            "don't stop",
            "dont stop",
            "non stop",
            "non-stop",
            "nonstop",
            "stop it now please ok",
            "when does it stop",
            "stop 1",
            "stop or start",
            "start stop",
            "full stop near temple",
            "the shop is at the bus stop",
            "stopped",
            "stops",
            "starter",
            "I will start tomorrow",
            "is it a start up",
            "band?",
            "bandh?",
            "दुकान बंद है",
            "shop band hai",
            "बंद?",
            "kab band karoge",
            "dukaan kab chalu",
            "mat bhulna",
            "bhejo",
            "vendam",
            "வேண்டாம்",
            "వద్దు",
            "cancel",
            "no",
            "stock",
            "stepstop",
            "unstoppable",
            "stop\u{200b}ped",
            "message",
            "messages please",
        ] {
            assert_eq!(Wish::of(text), None, "{text:?}");
        }
        assert_eq!(Wish::of(&format!("stop {}", "🙏".repeat(200))), None);
    }

    #[test]
    fn a_shop_adds_words_of_its_own() {
        let read = |value| crate::json::read(&value, "/consent_words", ConsentWords::read);
        let words =
            read(json!({"stop": ["No Bills", "बिल नको"], "start": ["bills again"]})).unwrap();
        assert_eq!(words.wish("no bills please 🙏"), Some(Wish::OptOut));
        assert_eq!(words.wish("बिल नको!"), Some(Wish::OptOut));
        assert_eq!(words.wish("Bills again"), Some(Wish::OptIn));
        assert_eq!(words.wish("STOP"), Some(Wish::OptOut));
        assert_eq!(words.wish("no bills today ok"), None);
        assert_eq!(Wish::of("no bills"), None);
        assert_eq!(ConsentWords::default().wish("no bills"), None);
        assert_eq!(read(json!({})).unwrap(), ConsentWords::default());
        for (bad, pointer, code) in [
            (
                json!({"stop": ["one two three four"]}),
                "/consent_words/stop",
                "invalid",
            ),
            (
                json!({"stop": ["please"]}),
                "/consent_words/stop",
                "invalid",
            ),
            (json!({"stop": [1]}), "/consent_words/stop", "invalid"),
            (json!({"stop": "x"}), "/consent_words/stop", "wrong_type"),
            (
                json!({"stop": vec!["x"; 51]}),
                "/consent_words/stop",
                "too_many",
            ),
            (
                json!({"stop": ["x"], "start": ["X!"]}),
                "/consent_words/start",
                "inconsistent",
            ),
            (
                json!({"start": ["Stop please"]}),
                "/consent_words/start",
                "inconsistent",
            ),
            (json!({"more": []}), "/consent_words/more", "unknown_field"),
        ] {
            let faults = read(bad).unwrap_err();
            assert_eq!(
                (faults[0].pointer.as_str(), faults[0].code),
                (pointer, code)
            );
        }
    }

    #[test]
    fn every_entry_can_be_written_and_means_one_thing() {
        let tables = [
            ("stop", Wish::OptOut),
            ("stop of India", Wish::OptOut),
            ("start", Wish::OptIn),
            ("start of India", Wish::OptIn),
        ];
        for (table, wish) in tables {
            assert!(entries(table).count() > 10, "{table}");
            for entry in entries(table) {
                // "stop the" stands for what is left of "stop the messages".
                assert_eq!(Wish::of(entry), Some(wish), "{entry}");
                assert_eq!(Wish::of(&format!("{entry} 🙏!")), Some(wish), "{entry}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn what_stands_around_it_changes_nothing(
            word in proptest::sample::select(vec!["stop", "band karo", "बंद करो", "நிறுத்து", "بند کرو", "start", "শুরু করুন"]),
            before in proptest::sample::select(vec!["", "please ", "🙏", "“", "\u{200f}", "plz, ", "- "]),
            behind in proptest::sample::select(vec!["", "!!", " 🙏🏽", "…", " please", "\r\n", " ❤️‍🔥", "।", ", thanks."]),
        ) {
            let wish = Wish::of(word);
            proptest::prop_assert!(wish.is_some());
            let said = format!("{before}{word}{behind}");
            proptest::prop_assert_eq!(Wish::of(&said), wish, "{}", said);
            proptest::prop_assert_eq!(Wish::of(&format!("{said} the shop at the corner")), None);
        }
    }
}
