//! Pipelines, commands and operands: how values are found and handed to functions.

use super::{Exec, Slot};
use crate::call;
use crate::limits::Fault;
use crate::tree::{Command, Function, Operand, OperandKind, Pipe};
use crate::value::Value;

impl<'t> Exec<'t> {
    /// The value of a pipeline, after its variables are set to it.
    pub(super) fn pipeline(&mut self, dot: &Slot, pipe: &'t Pipe) -> Result<Slot, Fault> {
        self.budget.enter()?;
        self.at = pipe.span;
        let mut value = None;
        for (stage, command) in pipe.commands.iter().enumerate() {
            let last = if stage == 0 { None } else { Some(value) };
            value = self
                .command(dot, command, last)?
                .filter(|value| !matches!(value, Value::Null));
        }
        for name in &pipe.variables {
            if pipe.assigns {
                self.assign(name, value.clone())?;
            } else {
                self.variables.push((name, value.clone()));
            }
        }
        self.budget.leave();
        Ok(value)
    }

    /// One stage of a pipeline; `last` is the value of the stage before, which becomes the last argument.
    fn command(&mut self, dot: &Slot, command: &'t Command, last: Option<Slot>) -> Result<Slot, Fault> {
        self.budget.step(1)?;
        let first = &command.operands[0];
        let arguments = &command.operands[1..];
        self.at = first.span;
        let has_arguments = !arguments.is_empty() || last.is_some();
        match &first.kind {
            OperandKind::Function(function) => return self.function(dot, *function, arguments, last),
            OperandKind::Nil => return Fault::mismatch("nil is not a command"),
            OperandKind::Field(names) | OperandKind::Chain(_, names) if has_arguments => {
                // The way to the last field is walked all the same: an unknown one is the better message.
                self.operand(dot, first)?;
                let name = names.last().map_or("", String::as_str);
                return Fault::mismatch(format!("{name} has arguments, but is no function"));
            }
            _ if has_arguments => {
                return Fault::mismatch(
                    "can't give argument to non-function: only a function takes arguments",
                );
            }
            _ => {}
        }
        self.operand(dot, first)
    }

    /// The value of one operand.
    fn operand(&mut self, dot: &Slot, operand: &'t Operand) -> Result<Slot, Fault> {
        self.budget.step(1)?;
        self.at = operand.span;
        Ok(match &operand.kind {
            OperandKind::Dot => dot.clone(),
            OperandKind::Nil => None,
            OperandKind::Bool(value) => Some(Value::Bool(*value)),
            OperandKind::Int(value) => Some(Value::Int(*value)),
            OperandKind::Float(value) => Some(Value::Float(*value)),
            OperandKind::TooLarge => return Fault::mismatch("the number overflows int"),
            OperandKind::Str(text) => Some(Value::Str(text.clone())),
            OperandKind::Field(names) => fields(dot.clone(), names)?,
            OperandKind::Variable(name, names) => fields(self.variable(name)?, names)?,
            OperandKind::Function(function) => self.function(dot, *function, &[], None)?,
            OperandKind::Pipe(pipe) => self.pipeline(dot, pipe)?,
            OperandKind::Chain(start, names) => {
                let value = self.operand(dot, start)?;
                self.at = operand.span;
                fields(value, names)?
            }
        })
    }

    fn function(
        &mut self,
        dot: &Slot,
        function: Function,
        operands: &'t [Operand],
        last: Option<Slot>,
    ) -> Result<Slot, Fault> {
        let place = self.at;
        let given = operands.len() + usize::from(last.is_some());
        let (fewest, most) = function.arity();
        if given < fewest || most.is_some_and(|most| given > most) {
            let name = function.name();
            let wanted = if most.is_some() {
                fewest.to_string()
            } else {
                format!("at least {fewest}")
            };
            return Fault::mismatch(format!(
                "wrong number of args for {name}: want {wanted} got {given}"
            ));
        }
        if matches!(function, Function::And | Function::Or) {
            // The first that decides is the result, and what follows it is not looked at.
            let mut value = None;
            for operand in operands {
                value = self.operand(dot, operand)?;
                if value.as_ref().is_some_and(Value::is_true) == (function == Function::Or) {
                    return Ok(value);
                }
            }
            return Ok(last.unwrap_or(value));
        }
        let mut arguments = Vec::with_capacity(given);
        for operand in operands {
            arguments.push(self.operand(dot, operand)?);
        }
        arguments.extend(last);
        self.at = place;
        call::call(&mut self.budget, function, &arguments)
    }
}

/// What is at the end of a chain of fields.
fn fields(mut value: Slot, names: &[String]) -> Result<Slot, Fault> {
    for name in names {
        let Some(receiver) = value else { return Ok(None) };
        value = Some(match &receiver {
            Value::Record(record) => {
                let Some(field) = record.get(name) else {
                    let known: Vec<&str> = record.fields().iter().map(|(name, _)| name.as_str()).collect();
                    let (kind, known) = (record.type_name(), known.join(", "));
                    return Fault::mismatch(format!(
                        "can't evaluate field {name} in type {kind}; it has {known}"
                    ));
                };
                field.clone()
            }
            Value::Map(map) => map.get(name.as_bytes()).clone(),
            Value::Null => return Fault::mismatch(format!("nil pointer evaluating interface {{}}.{name}")),
            other => {
                let found = other.type_name();
                return Fault::mismatch(format!(
                    "can't evaluate field {name} in type {found}: it has no fields"
                ));
            }
        });
    }
    Ok(value)
}
