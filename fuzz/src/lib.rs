//! Fuzz targets of everything that reads what others wrote. A target is a function that takes any bytes and panics when something
//! does not hold that must. libFuzzer drives them (`cargo xtask fuzz`), and `cargo test` here replays their seeds with a few
//! thousand small changes, which needs neither a C++ compiler nor an instrumented build.

pub mod readers;
pub mod seeds;
pub mod senders;
pub mod webhooks;

/// One target.
pub struct Target {
    /// `bill`, `webhook_signed/razorpay`.
    pub name: String,
    /// Its program, which is the name up to the slash.
    pub program: &'static str,
    /// Whose webhooks it reads.
    pub sender: Option<&'static senders::Sender>,
    /// Where it starts.
    pub seeds: Vec<Vec<u8>>,
    run: fn(&[u8]),
}

impl Target {
    /// Feeds it one input.
    pub fn run(&self, data: &[u8]) {
        match (self.program, self.sender) {
            ("webhook_forged", Some(sender)) => webhooks::forged(sender, data),
            ("webhook_signed", Some(sender)) => webhooks::signed(sender, data),
            _ => (self.run)(data),
        }
    }
}

/// Every target: two for each registered sender of webhooks, and one for each other reader.
#[must_use]
pub fn targets() -> Vec<Target> {
    let of_senders = senders::SENDERS.iter().flat_map(|sender| {
        [
            ("webhook_forged", seeds::forged(sender)),
            ("webhook_signed", seeds::contents(sender)),
        ]
        .map(|(program, seeds)| Target {
            name: format!("{program}/{}", sender.name),
            program,
            sender: Some(sender),
            seeds,
            run: |_| (),
        })
    });
    type Reader = (&'static str, fn(&[u8]), Vec<Vec<u8>>);
    let readers: [Reader; 8] = [
        ("bill", readers::bill, seeds::bills()),
        ("tenant", readers::tenant, seeds::tenants()),
        ("token", readers::token, seeds::tokens()),
        ("upi", readers::upi, seeds::intents()),
        ("tag", readers::tag, seeds::words()),
        ("sms", readers::sms, seeds::templates()),
        ("jose", webhooks::jose, seeds::headers()),
        ("lenient", readers::lenient, seeds::cut_texts()),
    ];
    let of_readers = readers.into_iter().map(|(program, run, seeds)| Target {
        name: program.to_owned(),
        program,
        sender: None,
        seeds,
        run,
    });
    of_senders.chain(of_readers).collect()
}
