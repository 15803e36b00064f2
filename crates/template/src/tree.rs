//! The tree that the parser makes and the execution walks. Positions are bytes of the source, for messages.

use crate::value::Text;

/// A part of a body.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    /// Text to copy.
    Text(String),
    /// A pipeline whose result is printed unless it sets variables.
    Action(Pipe),
    /// `if` with its `else if`s: the first branch with a true pipeline is executed.
    If {
        branches: Vec<(Pipe, Vec<Node>)>,
        otherwise: Option<Vec<Node>>,
    },
    /// `with`.
    With {
        pipe: Pipe,
        body: Vec<Node>,
        otherwise: Option<Vec<Node>>,
    },
    /// `range`.
    Range {
        pipe: Pipe,
        body: Vec<Node>,
        otherwise: Option<Vec<Node>>,
    },
    /// `template`, and the call that `block` makes.
    Template {
        span: Span,
        name: String,
        pipe: Option<Pipe>,
    },
    /// `break`.
    Break,
    /// `continue`.
    Continue,
}

/// Where something stands in the source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// `$a, $b := command | command`.
#[derive(Debug, Clone)]
pub(crate) struct Pipe {
    pub(crate) span: Span,
    /// The variables that are set.
    pub(crate) variables: Vec<String>,
    /// `=` and not `:=`.
    pub(crate) assigns: bool,
    pub(crate) commands: Vec<Command>,
}

/// Operands with spaces between them; at least one.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    pub(crate) operands: Vec<Operand>,
}

/// One word of a command.
#[derive(Debug, Clone)]
pub(crate) struct Operand {
    pub(crate) span: Span,
    pub(crate) kind: OperandKind,
}

/// What a word is.
#[derive(Debug, Clone)]
pub(crate) enum OperandKind {
    /// `.`
    Dot,
    /// `nil`
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// An integer that only an unsigned type could hold: an error where it is used, as in Go.
    TooLarge,
    Str(Text),
    /// `.A.B`
    Field(Vec<String>),
    /// `$`, `$x`, `$x.A.B`; the name is with the `$`.
    Variable(String, Vec<String>),
    Function(Function),
    /// `(...)`
    Pipe(Box<Pipe>),
    /// `(...).A.B`
    Chain(Box<Operand>, Vec<String>),
}

/// The functions there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    And,
    Eq,
    Ge,
    Gt,
    Html,
    Index,
    Js,
    Le,
    Len,
    Lt,
    Ne,
    Not,
    Or,
    Print,
    Printf,
    Println,
    Slice,
    UrlQuery,
}

impl Function {
    /// All, by name.
    pub(crate) const ALL: [(&'static str, Self); 18] = [
        ("and", Self::And),
        ("eq", Self::Eq),
        ("ge", Self::Ge),
        ("gt", Self::Gt),
        ("html", Self::Html),
        ("index", Self::Index),
        ("js", Self::Js),
        ("le", Self::Le),
        ("len", Self::Len),
        ("lt", Self::Lt),
        ("ne", Self::Ne),
        ("not", Self::Not),
        ("or", Self::Or),
        ("print", Self::Print),
        ("printf", Self::Printf),
        ("println", Self::Println),
        ("slice", Self::Slice),
        ("urlquery", Self::UrlQuery),
    ];

    /// The function called `name`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(candidate, _)| *candidate == name)
            .map(|(_, function)| *function)
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, function)| *function == self)
            .map_or("", |(name, _)| name)
    }

    /// Fewest and, if limited, most arguments.
    pub(crate) fn arity(self) -> (usize, Option<usize>) {
        match self {
            Self::And | Self::Or | Self::Eq | Self::Index | Self::Slice | Self::Printf => (1, None),
            Self::Ge | Self::Gt | Self::Le | Self::Lt | Self::Ne => (2, Some(2)),
            Self::Len | Self::Not => (1, Some(1)),
            Self::Html | Self::Js | Self::Print | Self::Println | Self::UrlQuery => (0, None),
        }
    }
}
