//! Makes the tree of a template from its tokens, by recursive descent: blocks here, what is in them in [`expression`].
//!
//! Names are resolved here as far as they can be: functions, variables, and the templates that are called.

mod expression;

use std::collections::BTreeMap;

use crate::error::{ParseError, line_and_column, quoted};
use crate::lexer::{self, Keyword, Kind, Problem, Token};
use crate::limits::Limits;
use crate::literal;
use crate::tree::{Node, Span};

/// How much of a token a message shows.
const SHOWN: usize = 20;

/// The bodies that `text` defines by name; its own is called `name`.
pub(crate) fn parse(
    name: &str,
    text: &str,
    limits: &Limits<'_>,
) -> Result<BTreeMap<String, Vec<Node>>, ParseError> {
    let at = |problem: Problem| {
        let (line, column) = line_and_column(text, problem.pos);
        ParseError {
            name: name.to_owned(),
            line,
            column,
            message: problem.message,
        }
    };
    if text.len() > limits.source_bytes {
        let (length, most) = (text.len(), limits.source_bytes);
        let message = format!("the template has {length} bytes, more than the {most} that are allowed");
        return Err(at(Problem { pos: 0, message }));
    }
    let (tokens, problem) = lexer::tokens(text);
    let mut parser = Parser {
        tokens,
        lex_problem: problem,
        source_end: text.len(),
        next: 0,
        variables: vec!["$".to_owned()],
        range_depth: 0,
        depth: 0,
        most_depth: limits.depth,
        bodies: BTreeMap::new(),
        calls: Vec::new(),
    };
    parser.whole(name).map_err(at)?;
    Ok(parser.bodies)
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    /// What stopped the lexer, behind the last token.
    lex_problem: Option<Problem>,
    source_end: usize,
    next: usize,
    /// Variables in scope, the innermost last.
    variables: Vec<String>,
    /// How many `range` bodies are open in this body.
    range_depth: usize,
    depth: usize,
    most_depth: usize,
    bodies: BTreeMap<String, Vec<Node>>,
    /// Templates that are called, and where.
    calls: Vec<(String, usize)>,
}

/// What ends a list of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closer {
    End,
    Else,
    /// `{{else if`, with the `if` already past.
    ElseIf,
}

/// A node, or what ends the list it would be in.
enum Item {
    Node(Node),
    Closer(Closer, usize),
}

/// What the parts of a control are called in messages, and what they may have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Control {
    If,
    Range,
    With,
}

type Parsed<T> = Result<T, Problem>;

fn problem<T>(pos: usize, message: impl Into<String>) -> Parsed<T> {
    Err(Problem {
        pos,
        message: message.into(),
    })
}

impl<'a> Parser<'a> {
    fn whole(&mut self, name: &str) -> Parsed<()> {
        let mut nodes = Vec::new();
        while self.peek()?.kind != Kind::Eof {
            if let Some(definition) = self.definition_follows()? {
                self.definition(definition)?;
                continue;
            }
            match self.text_or_action()? {
                Item::Node(node) => nodes.push(node),
                Item::Closer(closer, pos) => {
                    let word = if closer == Closer::End {
                        "{{end}}"
                    } else {
                        "{{else}}"
                    };
                    return problem(
                        pos,
                        format!("unexpected {word}: no {{{{if}}}}, {{{{range}}}} or {{{{with}}}} is open"),
                    );
                }
            }
        }
        self.define(name, nodes, 0)?;
        for (called, pos) in &self.calls {
            if !self.bodies.contains_key(called) {
                let called = quoted(called, SHOWN);
                return problem(
                    *pos,
                    format!("template {called} is not defined: a {{{{define {called}}}}} is missing"),
                );
            }
        }
        Ok(())
    }

    /// Passes `{{define` and gives its position, if that is next.
    fn definition_follows(&mut self) -> Parsed<Option<usize>> {
        let start = self.next;
        let opening = self.take()?;
        if opening.kind == Kind::LeftDelim && self.take_after_space()?.kind == Kind::Keyword(Keyword::Define)
        {
            return Ok(Some(opening.pos));
        }
        self.next = start;
        Ok(None)
    }

    fn definition(&mut self, opening: usize) -> Parsed<()> {
        let name = self.template_name("define")?;
        self.expect_right_delim("define")?;
        let nodes = self.separate_body(opening, "define")?;
        self.define(&name, nodes, opening)
    }

