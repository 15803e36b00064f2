//! Walks the tree of a template with data.
//!
//! A [`Slot`] is what Go calls a reflected value: `None` is no value at all (a missing top, a nil that went through a pipeline),
//! which prints `<no value>` and has any field, again without value; `Some(Value::Null)` is a nil in a place that could have held
//! something, whose fields are an error. A pipeline turns the second into the first.

mod eval;

use crate::error::{ExecError, ExecErrorKind, excerpt, line_and_column, quoted};
use crate::limits::{Budget, Fault, Limits};
use crate::tree::{Node, Pipe, Span};
use crate::value::Value;
use crate::{Template, format};

/// How much of the template a message shows.
const SHOWN: usize = 40;

/// Looking at this many variables is one step.
const VARIABLES_OF_STEP: usize = 32;

/// A value, or the lack of one.
pub(crate) type Slot = Option<Value>;

/// The text for `data`.
pub(crate) fn render(template: &Template, data: &Value, limits: &Limits<'_>) -> Result<String, ExecError> {
    let dot = match data {
        Value::Null => None,
        data => Some(data.clone()),
    };
    let mut exec = Exec {
        template,
        budget: Budget::new(limits),
        out: Vec::new(),
        body: template.name(),
        variables: vec![("$", dot.clone())],
        at: Span { start: 0, end: 0 },
    };
    let nodes = &template.bodies[template.name()];
    let done = exec.list(&dot, nodes).and_then(|_| {
        let out = std::mem::take(&mut exec.out);
        let text = match String::from_utf8(out) {
            Ok(text) => text,
            Err(bad) => String::from_utf8_lossy(bad.as_bytes()).into_owned(),
        };
        // What was not UTF-8 has become longer.
        exec.budget.fits(text.len())?;
        Ok(text)
    });
    done.map_err(|fault| exec.error(fault))
}

/// What happens after a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

struct Exec<'t> {
    template: &'t Template,
    budget: Budget<'t>,
    out: Vec<u8>,
    /// The name of the body being executed.
    body: &'t str,
    /// Variables of this body, the innermost last.
    variables: Vec<(&'t str, Slot)>,
    /// What is being executed, for messages.
    at: Span,
}

impl<'t> Exec<'t> {
    fn list(&mut self, dot: &Slot, nodes: &'t [Node]) -> Result<Flow, Fault> {
        self.budget.enter()?;
        for node in nodes {
            self.budget.step(1)?;
            let flow = self.node(dot, node)?;
            if flow != Flow::Next {
                self.budget.leave();
                return Ok(flow);
            }
        }
        self.budget.leave();
        Ok(Flow::Next)
    }

