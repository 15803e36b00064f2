//! Pages and the problems found in them, one case per rule of the format.

use std::time::Duration;

use super::*;
use crate::model::{Expect, Form};

/// A page whose body is `body`, starting on line 3.
fn page(body: &str) -> Parsed {
    parse("demo", "demo.md", format!("# Demo\n\n{body}").as_bytes())
}

/// Problems as `line:column: message`.
fn problems(body: &str) -> Vec<String> {
    page(body)
        .problems
        .iter()
        .map(|problem| format!("{}:{}: {}", problem.line, problem.column, problem.message))
        .collect()
}

#[test]
fn page_is_read_whole() {
    let text = "\
# Chainfire: High Write Latency

alert: ChainfireHighWriteLatency, ChainfireSlow
It is slow.

## Parameters

| param | default | meaning |
|---|---|---|
| NODE_IP | @node1 | address of the node |
| `NODE` | node1 | its name |
| EMPTY | \"\" | nothing |
| KEY | | wanted |

## Checks

```sh step=status on=node1 timeout=5s
chainfire-client --endpoint http://$NODE_IP:2379 status
```

It prints:

```output
endpoint: [..]
...
```

```toml
step = 1
```

## Fix

```sh
only prose
```

- in a list:

  ```sh step=wipe on=$NODE expect=any retry=10s when=machine destructive
  rm -rf x
  true
  ```
";
    let parsed = parse("latency", "latency.md", text.as_bytes());
    assert_eq!(parsed.problems, vec![]);
    let page = parsed.page;
    assert_eq!(page.title, "Chainfire: High Write Latency");
    assert_eq!(page.alerts, ["ChainfireHighWriteLatency", "ChainfireSlow"]);
    let fallbacks: Vec<_> = page
        .parameters
        .iter()
        .map(|p| (p.name.as_str(), p.fallback.clone()))
        .collect();
    assert_eq!(
        fallbacks,
        [
            ("NODE_IP", Fallback::AddressOf("node1".to_owned())),
            ("NODE", Fallback::Text("node1".to_owned())),
            ("EMPTY", Fallback::Text(String::new())),
            ("KEY", Fallback::Required),
        ]
    );
    assert_eq!(
        page.sections.iter().map(|s| s.title.as_str()).collect::<Vec<_>>(),
        ["Parameters", "Checks", "Fix"]
    );
    let [status, wipe] = page.steps.as_slice() else {
        panic!("two steps, got {:?}", page.steps)
    };
    assert_eq!(
        (status.name.as_str(), status.line, &status.on),
        ("status", 17, &Place::Host("node1".to_owned()))
    );
    assert_eq!(
        (status.expect, status.timeout),
        (Expect::Code(0), Duration::from_secs(5))
    );
    assert_eq!(
        status.command,
        "chainfire-client --endpoint http://$NODE_IP:2379 status"
    );
    assert_eq!(status.section.as_deref(), Some("Checks"));
    assert!(
        status
            .output
            .as_ref()
            .is_some_and(|output| output.compare("endpoint: x\ny\n").is_ok())
    );
    assert_eq!(wipe.on, Place::Parameter("NODE".to_owned()));
    assert_eq!(
        (wipe.expect, wipe.retry, wipe.when),
        (Expect::Any, Some(Duration::from_secs(10)), Some(Form::Machine))
    );
    assert!(wipe.destructive);
    assert_eq!(wipe.command, "rm -rf x\ntrue");
}

