//! Writes the seeds of every target into a folder of its own below the given one, and prints the targets: name, program, sender.

use std::fs;
use std::path::PathBuf;

fn main() {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.expect("usage: seeds <folder>");
    for target in chatbill_fuzz::targets() {
        let folder = folder.join(&target.name);
        fs::create_dir_all(&folder).expect("a folder for the seeds");
        for (number, seed) in target.seeds.iter().enumerate() {
            fs::write(folder.join(format!("seed-{number:03}")), seed).expect("a seed");
        }
        let sender = target.sender.map_or("", |sender| &sender.name);
        println!("{}\t{}\t{sender}", target.name, target.program);
    }
}