    /// The nodes up to `{{end}}` of a body with variables of its own.
    fn separate_body(&mut self, opening: usize, word: &str) -> Parsed<Vec<Node>> {
        let variables = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let range_depth = std::mem::take(&mut self.range_depth);
        let (nodes, closer, pos) = self.list(opening, word)?;
        if closer != Closer::End {
            return problem(
                pos,
                format!("unexpected {{{{else}}}} in {word}: it has none, only {{{{end}}}}"),
            );
        }
        self.variables = variables;
        self.range_depth = range_depth;
        Ok(nodes)
    }

    /// Adds a body. An empty one gives way to another of the same name.
    fn define(&mut self, name: &str, nodes: Vec<Node>, pos: usize) -> Parsed<()> {
        match self.bodies.get(name) {
            Some(there) if !is_blank(there) => {
                if !is_blank(&nodes) {
                    let name = quoted(name, SHOWN);
                    return problem(
                        pos,
                        format!("multiple definition of template {name}: each needs a name of its own"),
                    );
                }
            }
            _ => {
                self.bodies.insert(name.to_owned(), nodes);
            }
        }
        Ok(())
    }

    /// Nodes up to what closes them; `opening` and `word` say what is open.
    fn list(&mut self, opening: usize, word: &str) -> Parsed<(Vec<Node>, Closer, usize)> {
        self.enter(opening)?;
        let mut nodes = Vec::new();
        while self.peek()?.kind != Kind::Eof {
            match self.text_or_action()? {
                Item::Node(node) => nodes.push(node),
                Item::Closer(closer, pos) => {
                    self.depth -= 1;
                    return Ok((nodes, closer, pos));
                }
            }
        }
        problem(
            opening,
            format!("unexpected end of the text: the {{{{end}}}} of this {{{{{word}}}}} is missing"),
        )
    }

    fn text_or_action(&mut self) -> Parsed<Item> {
        let token = self.take()?;
        match token.kind {
            Kind::Text => Ok(Item::Node(Node::Text(token.text.to_owned()))),
            Kind::LeftDelim => self.action(token.pos),
            _ => unexpected(token, "text"),
        }
    }

    /// An action whose left delimiter, at `opening`, is past.
    fn action(&mut self, opening: usize) -> Parsed<Item> {
        let before = self.next;
        let token = self.take_after_space()?;
        let Kind::Keyword(keyword) = token.kind else {
            self.next = before;
            return Ok(Item::Node(Node::Action(
                self.pipeline("command", Kind::RightDelim)?,
            )));
        };
        let node = match keyword {
            Keyword::End => {
                self.expect_right_delim("end")?;
                return Ok(Item::Closer(Closer::End, opening));
            }
            Keyword::Else => {
                if self.peek_after_space()?.kind == Kind::Keyword(Keyword::If) {
                    self.take_after_space()?;
                    return Ok(Item::Closer(Closer::ElseIf, opening));
                }
                self.expect_right_delim("else")?;
                return Ok(Item::Closer(Closer::Else, opening));
            }
            Keyword::Break | Keyword::Continue => {
                self.expect_right_delim(token.text)?;
                if self.range_depth == 0 {
                    return problem(token.pos, format!("{{{{{}}}}} outside {{{{range}}}}", token.text));
                }
                if keyword == Keyword::Break {
                    Node::Break
                } else {
                    Node::Continue
                }
            }
            Keyword::If => self.control(opening, Control::If)?,
            Keyword::Range => self.control(opening, Control::Range)?,
            Keyword::With => self.control(opening, Control::With)?,
            Keyword::Block => {
                let name = self.template_name("block")?;
                let pipe = self.pipeline("block", Kind::RightDelim)?;
                let nodes = self.separate_body(opening, "block")?;
                self.define(&name, nodes, opening)?;
                let span = Span {
                    start: token.pos,
                    end: pipe.span.end,
                };
                Node::Template {
                    span,
                    name,
                    pipe: Some(pipe),
                }
            }
            Keyword::Template => self.template(token)?,
            Keyword::Define => {
                return problem(
                    token.pos,
                    "unexpected {{define}}: it must stand outside of all other blocks",
                );
            }
            Keyword::Nil => {
                self.next = before;
                Node::Action(self.pipeline("command", Kind::RightDelim)?)
            }
        };
        Ok(Item::Node(node))
    }

    fn template(&mut self, token: Token<'a>) -> Parsed<Node> {
        let name = self.template_name("template")?;
        self.calls.push((name.clone(), token.pos));
        let before = self.next;
        let next = self.take_after_space()?;
        let (pipe, end) = if next.kind == Kind::RightDelim {
            (None, next.pos)
        } else {
            self.next = before;
            let pipe = self.pipeline("template", Kind::RightDelim)?;
            let end = pipe.span.end;
            (Some(pipe), end)
        };
        Ok(Node::Template {
            span: Span {
                start: token.pos,
                end,
            },
            name,
            pipe,
        })
    }