    fn node(&mut self, dot: &Slot, node: &'t Node) -> Result<Flow, Fault> {
        match node {
            Node::Text(text) => self.write(text.as_bytes())?,
            Node::Action(pipe) => {
                let value = self.pipeline(dot, pipe)?;
                if pipe.variables.is_empty() {
                    self.at = pipe.span;
                    self.print(value)?;
                }
            }
            Node::If { branches, otherwise } => {
                // The variables of a condition live to the end of the whole.
                let scope = self.variables.len();
                let flow = self.conditional(dot, branches, otherwise.as_ref())?;
                self.variables.truncate(scope);
                return Ok(flow);
            }
            Node::With {
                pipe,
                body,
                otherwise,
            } => {
                let scope = self.variables.len();
                let value = self.pipeline(dot, pipe)?;
                let flow = if value.as_ref().is_some_and(Value::is_true) {
                    self.list(&value, body)?
                } else {
                    self.otherwise(dot, otherwise.as_ref())?
                };
                self.variables.truncate(scope);
                return Ok(flow);
            }
            Node::Range {
                pipe,
                body,
                otherwise,
            } => {
                let scope = self.variables.len();
                let flow = self.range(dot, pipe, body, otherwise.as_ref())?;
                self.variables.truncate(scope);
                return Ok(flow);
            }
            Node::Template { span, name, pipe } => self.call_template(dot, *span, name, pipe.as_ref())?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn conditional(
        &mut self,
        dot: &Slot,
        branches: &'t [(Pipe, Vec<Node>)],
        otherwise: Option<&'t Vec<Node>>,
    ) -> Result<Flow, Fault> {
        for (condition, body) in branches {
            self.budget.step(1)?;
            if self
                .pipeline(dot, condition)?
                .is_some_and(|value| value.is_true())
            {
                return self.list(dot, body);
            }
        }
        self.otherwise(dot, otherwise)
    }

    fn otherwise(&mut self, dot: &Slot, nodes: Option<&'t Vec<Node>>) -> Result<Flow, Fault> {
        match nodes {
            Some(nodes) => self.list(dot, nodes),
            None => Ok(Flow::Next),
        }
    }

    fn range(
        &mut self,
        dot: &Slot,
        pipe: &'t Pipe,
        body: &'t [Node],
        otherwise: Option<&'t Vec<Node>>,
    ) -> Result<Flow, Fault> {
        let over = self.pipeline(dot, pipe)?;
        let length = match &over {
            None | Some(Value::Null) => 0,
            Some(Value::List(list)) => list.items().len(),
            Some(Value::Map(map)) => map.entries().len(),
            Some(other) => {
                self.at = pipe.span;
                let found = other.type_name();
                return Fault::mismatch(format!(
                    "range can't iterate over {found}: it takes a list or a map"
                ));
            }
        };
        if length == 0 {
            // As in Go, a break in here ends this range and not the one around it; a continue is for that one.
            let flow = self.otherwise(dot, otherwise)?;
            return Ok(if flow == Flow::Break { Flow::Next } else { flow });
        }
        let scope = self.variables.len();
        for at in 0..length {
            self.budget.step(1)?;
            let (key, item) = match &over {
                Some(Value::List(list)) => (Value::Int(at as i64), list.items()[at].clone()),
                Some(Value::Map(map)) => (
                    Value::Str(map.entries()[at].0.clone()),
                    map.entries()[at].1.clone(),
                ),
                _ => break,
            };
            let item = Some(item);
            match pipe.variables.as_slice() {
                [] => {}
                [element] => self.set_in_range(pipe, 1, element, item.clone())?,
                [index, element, ..] => {
                    self.set_in_range(pipe, 1, element, item.clone())?;
                    self.set_in_range(pipe, 2, index, Some(key))?;
                }
            }
            let flow = self.list(&item, body)?;
            self.variables.truncate(scope);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Next)
    }

    /// Sets a variable of a range: a declared one is the `from_top`th, an assigned one is found by its name.
    fn set_in_range(&mut self, pipe: &Pipe, from_top: usize, name: &str, value: Slot) -> Result<(), Fault> {
        if pipe.assigns {
            return self.assign(name, value);
        }
        let at = self.variables.len() - from_top;
        self.variables[at].1 = value;
        Ok(())
    }

    fn call_template(
        &mut self,
        dot: &Slot,
        span: Span,
        name: &'t str,
        pipe: Option<&'t Pipe>,
    ) -> Result<(), Fault> {
        let dot = match pipe {
            Some(pipe) => self.pipeline(dot, pipe)?,
            None => None,
        };
        self.at = span;
        let Some(nodes) = self.template.bodies.get(name) else {
            return Fault::mismatch(format!("template {} is not defined", quoted(name, SHOWN)));
        };
        // A body sees no variables but its own.
        let variables = std::mem::replace(&mut self.variables, vec![("$", dot.clone())]);
        let body = std::mem::replace(&mut self.body, name);
        self.list(&dot, nodes)?;
        self.variables = variables;
        self.body = body;
        Ok(())
    }

    fn print(&mut self, value: Slot) -> Result<(), Fault> {
        match value {
            None | Some(Value::Null) => self.write(format::NO_VALUE),
            Some(Value::Str(text)) => self.write(text.as_bytes()),
            Some(value) => {
                let text = format::print(&mut self.budget, &[Some(value)])?;
                self.write(&text)
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.budget.fits(self.out.len() + bytes.len())?;
        self.budget.bytes(bytes.len())?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// The value of the variable called `name`.
    fn variable(&mut self, name: &str) -> Result<Slot, Fault> {
        let at = self.place_of(name)?;
        Ok(self.variables[at].1.clone())
    }

    fn assign(&mut self, name: &str, value: Slot) -> Result<(), Fault> {
        let at = self.place_of(name)?;
        self.variables[at].1 = value;
        Ok(())
    }

    /// Where the variable called `name` is, innermost first.
    fn place_of(&mut self, name: &str) -> Result<usize, Fault> {
        let Some(at) = self
            .variables
            .iter()
            .rposition(|(candidate, _)| *candidate == name)
        else {
            // The parser knows the names, but a branch that gives one its value may not have been taken.
            return Fault::mismatch(format!("undefined variable: {name}"));
        };
        // A template can have thousands, and then the search is the work.
        self.budget
            .step(((self.variables.len() - at) / VARIABLES_OF_STEP) as u64)?;
        Ok(at)
    }

    fn error(&self, fault: Fault) -> ExecError {
        let source = self.template.source();
        let (line, column) = line_and_column(source, self.at.start);
        let (kind, message) = match fault {
            Fault::Mismatch(message) => (ExecErrorKind::Mismatch, message),
            Fault::Bytes(most) => (
                ExecErrorKind::Limit,
                format!("the text becomes longer than {most} bytes"),
            ),
            Fault::Steps(most) => (
                ExecErrorKind::Limit,
                format!("it takes more than {most} steps; a loop may be too long"),
            ),
            Fault::Depth(most) => (
                ExecErrorKind::Limit,
                format!("blocks, calls and lists are nested more than {most} deep"),
            ),
            Fault::Deadline => (ExecErrorKind::Deadline, "the time for it is over".to_owned()),
        };
        ExecError {
            name: self.template.name().to_owned(),
            line,
            column,
            body: quoted(self.body, SHOWN),
            context: excerpt(
                source
                    .get(self.at.start..self.at.end)
                    .unwrap_or_default()
                    .trim_end(),
                SHOWN,
            ),
            kind,
            message,
        }
    }
}
