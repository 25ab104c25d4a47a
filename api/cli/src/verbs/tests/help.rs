//! The help of every verb, as a person reads it: one golden page, so that no word of it changes unseen.
//!
//! `HALBERD_WRITE_GOLDEN=1 cargo test -p halberd verbs` writes it anew.

use clap::CommandFactory;

use super::Cli;

#[test]
fn help_reads_as_written() {
    let mut command = Cli::command();
    command.build();
    let mut pages = String::new();
    write(&mut command, &mut pages);
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/src/verbs/tests/help.txt");
    if std::env::var_os("HALBERD_WRITE_GOLDEN").is_some() {
        std::fs::write(golden, &pages).unwrap();
    }
    let kept = std::fs::read_to_string(golden).unwrap();
    for (line, (now, before)) in pages.lines().zip(kept.lines()).enumerate() {
        assert_eq!(now, before, "line {} of help.txt", line + 1);
    }
    assert_eq!(pages.lines().count(), kept.lines().count());
    for line in pages.lines() {
        assert!(line.chars().count() <= 110, "{} wide: {line}", line.chars().count());
    }
}

/// A command's page, then those of what is below it. Options of all verbs stand on the first page only.
fn write(command: &mut clap::Command, pages: &mut String) {
    let name = command.get_bin_name().unwrap_or("halberd").to_owned();
    let page = command.render_long_help().to_string();
    let page = match page.split_once("Options of the operator's verbs:\n") {
        Some((own, _)) if name != "halberd" => own.trim_end(),
        _ => page.trim_end(),
    };
    pages.push_str(&format!("$ {name} --help\n{page}\n\n"));
    for below in command.get_subcommands_mut().filter(|below| below.get_name() != "help") {
        write(below, pages);
    }
}
