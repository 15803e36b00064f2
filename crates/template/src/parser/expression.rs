//! Pipelines: commands, operands, terms, and the variables they set.

use super::{Parsed, Parser, SHOWN, problem, unexpected};
use crate::error::quoted;
use crate::lexer::{Keyword, Kind, Problem};

use crate::literal;
use crate::tree::{Command, Function, Operand, OperandKind, Pipe, Span};

impl Parser<'_> {
    /// Declarations and commands up to `end`.
    pub(super) fn pipeline(&mut self, context: &str, end: Kind) -> Parsed<Pipe> {
        let start = self.peek_after_space()?.pos;
        self.enter(start)?;
        let mut pipe = Pipe {
            span: Span { start, end: start },
            variables: Vec::new(),
            assigns: false,
            commands: Vec::new(),
        };
        self.declarations(&mut pipe, context)?;
        loop {
            let before = self.next;
            let token = self.take_after_space()?;
            if token.kind == end {
                if pipe.commands.is_empty() {
                    return problem(token.pos, format!("missing value for {context}"));
                }
                pipe.span.end = token.pos;
                self.depth -= 1;
                if !pipe.assigns {
                    // Not before: the value cannot be made of the variable it is for.
                    self.variables.extend(pipe.variables.iter().cloned());
                }
                return Ok(pipe);
            }
            self.next = before;
            if !begins_operand(token.kind) {
                return unexpected(token, context);
            }
            let command = self.command()?;
            let first = &command.operands[0];
            if !pipe.commands.is_empty() && !is_executable(&first.kind) {
                let stage = pipe.commands.len() + 1;
                return problem(
                    first.span.start,
                    format!(
                        "non executable command in pipeline stage {stage}: only functions take a value from \"|\""
                    ),
                );
            }
            pipe.commands.push(command);
        }
    }

    /// `$x :=`, `$x =`, and in a range `$i, $x :=`.
    fn declarations(&mut self, pipe: &mut Pipe, context: &str) -> Parsed<()> {
        loop {
            let before = self.next;
            let token = self.take_after_space()?;
            let next = if token.kind == Kind::Variable {
                Some(self.take_after_space()?.kind)
            } else {
                None
            };
            match next {
                Some(kind @ (Kind::Assign | Kind::Declare)) => {
                    pipe.assigns = kind == Kind::Assign;
                    pipe.variables.push(token.text.to_owned());
                    if pipe.assigns {
                        for name in &pipe.variables {
                            self.expect_known(name, token.pos)?;
                        }
                    }
                    return Ok(());
                }
                Some(Kind::Comma) => {
                    pipe.variables.push(token.text.to_owned());
                    if context != "range" || pipe.variables.len() > 1 {
                        let most = if context == "range" { "two" } else { "one" };
                        return problem(
                            token.pos,
                            format!("too many declarations in {context}: {most} can be"),
                        );
                    }
                }
                _ if pipe.variables.is_empty() => {
                    self.next = before;
                    return Ok(());
                }
                _ => return unexpected(token, "range: after the comma come a variable and :="),
            }
        }
    }

    /// Operands up to a `|`, which is passed, or to what ends the pipeline, which is not.
    fn command(&mut self) -> Parsed<Command> {
        let mut operands = Vec::new();
        loop {
            self.peek_after_space()?;
            if let Some(operand) = self.operand()? {
                operands.push(operand);
            }
            let before = self.next;
            let token = self.take()?;
            match token.kind {
                Kind::Space => continue,
                Kind::RightDelim | Kind::RightParen => self.next = before,
                Kind::Pipe => {}
                _ => return unexpected(token, "operand"),
            }
            if operands.is_empty() {
                return problem(token.pos, "empty command");
            }
            return Ok(Command { operands });
        }
    }

    /// A term with the fields that follow it without a space.
    fn operand(&mut self) -> Parsed<Option<Operand>> {
        let Some(mut operand) = self.term()? else {
            return Ok(None);
        };
        let mut fields = Vec::new();
        while self.peek()?.kind == Kind::Field {
            let token = self.take()?;
            fields.push(token.text[1..].to_owned());
            operand.span.end = token.end();
        }
        if fields.is_empty() {
            return Ok(Some(operand));
        }
        match &mut operand.kind {
            OperandKind::Field(there) | OperandKind::Variable(_, there) => there.extend(fields),
            OperandKind::Pipe(_) | OperandKind::Function(_) => {
                let span = operand.span;
                operand = Operand {
                    span,
                    kind: OperandKind::Chain(Box::new(operand), fields),
                };
            }
            _ => {
                let field = quoted(&format!(".{}", fields[0]), SHOWN);
                return problem(
                    operand.span.start,
                    format!("unexpected {field} after a literal: it has no fields"),
                );
            }
        }
        Ok(Some(operand))
    }

    fn term(&mut self) -> Parsed<Option<Operand>> {
        let before = self.next;
        let token = self.take_after_space()?;
        let mut span = Span {
            start: token.pos,
            end: token.end(),
        };
        let at = |message: String| Problem {
            pos: token.pos,
            message,
        };
        let kind = match token.kind {
            Kind::Identifier => OperandKind::Function(Function::named(token.text).ok_or_else(|| {
                let names: Vec<&str> = Function::ALL.iter().map(|(name, _)| *name).collect();
                at(format!(
                    "function {} not defined; there are {}",
                    quoted(token.text, SHOWN),
                    names.join(", ")
                ))
            })?),
            Kind::Dot => OperandKind::Dot,
            Kind::Keyword(Keyword::Nil) => OperandKind::Nil,
            Kind::Variable => {
                self.expect_known(token.text, token.pos)?;
                OperandKind::Variable(token.text.to_owned(), Vec::new())
            }
            Kind::Field => OperandKind::Field(vec![token.text[1..].to_owned()]),
            Kind::Bool => OperandKind::Bool(token.text == "true"),
            Kind::CharConstant => literal::char_constant(token.text).map_err(at)?,
            Kind::Number => literal::number(token.text).map_err(at)?,
            Kind::LeftParen => {
                let pipe = self.pipeline("parenthesized pipeline", Kind::RightParen)?;
                span.end = pipe.span.end + 1;
                OperandKind::Pipe(Box::new(pipe))
            }
            Kind::String | Kind::RawString => {
                OperandKind::Str(literal::unquote(token.text).map_err(at)?.into())
            }
            _ => {
                self.next = before;
                return Ok(None);
            }
        };
        Ok(Some(Operand { span, kind }))
    }

    fn expect_known(&self, name: &str, pos: usize) -> Parsed<()> {
        if self.variables.iter().any(|known| known == name) {
            return Ok(());
        }
        let name = quoted(name, SHOWN);
        problem(
            pos,
            format!("undefined variable {name}: a := that gives it a value must come first"),
        )
    }
}

fn begins_operand(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Bool
            | Kind::CharConstant
            | Kind::Dot
            | Kind::Field
            | Kind::Identifier
            | Kind::Number
            | Kind::Keyword(Keyword::Nil)
            | Kind::RawString
            | Kind::String
            | Kind::Variable
            | Kind::LeftParen
    )
}

/// Whether a later stage of a pipeline can begin with it.
fn is_executable(kind: &OperandKind) -> bool {
    matches!(
        kind,
        OperandKind::Field(_)
            | OperandKind::Variable(..)
            | OperandKind::Function(_)
            | OperandKind::Pipe(_)
            | OperandKind::Chain(..)
    )
}
