//! Go's own package as the judge: the templates of `cases.json` give what `golden.json` says, which `main.go` wrote.
//!
//! Where Go is installed, the goldens are made anew and must be the same, and random templates are given to both. To make the goldens
//! after a change of the cases: `GO111MODULE=off go run main.go cases.json > golden.json` in this folder.

mod cases;
mod generate;

use std::path::{Path, PathBuf};
use std::process::Command;

use cases::{Answer, CaseFile, answers, differences};

/// Random templates in one run; so many for each seed with `TEMPLATE_SEEDS=FIRST..END`.
const RANDOM_TEMPLATES: usize = 1000;

/// Rows of tokens in one run, the same.
const MASHED_TEMPLATES: usize = 1000;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).expect("the files of the oracle are beside it")
}

/// What Go says, or why it cannot be asked.
fn ask_go(case_file: &Path) -> Result<Vec<Answer>, String> {
    let version = Command::new("go").arg("version").output();
    if !version.is_ok_and(|output| output.status.success()) {
        return Err("go is not installed".to_owned());
    }
    let output = Command::new("go")
        .arg("run")
        .arg(folder().join("main.go"))
        .arg(case_file)
        .env("GO111MODULE", "off")
        .output()
        .expect("go runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(answers(
        &String::from_utf8(output.stdout).expect("the oracle writes UTF-8"),
    ))
}

#[test]
fn cases_give_what_go_gave() {
    let file = CaseFile::parse(&read("cases.json"));
    let golden = answers(&read("golden.json"));
    let found = differences(&file, &golden);
    assert!(found.is_empty(), "{} differ:\n{}", found.len(), found.join("\n"));
}

#[test]
fn go_still_gives_the_goldens() {
    match ask_go(&folder().join("cases.json")) {
        Ok(now) => assert_eq!(now, answers(&read("golden.json"))),
        Err(reason) => println!("skipped: {reason}"),
    }
}

#[test]
fn random_templates_give_what_go_gives() {
    let seeds = std::env::var("TEMPLATE_SEEDS").ok().and_then(|seeds| {
        let (first, end) = seeds.split_once("..")?;
        Some(first.parse::<u64>().ok()?..end.parse::<u64>().ok()?)
    });
    for seed in seeds.unwrap_or(1..2) {
        let mut texts = generate::templates(seed, RANDOM_TEMPLATES);
        texts.extend(generate::mashed(seed, MASHED_TEMPLATES));
        let file = CaseFile::parse(&read("cases.json")).with_texts("all", texts);
        let path = std::env::temp_dir().join(format!("template-oracle-{}-{seed}.json", std::process::id()));
        std::fs::write(&path, file.to_json()).expect("the temporary folder takes a file");
        let said = ask_go(&path);
        std::fs::remove_file(&path).expect("the file was just written");
        match said {
            Ok(said) => {
                let worked = said.iter().filter(|answer| answer.worked()).count();
                assert!(
                    worked * 4 > RANDOM_TEMPLATES,
                    "seed {seed}: only {worked} templates of {} are good",
                    said.len()
                );
                let found = differences(&file, &said);
                assert!(
                    found.is_empty(),
                    "seed {seed}: {} differ:\n{}",
                    found.len(),
                    found.join("\n")
                );
            }
            Err(reason) => {
                println!("skipped: {reason}");
                return;
            }
        }
    }
}
