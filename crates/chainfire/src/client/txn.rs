//! `txn`: a transaction from standard input in the text form of [`grammar`], or from a JSON file.

use std::io::{BufRead, BufReader, IsTerminal as _, Read, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::cli::Context;
use super::failure::{Failure, Result, system};
use super::output::Text;
use super::{grammar, json, kv};
use crate::wire::etcdserverpb::response_op::Response;
use crate::wire::etcdserverpb::{TxnRequest, TxnResponse};

/// Shown after the help of the command.
pub(super) const HELP: &str = r#"The text has three blocks, each ended by an empty line: comparisons, operations done when all of them hold, operations done otherwise. Targets are version, create, mod, value and lease; operators are = != < >.

Example:
  chainfire-client txn <<'EOF'
  mod("stock") > "0"
  value("state") = "open"

  put state closed
  get --prefix order/

  get state

  EOF"#;

/// Txn arguments.
#[derive(Debug, Args)]
pub(super) struct Txn {
    /// Read the request as JSON, as the gateway takes it, from this file (`-`: standard input)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(super) async fn txn(arguments: Txn, context: &mut Context) -> Result<()> {
    let request = match &arguments.json {
        Some(path) => read_json(path, &mut *context.input)?,
        None => read_text(context)?,
    };
    let session = context.open().await?;
    let reply = session.ask(session.kv().txn(request)).await?;
    context.printer.reply(&reply, |text| write(text, &reply))
}

fn read_json(path: &Path, input: &mut dyn Read) -> Result<TxnRequest> {
    let name = if path == Path::new("-") {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    let mut text = String::new();
    let limit = grammar::TEXT_BYTES_MAX as u64;
    let read = if path == Path::new("-") {
        input.take(limit).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::refused(format!("read {name}: {}", system(&error))))?;
    json::parse(&text, &name)
}

/// Reads up to the empty line that ends the third block, so that a person, or a program at the other end of a pipe, gets the
/// answer without closing the input.
fn read_text(context: &mut Context) -> Result<TxnRequest> {
    let prompts = [
        "compares:",
        "success requests (get, put, del):",
        "failure requests (get, put, del):",
    ];
    let asking = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let Context { input, errors, .. } = context;
    let mut lines = BufReader::new(input.take(grammar::TEXT_BYTES_MAX as u64 + 1));
    let mut text = Vec::new();
    for prompt in prompts {
        if asking {
            // Nobody is left to ask when standard error is closed.
            let _ = writeln!(errors, "{prompt}");
        }
        while !line_is_blank(&mut lines, &mut text)? {}
    }
    grammar::parse(&text).map_err(|problem| Failure::usage(format!("standard input, {problem}")))
}

/// Reads one line; the end of the input counts as a blank one.
fn line_is_blank(lines: &mut impl BufRead, text: &mut Vec<u8>) -> Result<bool> {
    let start = text.len();
    lines
        .read_until(b'\n', text)
        .map_err(|error| Failure::refused(format!("read standard input: {}", system(&error))))?;
    Ok(text[start..].trim_ascii().is_empty())
}

/// The outcome, then each operation's reply after an empty line.
fn write(text: &mut Text, reply: &TxnResponse) {
    text.line(if reply.succeeded { "SUCCESS" } else { "FAILURE" });
    for operation in &reply.responses {
        text.line("");
        match &operation.response {
            Some(Response::ResponsePut(put)) => kv::write_put(text, put),
            Some(Response::ResponseRange(range)) => kv::write_range(text, range, false),
            Some(Response::ResponseDeleteRange(deleted)) => kv::write_deleted(text, deleted),
            Some(Response::ResponseTxn(nested)) => write(text, nested),
            None => text.line("no reply"),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::client::tests::run;

    #[test]
    fn a_mistake_in_the_text_is_wrong_usage() {
        let (code, output, errors) = run(["txn"], b"mod(\"k\") ~ \"0\"\n");
        assert_eq!((code, output.as_str()), (2, ""));
        assert_eq!(
            errors,
            "Error: standard input, line 1, column 10: want one of = != < >\n"
        );
    }

    #[test]
    fn a_json_file_that_cannot_be_read_is_a_failure_and_a_bad_one_is_wrong_usage() {
        let (code, _, errors) = run(["txn", "--json", "/no/such/file"], b"");
        assert_eq!(
            (code, errors.as_str()),
            (1, "Error: read /no/such/file: no such file or directory\n")
        );
        let (code, _, errors) = run(["txn", "--json", "-"], b"{]");
        assert_eq!(code, 2);
        assert!(
            errors.starts_with("Error: standard input: not a JSON etcdserverpb.TxnRequest: "),
            "{errors}"
        );
    }
}