#[test]
fn every_mistake_has_its_place() {
    let cases = [
        (
            "```sh step=a expct=0\ntrue\n```\n",
            "3:14: unknown attribute `expct`; did you mean `expect`?",
        ),
        (
            "```sh on=a\ntrue\n```\n",
            "3:7: attributes without `step=NAME`; name the step, or drop them",
        ),
        (
            "```bash step=a\ntrue\n```\n",
            "3:9: steps are written in `sh`, not `bash`",
        ),
        (
            "```sh step=a\n\n```\n",
            "3:1: step `a` has no command; write one, or remove the fence",
        ),
        (
            "```sh step=a\ntrue\n",
            "3:1: fence is never closed; end it with a line of ```",
        ),
        (
            "~~~~\ntext\n~~~\n",
            "3:1: fence is never closed; end it with a line of ~~~~",
        ),
        (
            "```output\nx\n```\n",
            "3:1: output without a step; put it after the `sh step=...` fence whose output it is",
        ),
        (
            "```sh step=a\ntrue\n```\n## B\n```output\nx\n```\n",
            "7:1: output without a step; put it after the `sh step=...` fence whose output it is",
        ),
        (
            "```sh step=a\ntrue\n```\n```output\nx\n```\n```output\ny\n```\n",
            "9:1: second output for step `a`; keep one",
        ),
        (
            "```sh step=a\ntrue\n```\n```output expect=1\nx\n```\n",
            "6:11: `output` takes no attributes, found `expect=1`; put them on the step",
        ),
        (
            "```sh step=a\ntrue\n```\n\n```sh step=a\ntrue\n```\n",
            "7:1: step `a` exists already at line 3; choose another name",
        ),
        (
            "```sh step=a on=$NODE\ntrue\n```\n",
            "3:1: `on=$NODE` names no parameter; declare NODE in a table under `## Parameters`",
        ),
        (
            "# Again\n",
            "3:1: second `# Title`; a page has one, use `##` for a section",
        ),
        ("## A\n## a\n", "4:1: second section `a`; give it another title"),
        (
            "alert: No Such\n",
            "3:1: bad alert name `No Such`; write names as Prometheus has them, separated by commas, or `none`",
        ),
        (
            "## Parameters\n\n|p|d|m|\n|-|-|-|\n|node|x|y|\n",
            "7:1: bad parameter name `node`; use capitals, digits and `_`, as in NODE_IP",
        ),
        (
            "## Parameters\n\n|p|d|m|\n|-|-|-|\n|PATH|x|y|\n",
            "7:1: parameter `PATH` is reserved for the runner and the shell; choose another name",
        ),
        (
            "## Parameters\n\n|p|d|m|\n|-|-|-|\n|A|x|y|\n|A|x|y|\n",
            "8:1: parameter `A` is declared twice; keep one row",
        ),
        (
            "## Parameters\n\n|p|d|\n|-|-|\n|A|x|\n",
            "7:1: parameter row has 2 cells; write `| NAME | default | meaning |`",
        ),
        (
            "## Parameters\n\n|p|d|m|\n|-|-|-|\n|A|@Node|y|\n",
            "7:1: bad host name `Node`; use small letters, digits and `-`, at most 64 characters",
        ),
    ];
    for (body, problem) in cases {
        assert_eq!(problems(body), [problem], "for {body}");
    }
}

#[test]
fn column_counts_characters_in_lists_and_quotes() {
    assert_eq!(
        problems("> ä\n>\n> ```sh step=a tmeout=1s\n> true\n> ```\n"),
        ["5:16: unknown attribute `tmeout`; did you mean `timeout`?"]
    );
}

#[test]
fn all_mistakes_are_reported_at_once() {
    assert_eq!(problems("```sh step=A timeout=1 on=B\ntrue\n```\n").len(), 3);
}

#[test]
fn foreign_fences_are_prose() {
    assert_eq!(
        problems("```toml title=\"x\" when=always\nx\n```\n\n```\nx\n```\n\n    indented step=a\n"),
        Vec::<String>::new()
    );
}

#[test]
fn page_without_title_is_an_error() {
    let parsed = parse("x", "x.md", b"text\n");
    assert_eq!(
        parsed.problems[0].to_string(),
        "x.md:1:1: error: page has no title; start it with `# Title`"
    );
    assert!(parsed.has_errors());
}

#[test]
fn bytes_that_are_not_text_are_refused_with_their_place() {
    let parsed = parse("x", "x.md", b"# T\nab\xff");
    assert_eq!(
        parsed.problems[0].to_string(),
        "x.md:2:3: error: page is not UTF-8 text here; save it as UTF-8"
    );
    let parsed = parse("x", "x.md", b"# T\n\0");
    assert_eq!(
        parsed.problems[0].to_string(),
        "x.md:2:1: error: page holds a NUL character here; remove it"
    );
}

#[test]
fn page_and_its_parts_are_bounded() {
    let parsed = parse("x", "x.md", &vec![b'x'; PAGE_BYTES_MAX + 1]);
    assert!(parsed.problems[0].message.starts_with("page has 1048577 bytes"));
    let many: Vec<String> = (0..=STEPS_MAX)
        .map(|n| format!("```sh step=s{n}\ntrue\n```\n"))
        .collect();
    let parsed = page(&many.concat());
    assert_eq!(parsed.page.steps.len(), STEPS_MAX);
    assert_eq!(
        parsed.problems[0].message,
        "page has more than 500 steps; split it"
    );
    assert_eq!(page(&"## s\n".repeat(1000)).page.sections.len(), SECTIONS_MAX);
}

#[test]
fn hostile_pages_take_little_time() {
    // Each of these was chosen to hit a place where a naive reader is quadratic.
    for piece in [
        "```sh ",
        "## a\n",
        "a=1 ",
        "> ",
        "|",
        "`",
        "alert: x y\n",
        "\n- ",
        "*a ",
        "[",
    ] {
        let text = format!("# T\n\n```sh {}", piece.repeat(100_000 / piece.len()));
        let _ = parse("x", "x.md", text.as_bytes());
        let text = format!("# T\n\n{}", piece.repeat(100_000 / piece.len()));
        let _ = parse("x", "x.md", text.as_bytes());
    }
}