    /// `if`, `range` or `with`, whose keyword is past.
    fn control(&mut self, opening: usize, control: Control) -> Parsed<Node> {
        let word = match control {
            Control::If => "if",
            Control::Range => "range",
            Control::With => "with",
        };
        let scope = self.variables.len();
        let pipe = self.pipeline(word, Kind::RightDelim)?;
        let in_range = usize::from(control == Control::Range);
        self.range_depth += in_range;
        let (body, mut closer, mut pos) = self.list(opening, word)?;
        self.range_depth -= in_range;
        let mut branches = vec![(pipe, body)];
        while closer == Closer::ElseIf {
            if control != Control::If {
                return problem(
                    pos,
                    format!(
                        "{{{{else if}}}} belongs to {{{{if}}}}; in {{{{{word}}}}}, put an {{{{if}}}} into the {{{{else}}}}"
                    ),
                );
            }
            let pipe = self.pipeline(word, Kind::RightDelim)?;
            let list = self.list(opening, word)?;
            branches.push((pipe, list.0));
            (closer, pos) = (list.1, list.2);
        }
        let mut otherwise = None;
        if closer == Closer::Else {
            let list = self.list(opening, word)?;
            if list.1 != Closer::End {
                return problem(list.2, "expected {{end}}: there is an {{else}} already");
            }
            otherwise = Some(list.0);
        }
        self.variables.truncate(scope);
        if control == Control::If {
            return Ok(Node::If { branches, otherwise });
        }
        // There is exactly one branch.
        let (pipe, body) = branches.swap_remove(0);
        Ok(match control {
            Control::Range => Node::Range {
                pipe,
                body,
                otherwise,
            },
            _ => Node::With {
                pipe,
                body,
                otherwise,
            },
        })
    }

    fn template_name(&mut self, context: &str) -> Parsed<String> {
        let token = self.take_after_space()?;
        if !matches!(token.kind, Kind::String | Kind::RawString) {
            let Err(found) = unexpected::<()>(token, context) else {
                return Ok(String::new());
            };
            return problem(
                token.pos,
                format!("{}: its name in quotes is missing", found.message),
            );
        }
        let bytes = literal::unquote(token.text).map_err(|message| Problem {
            pos: token.pos,
            message,
        })?;
        match String::from_utf8(bytes) {
            Ok(name) => Ok(name),
            Err(_) => problem(token.pos, "the name of a template must be UTF-8"),
        }
    }

    fn expect_right_delim(&mut self, context: &str) -> Parsed<()> {
        let token = self.take_after_space()?;
        if token.kind != Kind::RightDelim {
            return unexpected(token, &format!("{{{{{context}}}}}, where \"}}}}\" should be"));
        }
        Ok(())
    }

    fn enter(&mut self, pos: usize) -> Parsed<()> {
        if self.depth == self.most_depth {
            return problem(
                pos,
                format!(
                    "blocks and parentheses are nested more than {} deep",
                    self.most_depth
                ),
            );
        }
        self.depth += 1;
        Ok(())
    }

    fn peek(&mut self) -> Parsed<Token<'a>> {
        match self.tokens.get(self.next) {
            Some(token) => Ok(*token),
            None => match self.lex_problem.take() {
                Some(problem) => Err(problem),
                // Nothing is behind the end of the text but more of it.
                None => Ok(Token {
                    kind: Kind::Eof,
                    pos: self.source_end,
                    text: "",
                }),
            },
        }
    }

    fn take(&mut self) -> Parsed<Token<'a>> {
        let token = self.peek()?;
        self.next += 1;
        Ok(token)
    }

    fn take_after_space(&mut self) -> Parsed<Token<'a>> {
        let mut token = self.take()?;
        if token.kind == Kind::Space {
            token = self.take()?;
        }
        Ok(token)
    }

    /// What comes after spaces, which are passed.
    fn peek_after_space(&mut self) -> Parsed<Token<'a>> {
        let token = self.take_after_space()?;
        self.next -= 1;
        Ok(token)
    }
}

fn unexpected<T>(token: Token<'_>, context: &str) -> Parsed<T> {
    let found = match token.kind {
        Kind::Eof => "end of the text".to_owned(),
        _ => quoted(token.text, SHOWN),
    };
    problem(token.pos, format!("unexpected {found} in {context}"))
}

/// Whether a body has nothing but white space.
fn is_blank(nodes: &[Node]) -> bool {
    nodes
        .iter()
        .all(|node| matches!(node, Node::Text(text) if text.trim().is_empty()))
}
