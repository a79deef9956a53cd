//! The verb `demo`: one bill from the till to the receipt, for each way to pay.
use crate::failure::Result;
use crate::local::Local;
use crate::options::Options;
use crate::procs::Procs;
use std::sync::Arc;

pub(crate) fn run(procs: &Arc<Procs>, options: &Options) -> Result<()> {
    let _local = Local::start(procs, options, Some("demo"))?;
    Ok(())
}
